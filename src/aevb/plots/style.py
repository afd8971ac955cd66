"""One style for all pictures: legible in print and without colour vision."""

from typing import Any

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
