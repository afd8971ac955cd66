"""Pictures of runs, in one style that print and colour-blind readers can follow."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .inference.history import Row
from .runs import Run

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, told apart without colour vision; lines differ in dashes too."""
DASHES = ("-", "--", "-.", ":")
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


def image_rows(rows: dict[str, Tensor], shape: Sequence[int]) -> Figure:
    """Labelled rows of images, each ``(count, P)``, black on white."""
    count = max(len(images) for images in rows.values())
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9, 0.3 + 0.8 * len(rows) * 12 / count))
        grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axis, (label, images) in zip(grid, rows.items(), strict=True):
            _strip(axis, images, shape)
            axis.set_title(label, loc="left", fontsize=9)
    return figure


def _strip(axis: Axes, images: Tensor, shape: Sequence[int]) -> None:
    height, width = shape if len(shape) == 2 else _nearly_square(images.shape[1])
    canvas = np.zeros((height, len(images) * (width + 1) - 1))
    for i, image in enumerate(images):
        pixels = np.zeros(height * width)
        pixels[: len(image)] = image
        canvas[:, i * (width + 1) : i * (width + 1) + width] = pixels.reshape(height, width)
    axis.imshow(canvas, cmap="gray_r", interpolation="nearest", vmin=0, vmax=max(1.0, float(canvas.max())))
    axis.set_axis_off()


def _nearly_square(pixels: int) -> tuple[int, int]:
    width = math.ceil(math.sqrt(pixels))
    return math.ceil(pixels / width), width


def latent_spaces(means: dict[str, Tensor], labels: Tensor | None) -> Figure:
    """The posterior means of the test data, ``(N, D)``, on two axes; above two latents, their principal components."""
    columns = min(4, len(means))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6 * math.ceil(len(means) / columns) * (1 if columns > 1 else 1.4)))
        grid = figure.subplots(math.ceil(len(means) / columns), columns, squeeze=False).ravel()
        for axis, (label, z) in zip(grid, means.items(), strict=False):
            plane, names = _plane(z)
            if labels is None:
                axis.scatter(*plane.T, s=6, color=COLOURS[0], alpha=0.5)
            else:
                for kind in labels.unique().tolist():
                    at = plane[labels == kind]
                    axis.scatter(*at.T, s=14, alpha=0.8, marker=f"${kind}$", color=mpl.colormaps["tab10"](kind % 10))
            axis.set_title(label, loc="left")
            axis.set_xlabel(names[0])
            axis.set_ylabel(names[1])
            axis.set_aspect("equal", "datalim")
        for axis in grid[len(means) :]:
            axis.set_axis_off()
    return figure


def _plane(z: Tensor) -> tuple[Tensor, tuple[str, str]]:
    if z.shape[1] == 1:
        return torch.cat([z, torch.zeros_like(z)], 1), ("z", "")
    if z.shape[1] == 2:
        return z, ("$z_1$", "$z_2$")
    from sklearn.decomposition import PCA

    pca = PCA(2).fit(z.numpy())
    shares = [f"component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(pca.explained_variance_ratio_)]
    return torch.from_numpy(pca.transform(z.numpy())), (shares[0], shares[1])


@torch.no_grad()
def pictures(runs: dict[str, Run], curves: Curves, pairs: dict[str, tuple[str, str]]) -> dict[str, Figure]:
    """All pictures of a comparison, or of one run: name and figure.

    ``runs`` holds one run for each label; ``pairs`` names the two labels whose difference is shown.
    """
    first = next(iter(runs.values()))
    originals = first.data.test.batch(torch.arange(min(12, len(first.data.test))))
    samples, means = {}, {}
    reconstructions = {"test data": originals}
    for label, run in runs.items():
        with torch.random.fork_rng():
            torch.manual_seed(run.config.seed)
            z = run.model.prior().sample((12,))
        samples[label] = run.model.decode(z).mean.cpu()
        device = run.training.device
        reconstructions[label] = run.model.decode(run.guide.encode(originals.to(device)).mean).mean.cpu()
        everything = run.data.test.batch(torch.arange(min(2000, len(run.data.test))))
        means[label] = run.guide.encode(everything.to(device)).mean.cpu()
    labels: Any = first.data.test.labels
    differing = {name: (curves[label], curves[base]) for name, (label, base) in pairs.items()}
    return {
        "learning_curves_images": learning_curves(curves, "images"),
        **({"differences": difference_curves(differing)} if pairs else {}),
        "learning_curves_seconds": learning_curves(curves, "seconds"),
        "reconstructions": image_rows(reconstructions, first.data.shape),
        "samples": image_rows(samples, first.data.shape),
        "latent_space": latent_spaces(means, None if labels is None else labels[:2000]),
    }
