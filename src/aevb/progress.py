"""What is said while one waits: bars on a terminal, a line now and then into a pipe."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .inference.history import Row

Say = Callable[[Row], None]


class Reporter:
    """Progress of some runs, on standard error.

    Args:
        runs: how many there will be.
    """

    def __init__(self, runs: int) -> None:
        self.runs, self.done = runs, 0
        self.console = Console(stderr=True)
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

    @contextmanager
    def run(self, name: str, epochs: int) -> Iterator[Say]:
        """Report one run; the block calls what it is given with each row of the history."""
        task = self.bars.add_task(name, total=epochs, note="")
        say = self._bar(task) if self.console.is_terminal else self._lines(name, epochs)
        yield say
        self.bars.remove_task(task)
        self.bars.advance(self.total)
        self.done += 1

    def _bar(self, task: int) -> Say:
        def say(row: Row) -> None:
            self.bars.update(task, completed=row["epoch"], note=describe(row))  # type: ignore[arg-type]

        return say

    def _lines(self, name: str, epochs: int) -> Say:
        started = last = time.monotonic()

        def say(row: Row) -> None:
            nonlocal last
            now = time.monotonic()
            if row["epoch"] == epochs or now - last > 10:
                last = now
                count = f"run {self.done + 1}/{self.runs}, " if self.runs > 1 else ""
                line = f"{count}{name}: epoch {row['epoch']}/{epochs}, {now - started:.0f} s, {describe(row)}"
                self.console.print(line, soft_wrap=True, highlight=False)

        return say


def describe(row: Row) -> str:
    """Images a second and the current bounds."""
    speed = row["images"] / row["seconds"] if row["seconds"] else 0.0
    return f"{speed:,.0f} images/s, ELBO train {row['train_elbo']:.2f} test {row['test_elbo']:.2f}"
