"""One style for all pictures: legible in print and without colour vision."""

import math
from collections.abc import Collection
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, told apart without colour vision; lines differ in dashes too."""
DASHES = ("-", "--", "-.", ":")


def line(number: int) -> dict[str, Any]:
    """Colour and dash of the n-th line; the first eight differ in both."""
    return {"color": COLOURS[number % 8], "linestyle": DASHES[(number + number // 8) % 4]}


STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "aevb",
}


def plain(axis: Axis) -> None:
    """Numbers as they are on a log axis, 0.3 and 20,000: two at the least, whatever it spans."""
    low, high = axis.get_view_interval()
    powers = LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0), numticks=12)
    axis.set_major_locator(powers if high > 5 * low else MaxNLocator(5))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure | SubFigure, axis: Axes) -> None:
    """What the axis shows, named below all axes, where it covers nothing."""
    handles, labels = axis.get_legend_handles_labels()
    columns = -(-len(labels) // legend_rows(labels))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, handlelength=3)


def legend_rows(labels: Collection[str]) -> int:
    """How many rows of a legend, in figures nine inches wide."""
    across = max(1, math.floor(128 / (9 + max(map(len, labels)))))
    return -(-len(labels) // across)
