"""Bounds over training."""

import math

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..inference.history import Row
from .style import COLOURS, DASHES, STYLE

Curves = dict[str, list[list[Row]]]
"""For each combination's label, the histories of its seeds."""


def learning_curves(curves: Curves, against: str) -> Figure:
    """Train and test ELBO (mean, and from least to greatest over seeds) against ``images`` or ``seconds``."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6))
        axes = figure.subplots(1, 2, sharey=True)
        for column, axis in zip(("train_elbo", "test_elbo"), axes, strict=True):
            for number, (label, seeds) in enumerate(curves.items()):
                epochs = min(len(rows) for rows in seeds)
                x = np.mean([[row[against] for row in rows[:epochs]] for rows in seeds], 0)
                y = np.array([[row[column] for row in rows[:epochs]] for rows in seeds])
                colour, dash = COLOURS[number % len(COLOURS)], DASHES[number % len(DASHES)]
                axis.plot(x, y.mean(0), dash, color=colour, label=label, linewidth=1.6)
                axis.fill_between(x, y.min(0), y.max(0), color=colour, alpha=0.2, linewidth=0)
            axis.set_title(f"{column.removesuffix('_elbo')} ELBO", loc="left")
            axis.set_xscale("log")
            axis.set_xlabel({"images": "training images seen", "seconds": "seconds of training"}[against])
        axes[0].set_ylabel("nats per datum")
        everything = np.concatenate([[row["test_elbo"] for row in rows] for seeds in curves.values() for rows in seeds])
        low, high = np.quantile(everything, [0.02, 1.0])
        margin = max(0.1 * (high - low), 0.01)
        axes[0].set_ylim(low - margin, high + 1.5 * margin)
        axes[1].legend(loc="lower right")
    return figure


def difference_curves(pairs: dict[str, tuple[list[list[Row]], list[list[Row]]]]) -> Figure:
    """Test ELBO of one combination minus that of another, paired by seed, with its standard error, over training."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.2))
        axis = figure.subplots()
        axis.axhline(0, color="black", linewidth=0.8)
        for number, (label, (seeds, base)) in enumerate(pairs.items()):
            epochs = min(len(rows) for rows in (*seeds, *base))
            x = [row["images"] for row in seeds[0][:epochs]]
            ours, theirs = (
                np.array([[row["test_elbo"] for row in rows[:epochs]] for rows in r]) for r in (seeds, base)
            )
            mean = (ours - theirs).mean(0)
            colour = COLOURS[number % len(COLOURS)]
            axis.plot(x, mean, DASHES[number % len(DASHES)], color=colour, label=label, linewidth=1.6)
            if len(seeds) > 1:
                error = (ours - theirs).std(0, ddof=1) / math.sqrt(len(seeds))
                axis.fill_between(x, mean - error, mean + error, color=colour, alpha=0.2, linewidth=0)
        axis.set_xscale("log")
        axis.set_xlabel("training images seen")
        axis.set_ylabel("difference, nats per datum")
        axis.legend(loc="best")
    return figure
