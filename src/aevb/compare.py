"""Every combination, paired by seed, side by side."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from .config import Config
from .inference.history import Row
from .runs import Result

AXES = ("estimator", "prior", "guide", "likelihood", "latents")
"""What a comparison varies, beside the seed."""

RANKED = ("train_elbo", "test_elbo", "test_log_evidence")
"""The figures whose paired differences are reported."""


def combinations(base: Config, axes: dict[str, list[Any]], seeds: int) -> list[Config]:
    """The grid of all values of all axes, each with every seed; seeds vary slowest, so that early results are pairs."""
    values = [axes[axis] for axis in AXES]
    return [
        replace(base, seed=base.seed + seed, **dict(zip(AXES, point, strict=True)))
        for seed in range(seeds)
        for point in itertools.product(*values)
    ]


def run_name(config: Config) -> str:
    """The name of a run's folder."""
    parts = [str(getattr(config, axis)) for axis in AXES]
    return re.sub(r"[^\w.-]", "_", "-".join([*parts, f"seed{config.seed}"]))


@dataclass(frozen=True)
class Summary:
    """One combination over its seeds: mean and standard error of each figure (None with one seed)."""

    key: tuple[Any, ...]
    label: str
    results: list[Result]

    @property
    def seeds(self) -> set[int]:
        return {row["seed"] for row in self.results}

    def mean(self, figure: str) -> float:
        return float(np.mean([row[figure] for row in self.results]))

    def standard_error(self, figure: str) -> float | None:
        return _standard_error([row[figure] for row in self.results])


@dataclass(frozen=True)
class Difference:
    """A figure of one combination minus that of another, paired by seed: the mean and its standard error."""

    label: str
    figure: str
    mean: float
    standard_error: float | None
    seeds: int

    @property
    def verdict(self) -> str:
        """Whether the difference can be told from 0, by a t interval of 95 % over the seeds."""
        if self.standard_error is None:
            return "one seed: not known"
        reach = float(stats.t.ppf(0.975, self.seeds - 1)) * self.standard_error
        if abs(self.mean) <= reach:
            return "not distinguishable from 0"
        return f"{'above' if self.mean > 0 else 'below'} 0"


def summaries(results: Iterable[Result]) -> list[Summary]:
    """Group results by combination, in the order of the grid, each labelled by what varies."""
    results = list(results)
    varying = [axis for axis in AXES if len({row[axis] for row in results}) > 1] or ["estimator"]
    groups: dict[tuple[Any, ...], list[Result]] = {}
    for row in results:
        groups.setdefault(tuple(row[axis] for axis in AXES), []).append(row)
    return [Summary(key, " ".join(_value(axis, rows[0]) for axis in varying), rows) for key, rows in groups.items()]


def pairings(groups: list[Summary]) -> Iterator[tuple[str, Summary, Summary]]:
    """Each combination with the one that differs in a single axis, where it has that axis's first value; labelled.

    Without a seed that both have there is nothing to pair.
    Likelihoods are never compared: nats under different likelihoods are of different densities.
    """
    by_key = {group.key: group for group in groups}
    for position, axis in enumerate(AXES):
        if axis == "likelihood":
            continue
        first = groups[0].key[position]
        for group in groups:
            base = by_key.get((*group.key[:position], first, *group.key[position + 1 :]))
            if group.key[position] != first and base and group.seeds & base.seeds:
                own, other = _value(axis, group.results[0]), _value(axis, base.results[0])
                rest = " ".join(word for word in group.label.split(" ") if word != own)
                yield f"{own} - {other}" + (f" ({rest})" if rest else ""), group, base


def differences(groups: list[Summary]) -> list[Difference]:
    """The paired differences of all pairings, in each figure of :data:`RANKED`."""
    return [difference(label, group, base, figure) for label, group, base in pairings(groups) for figure in RANKED]


