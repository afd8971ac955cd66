"""The tables of estimators.md: every estimator after equal images, and after equal seconds on one clock.

    python results/estimators.py runs/estimators-mnist

Runs that were trained side by side share a busy machine, so their own seconds compare badly. Here a step of each
estimator is timed anew, the estimators taking turns, and every run's clock is its steps times that.
"""

import json
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from aevb.build import make_estimator, make_pair
from aevb.checkpoints import read_config
from aevb.compare import after_equal_seconds
from aevb.config import Config
from aevb.files import read_metrics
from aevb.inference import Training
from aevb.inference.history import Row
from aevb.runs import cached_data

ROUNDS, STEPS = 8, 20
FIGURES = ("test_elbo", "test_log_evidence")


def step_times(configs: dict[str, Config]) -> dict[str, float]:
    """Median milliseconds of a training step, optimizer included, over rounds in which the estimators take turns."""
    runs = {}
    for name, config in configs.items():
        data = cached_data(config)
        runs[name] = Training(
            *make_pair(config, data.shape, data.train),
            data.train,
            estimator=make_estimator(config),
            epochs=1,
            batch_size=config.batch_size,
            samples=None,
            beta=None,
            optimizer=config.optimizer,
            learning_rate=None,
            schedule="constant",
            weight_decay=0.0,
            validation=None,
            patience=None,
            test=None,
            evaluation_samples=1,
            seed=0,
            device="cpu",
            engine="fast",
        )
    taken = defaultdict(list)
    for turn in range(ROUNDS):
        for name, training in runs.items():
            minibatches = torch.randperm(len(training.data)).split(training.batch_size)[:STEPS]
            with training._own_world():
                started = time.perf_counter()
                for number, indices in enumerate(minibatches, turn * STEPS):
                    training.loop.step(number, training.data[indices])
                taken[name].append((time.perf_counter() - started) / STEPS)
    return {name: 1000 * median(times[1:]) for name, times in taken.items()}  # in the first turn steps are traced


def spread(values: list[float]) -> str:
    """Mean and standard error, where there are several."""
    error = f" ± {np.std(values, ddof=1) / len(values) ** 0.5:.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{error}"


def _end(run: Path) -> Row:
    """The last epoch alone, where log p(x) was not measured on the way."""
    return read_metrics(run)[-1] | {column: _result(run)[column] for column in FIGURES}


def _result(run: Path) -> dict[str, Any]:
    """What was measured at the end; the test bound by more draws of z than in the records of training."""
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    return result


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    runs: dict[str, list[Path]] = defaultdict(list)
    for result in sorted(folder.glob("runs/*/result.json")):
        runs[read_config(result.parent).estimator].append(result.parent)
    configs = {name: replace(read_config(folders[0]), keep_epochs=()) for name, folders in runs.items()}
    times = step_times(configs)

    def clocked(name: str, table: str) -> list[list[Row]]:
        """The tables of a combination's seeds, with seconds as steps of the time measured here."""
        steps = -(-len(cached_data(configs[name]).train) // configs[name].batch_size)
        tables = (read_metrics(run, table) if (run / table).exists() else [_end(run)] for run in runs[name])
        return [[row | {"seconds": row["epoch"] * steps * times[name] / 1000} for row in rows] for rows in tables]

    curves = {name: clocked(name, "metrics.csv") for name in runs}
    evidences = {name: clocked(name, "evidence.csv") for name in runs}
    seconds, race = after_equal_seconds(curves, evidences)
    last = {name: {c: [_result(run)[c] for run in folders] for c in FIGURES} for name, folders in runs.items()}
    lines = [
        f"The quickest took {seconds:.0f} s.",
        "",
        "| | seeds | ms a step | ELBO | log p(x) | ELBO - L_A | log p(x) - L_A | ELBO, equal s | log p(x), equal s |",
        "|---" * 9 + "|",
    ]
    for then in race:
        own, base = last[then.label], last["L_A"]
        paired = [[a - b for a, b in zip(own[c], base[c], strict=False)] for c in FIGURES]
        equal = (then.test_elbo, then.test_log_evidence)
        cells = [
            then.label,
            str(len(runs[then.label])),
            f"{times[then.label]:.1f}",
            *(spread(own[c]) for c in FIGURES),
            *(spread(differences) if then.label != "L_A" else "" for differences in paired),
            *(
                "not measured" if v is None else f"{v[0]:.2f}" + ("" if v[1] is None else f" ± {v[1]:.2f}")
                for v in equal
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
