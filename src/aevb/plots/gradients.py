"""What an estimator's gradient is like: its noise, and its signal against the number of samples."""

from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import COLOURS, STYLE, line, plain

Row = dict[str, Any]
PARTS = ("guide", "model")


def noise_bars(rows: list[Row]) -> Figure:
    """sqrt(tr Cov g) of each estimator at one checkpoint, guide and model, coloured by target; a cross marks a bias."""
    targets = list(dict.fromkeys(row["target"] for part in PARTS for row in rows if row["part"] == part))
    by_target = sorted(rows, key=lambda row: targets.index(row["target"]))
    names = list(dict.fromkeys(row["estimator"] for row in by_target if row["part"] == PARTS[0]))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.4 + 0.3 * len(names) + 0.25 * len(targets)))
        for axis, part in zip(figure.subplots(1, 2, sharey=True), PARTS, strict=True):
            shown = {row["estimator"]: row for row in rows if row["part"] == part}
            for place, name in enumerate(names):
                if name in shown:
                    _bar(axis, place, shown[name], COLOURS[targets.index(shown[name]["target"]) % len(COLOURS)])
            axis.set_xscale("log")
            axis.set_xlim(min((row["variance"] ** 0.5 for row in shown.values() if row["variance"]), default=1) / 2)
            plain(axis.xaxis)
            axis.set_title(part, loc="left")
            axis.set_xlabel("noise of the gradient, nats per datum")
            axis.set_yticks(range(len(names)), names)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.grid(axis="y", visible=False)
        handles = [mpl.patches.Patch(color=COLOURS[n % len(COLOURS)], label=t) for n, t in enumerate(targets)]
        figure.legend(handles=handles, loc="outside lower center", ncols=1 if len(targets) > 4 else 2, fontsize=8)
    return figure


def _bar(axis: Axes, place: int, row: Row, colour: str) -> None:
    noise = max(row["variance"], 1e-20) ** 0.5
    error = row["variance_se"] / (2 * noise)
    axis.barh(place, noise, color=colour, height=0.7, xerr=min(error, 0.9 * noise), error_kw={"linewidth": 0.8})
    if row["is_biased"]:
        axis.plot(row["bias"] ** 0.5, place, marker="x", color="black", markersize=6)


def noise_curves(rows: list[Row]) -> Figure:
    """Noise and signal-to-noise ratio of each estimator at a run's checkpoints, guide and model."""
    moments = list(dict.fromkeys(row["checkpoint"] for row in rows))
    epochs = {row["checkpoint"]: row["epoch"] for row in rows}
    titles = {"variance": "noise of the gradient, nats per datum", "snr": "signal-to-noise ratio"}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 7))
        for row_of_axes, (column, title) in zip(figure.subplots(2, 2), titles.items(), strict=True):
            for axis, part in zip(row_of_axes, PARTS, strict=True):
                for number, name in enumerate(dict.fromkeys(row["estimator"] for row in rows)):
                    found = [r for r in rows if r["estimator"] == name and r["part"] == part]
                    values = [r[column] ** 0.5 if column == "variance" else r[column] for r in found]
                    at = [moments.index(r["checkpoint"]) for r in found]
                    axis.plot(at, values, marker="o", markersize=3, label=name, **line(number))
                axis.set_yscale("log")
                plain(axis.yaxis)
                axis.set_xticks(range(len(moments)), [f"epoch {epochs[m]}" for m in moments])
                axis.set_title(part, loc="left")
                axis.set_ylabel(title if part == PARTS[0] else "")
        handles, labels = row_of_axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, handlelength=3)
    return figure


def snr_curves(rows: list[Row]) -> Figure:
    """Signal-to-noise ratio against the number of samples of each kind of estimator, guide and model, on log axes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.4))
        axes = figure.subplots(1, 2)
        for axis, part in zip(axes, PARTS, strict=True):
            kinds = dict.fromkeys(row["estimator"] for row in rows)
            for number, kind in enumerate(kinds):
                found = [row for row in rows if row["estimator"] == kind and row["part"] == part and row["snr"] > 0]
                at, values = [row["samples"] for row in found], [row["snr"] for row in found]
                axis.plot(at, values, marker="o", markersize=3, label=kind, **line(number))
            _slopes(axis)
            axis.set_title(part, loc="left")
            axis.set_xlabel("samples, k")
        axes[0].set_ylabel("signal-to-noise ratio")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8, handlelength=3)
    return figure


def _slopes(axis: Axes) -> None:
    """Log axes, and grey lines of slope 1/2 and -1/2 from the middle of the left edge."""
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    plain(axis.yaxis)
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    middle = (low * high) ** 0.5
    for power, text in ((0.5, r"$k^{1/2}$"), (-0.5, r"$k^{-1/2}$")):
        end = middle * (right / left) ** power
        axis.plot([left, right], [middle, end], color="#bbbbbb", linewidth=1, zorder=0)
        axis.annotate(text, (right, end), color="#777777", fontsize=8, annotation_clip=True)
    axis.set_xlim(left, right)
    axis.set_ylim(low, high)
