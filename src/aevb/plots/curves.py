"""Bounds over training."""

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..inference.history import Row
from .style import STYLE, legend_below, legend_rows, line, plain

Curves = dict[str, list[list[Row]]]
"""For each combination's label, the histories of its seeds."""


def learning_curves(densities: dict[str, Curves], against: str) -> Figure:
    """Train and test ELBO (mean, and from least to greatest over seeds) against ``images`` or ``seconds``.

    Nats of different densities (likelihood and binarisation) have a row of axes each.
    """
    with mpl.rc_context(STYLE):
        heights = [3.4 + 0.2 * legend_rows(curves) for curves in densities.values()]
        figure = Figure(figsize=(9, sum(heights)))
        rows = figure.subfigures(len(densities), 1, squeeze=False, height_ratios=heights)[:, 0]
        for row, (density, curves) in zip(rows, densities.items(), strict=True):
            axes = row.subplots(1, 2)
            for column, axis in zip(("train_elbo", "test_elbo"), axes, strict=True):
                for number, (label, seeds) in enumerate(curves.items()):
                    _curve(axis, seeds, against, column, line(number) | {"label": label})
                plain(axis.xaxis)
                title = f"{column.removesuffix('_elbo')} ELBO"
                axis.set_title(title if len(densities) == 1 else f"{title}, {density}", loc="left")
                axis.set_xlabel({"images": "training images seen", "seconds": "seconds of training"}[against])
                axis.set_ylim(*_limits(curves))
            axes[0].set_ylabel("nats per datum")
            legend_below(row, axes[0])
    return figure


def _curve(axis: Axes, seeds: list[list[Row]], against: str, column: str, style: dict[str, Any]) -> None:
    epochs = min(len(rows) for rows in seeds)
    x = np.mean([[row[against] for row in rows[:epochs]] for rows in seeds], 0)
    y = np.array([[row[column] for row in rows[:epochs]] for rows in seeds])
    axis.plot(x, y.mean(0), linewidth=1.6, **style)
    axis.fill_between(x, y.min(0), y.max(0), color=style["color"], alpha=0.2, linewidth=0)
    axis.set_xscale("log")


def _limits(curves: Curves) -> tuple[float, float]:
    """All but the first steep rise."""
    values = np.concatenate([[row["test_elbo"] for row in rows] for seeds in curves.values() for rows in seeds])
    low, high = np.quantile(values, [0.02, 1.0])
    margin = max(0.1 * (high - low), 0.01)
    return low - margin, high + 1.5 * margin


def difference_curves(pairs: dict[str, tuple[list[list[Row]], list[list[Row]]]]) -> Figure:
    """Test ELBO of one combination minus that of another, paired by seed, with its standard error, over training."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.1 + 0.2 * legend_rows(pairs)))
        axis = figure.subplots()
        axis.axhline(0, color="black", linewidth=0.8)
        for number, (label, (seeds, base)) in enumerate(pairs.items()):
            epochs = min(len(rows) for rows in (*seeds, *base))
            x = [row["images"] for row in seeds[0][:epochs]]
            ours, theirs = (
                np.array([[row["test_elbo"] for row in rows[:epochs]] for rows in r]) for r in (seeds, base)
            )
            mean = (ours - theirs).mean(0)
            axis.plot(x, mean, label=label, linewidth=1.6, **line(number))
            if len(seeds) > 1:
                error = (ours - theirs).std(0, ddof=1) / math.sqrt(len(seeds))
                axis.fill_between(x, mean - error, mean + error, color=line(number)["color"], alpha=0.2, linewidth=0)
        axis.set_xscale("log")
        plain(axis.xaxis)
        axis.set_xlabel("training images seen")
        axis.set_ylabel("difference, nats per datum")
        legend_below(figure, axis)
    return figure
