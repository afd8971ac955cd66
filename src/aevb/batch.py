"""Many runs: one after the other or side by side, with the same results."""

import json
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from multiprocessing import Manager
from pathlib import Path
from queue import Queue
from typing import Any

from joblib import Parallel, delayed, parallel_config

from .checkpoints import read_config
from .compare import AXES, run_name
from .config import Config
from .files import atomic, read_metrics, write_json, write_table
from .inference import DivergenceError
from .inference.history import Row
from .models import InputError
from .progress import Reporter
from .runs import RESULT_COLUMNS, Result, Run, cached_data

PLAN = "plan.json"
"""In a comparison's folder: its runs in order, begun or not, each by what varies."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run: its result, or why there is none; neither, where it was interrupted."""

    config: Config
    folder: Path
    result: Result | None = None
    failure: str | None = None


def run_all(configs: list[Config], out: Path, workers: int, reporter: Reporter) -> list[Outcome]:
    """Train all, as many at a time as there are workers, each on its configured threads.

    Finished runs are not repeated, interrupted ones go on from their last checkpoint, and one that fails does not stop
    the others. ``results.csv`` and ``curves.csv`` hold what is finished, at any time, in the order of ``configs``.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once every run has kept its last good state.
    """
    outcomes: dict[str, Outcome] = {}
    out = out.resolve()  # workers keep the folder that they were started in

    def folder(config: Config) -> Path:
        return out / "runs" / run_name(config)

    for config in configs:
        if result := finished(config, folder(config)):
            outcomes[run_name(config)] = Outcome(config, folder(config), result)
            reporter.finish(run_name(config))
    _write([outcomes[name] for name in map(run_name, configs) if name in outcomes], out)
    left = [config for config in configs if run_name(config) not in outcomes]
    with _listening(reporter, workers) as (say, stopped):
        tasks = (delayed(_train)(config, folder(config), say, stopped) for config in left)
        with parallel_config(backend="loky", n_jobs=workers, inner_max_num_threads=configs[0].threads or 1):
            for outcome in Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=workers)(tasks):
                outcomes[outcome.folder.name] = outcome
                reporter.finish(outcome.folder.name, outcome.failure)
                _write([outcomes[name] for name in map(run_name, configs) if name in outcomes], out)
        if stopped():
            raise KeyboardInterrupt
    return [outcomes[run_name(config)] for config in configs]


def planned(out: Path, parts: str | None) -> list[Config]:
    """The runs of a comparison's folder, in order; where it has no plan, those that have begun.

    Raises:
        InputError: it is no comparison's; or there is a plan, but it is damaged, or no run of it has begun, so that its
            settings are not known.
    """
    begun = [read_config(path.parent, parts) for path in (out / "runs").glob("*/config.yaml")]
    if not begun and not (out / PLAN).exists():
        raise InputError(f"{out} is not the folder of a comparison: it has no runs. Leave out --resume to start one.")
    if not (out / PLAN).exists():
        return sorted(begun, key=lambda config: (config.seed, run_name(config)))
    if not begun:
        raise InputError(f"No run of {out} has begun: there is nothing to go on with. Start again in a new folder.")
    try:
        return [replace(begun[0], **run) for run in json.loads((out / PLAN).read_text())["runs"]]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{out / PLAN} is damaged. Remove it to go on with the runs that have begun.") from error


def write_plan(configs: list[Config], out: Path) -> None:
    """Write what :func:`planned` reads."""
    out.mkdir(parents=True, exist_ok=True)
    with atomic(out / PLAN) as part:
        write_json(part, {"runs": [_varied(config) for config in configs]})


def _varied(config: Config) -> dict[str, Any]:
    return {axis: getattr(config, axis) for axis in (*AXES, "seed")}


def finished(config: Config, folder: Path) -> Result | None:
    """The result of a run that is done already.

    Raises:
        InputError: the folder holds a run of another configuration.
    """
    if not (folder / "config.yaml").exists():
        return None
    before = read_config(folder, config.parts)
    for field in fields(Config):
        old, new = getattr(before, field.name), getattr(config, field.name)
        if old != new and field.name not in ("device", "threads", "tensorboard"):
            flag = f"--{field.name.replace('_', '-')}"
            why = (
                "The learning rate's schedule is over all of them: more are another run. " if flag == "--epochs" else ""
            )
            raise InputError(
                f"{folder} was started with {flag} {_typed(old)}, not {_typed(new)}. {why}"
                f"Leave out {flag} to go on with what it was started with, or name a new folder."
            )
    path = folder / "result.json"
    return json.loads(path.read_text()) if path.exists() else None


def _typed(value: Any) -> str:
    """The value of an option as it is typed: ``200 100`` for two layers."""
    return (
        " ".join(map(str, value if isinstance(value, tuple) else [value])) if value not in (None, ()) else "(nothing)"
    )


def _train(config: Config, folder: Path, say: "_Say", stopped: Callable[[], bool]) -> Outcome:
    if threading.current_thread() is threading.main_thread() and isinstance(say, _Put):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # in a worker: the first process tells when to stop
    if stopped():
        return Outcome(config, folder)

    def on_epoch(row: Row) -> None:
        say(folder.name, config.epochs, row)
        if stopped():
            raise KeyboardInterrupt

    try:
        result = finished(config, folder)
        if result is None:
            result = Run(config, cached_data(config)).train(folder, on_epoch, resume=True)
        return Outcome(config, folder, result)
    except KeyboardInterrupt:
        return Outcome(config, folder)
    except (InputError, DivergenceError) as error:
        return Outcome(config, folder, failure=" ".join(str(error).split()))
    except Exception:
        return Outcome(config, folder, failure=traceback.format_exc())


def _write(outcomes: list[Outcome], out: Path) -> None:
    done = [outcome for outcome in outcomes if outcome.result]
    if not done:
        return
    rows = [dict.fromkeys(RESULT_COLUMNS) | (o.result or {}) for o in done]
    for row in rows:
        del row["kl_per_latent"], row["how"]
    write_table(out / "results.csv", rows)
    keys = [_varied(o.config) for o in done]
    write_table(
        out / "curves.csv", [key | row for key, o in zip(keys, done, strict=True) for row in read_metrics(o.folder)]
    )


_Say = Callable[[str, int, Row], None]


@dataclass(frozen=True)
class _Put:
    """Says into a queue that another process reads."""

    queue: Any

    def __call__(self, name: str, epochs: int, row: Row) -> None:
        self.queue.put((name, epochs, row))


@contextmanager
def _listening(reporter: Reporter, workers: int) -> Iterator[tuple[_Say, Callable[[], bool]]]:
    """How runs speak to the reporter, and learn that they are to stop: at Ctrl-C, after the epoch that they are in."""
    if workers == 1:
        stop = threading.Event()
        with _on_interrupt(stop.set):
            yield reporter.epoch, stop.is_set
        return
    with Manager() as manager:
        queue: Queue[Any] = manager.Queue()
        event = manager.Event()
        listener = threading.Thread(target=_report, args=(queue, reporter))
        listener.start()
        try:
            with _on_interrupt(event.set):
                yield _Put(queue), event.is_set
        finally:
            queue.put(None)
            listener.join()


def _report(queue: "Queue[Any]", reporter: Reporter) -> None:
    for said in iter(queue.get, None):
        reporter.epoch(*said)


@contextmanager
def _on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C acts; the second is an ordinary one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        act()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
