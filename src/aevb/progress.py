"""What is said while one waits: bars on a terminal, a line now and then into a pipe."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .inference.history import Row


class Reporter:
    """Progress of some runs, on standard error.

    Args:
        runs: how many there will be.
    """

    def __init__(self, runs: int) -> None:
        self.runs, self.done = runs, 0
        self.console = Console(stderr=True)
        self.started = time.monotonic()
        self.spoken: dict[str, float] = {}
        self.tasks: dict[str, TaskID] = {}
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> "Reporter":
        self.bars.start()
        self.total = self.bars.add_task("runs", total=self.runs, note="", visible=self.runs > 1)
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def epoch(self, name: str, epochs: int, row: Row) -> None:
        """An epoch of a run is done."""
        if self.console.is_terminal:
            if name not in self.tasks:
                self.tasks[name] = self.bars.add_task(name, total=epochs, note="")
            self.bars.update(self.tasks[name], completed=row["epoch"], note=describe(row))
            return
        now = time.monotonic()
        if row["epoch"] == epochs or now - self.spoken.get(name, self.started) > 10:
            self.spoken[name] = now
            line = f"{name}: epoch {row['epoch']:.0f}/{epochs}, {now - self.started:.0f} s, {describe(row)}"
            self.console.print(line, soft_wrap=True, highlight=False, markup=False)

    def finish(self, name: str, failure: str | None = None) -> None:
        """A run has ended."""
        self.done += 1
        if name in self.tasks:
            self.bars.remove_task(self.tasks.pop(name))
        self.bars.advance(self.total)
        if failure:
            self.console.print(f"{name} failed: {failure}", soft_wrap=True, highlight=False, markup=False, style="bold")


def describe(row: Row) -> str:
    """Images a second and the current bounds."""
    speed = row["images"] / row["seconds"] if row["seconds"] else 0.0
    return f"{speed:,.0f} images/s, ELBO train {row['train_elbo']:.2f} test {row['test_elbo']:.2f}"


Say = Callable[[str], None]
"""Tells what is done now."""


def silent(text: str) -> None:
    """Says nothing."""


@contextmanager
def activity() -> Iterator[Say]:
    """What is done now, on standard error: one line that lives on a terminal, a line each elsewhere.

    >>> with activity() as say:
    ...     say("log p(x) by 5,000 samples")
    """
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:

        def say(text: str) -> None:
            if console.is_terminal:
                status.update(escape(text))
            else:
                console.print(text, soft_wrap=True, markup=False)

        yield say