def difference(label: str, group: Summary, base: Summary, figure: str) -> Difference:
    """A figure of one combination minus that of another, over the seeds that both have."""
    other = {row["seed"]: row[figure] for row in base.results}
    paired = [row[figure] - other[row["seed"]] for row in group.results if row["seed"] in other]
    return Difference(label, figure, float(np.mean(paired)), _standard_error(paired), len(paired))


def _value(axis: str, row: Result) -> str:
    """What a label calls a value: an estimator by its number of samples too, where it is not 1."""
    if axis == "latents":
        return f"N_z={row[axis]}"
    name = str(row[axis])
    if axis == "estimator" and row["samples"] != 1 and "samples=" not in name:
        name += f"{',' if ':' in name else ':'}samples={row['samples']}"
    return name


def _standard_error(values: list[float]) -> float | None:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None


Spread = tuple[float, float | None]
"""A mean and its standard error, None with one seed."""


@dataclass(frozen=True)
class AfterSeconds:
    """A combination once each run had trained for so many seconds: means and standard errors over seeds, or None.

    ``elbo_gain`` and ``evidence_gain`` are the differences from the first combination, paired by seed.
    """

    label: str
    test_elbo: Spread | None
    test_log_evidence: Spread | None
    elbo_gain: Spread | None
    evidence_gain: Spread | None


def after_equal_seconds(
    curves: dict[str, list[list[Row]]], evidences: dict[str, list[list[Row]]]
) -> tuple[float, list[AfterSeconds]]:
    """The seconds of the quickest run, and what each combination had reached by then.

    Args:
        curves: for each label the histories of its seeds.
        evidences: the same, with ``test_log_evidence`` at the kept epochs and the last; may lack a label.

    Between two epochs the bound is interpolated linearly in the logarithm of the seconds. log p(x) is measured at few
    epochs: what is interpolated, or carried on by a factor of at most two, is how far it lies above the bound.
    """
    seconds = min(rows[-1]["seconds"] for seeds in curves.values() for rows in seeds)
    bounds = {label: [_at(rows, seconds, "test_elbo") for rows in seeds] for label, seeds in curves.items()}
    evidence = {
        label: [b + _above(rows, seconds) for b, rows in zip(bounds[label], evidences.get(label, []), strict=False)]
        for label in curves
    }
    first = next(iter(curves))
    return seconds, [
        AfterSeconds(
            label,
            _spread(bounds[label]),
            _spread(evidence[label]),
            _spread(_differences(bounds[label], bounds[first])) if label != first else None,
            _spread(_differences(evidence[label], evidence[first])) if label != first else None,
        )
        for label in curves
    ]


def _at(rows: list[Row], seconds: float, column: str) -> float:
    """A column at a time between its first and its last; NaN outside."""
    times = [row["seconds"] for row in rows]
    if not times[0] <= seconds <= times[-1]:
        return math.nan
    return float(np.interp(math.log(seconds), np.log(times), [row[column] for row in rows]))


def _above(rows: list[Row], seconds: float) -> float:
    """How far log p(x) lies above the bound; NaN where no measurement is within a factor of two."""
    times = np.array([row["seconds"] for row in rows])
    if np.abs(np.log(times / seconds)).min() > math.log(2):
        return math.nan
    gaps = [row["test_log_evidence"] - row["test_elbo"] for row in rows]
    return float(np.interp(math.log(seconds), np.log(times), gaps))


def _differences(values: list[float], base: list[float]) -> list[float]:
    return [a - b for a, b in zip(values, base, strict=False)]


def _spread(values: list[float]) -> Spread | None:
    if not values or any(map(math.isnan, values)):
        return None
    return float(np.mean(values)), _standard_error(values)


def last_tenth(curves: list[Row]) -> float:
    """How much the test bound rose over the last tenth of a run, in nats: its mean over the last twentieth of the
    epochs minus that over the twentieth before the last tenth."""
    values = [row["test_elbo"] for row in curves]
    width, tenth = max(1, len(values) // 20), max(1, len(values) // 10)
    if len(values) < 2 * width + tenth:
        return math.nan
    return float(np.mean(values[-width:]) - np.mean(values[-tenth - width : -tenth]))
