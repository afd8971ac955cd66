"""What a prior learned: its density over the codes, its pseudo-inputs, its components."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from ..inference.randomness import forked_rng
from ..models import VAE, NormalMixture, Prior, VampPrior
from .images import canvas, colours
from .latents import Codes
from .style import COLOURS, STYLE

MASSES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
"""Shares of the prior's mass that the contours hold."""
SHADES = ListedColormap(["#a9bccd", "#bccbd8", "#cdd9e2", "#dce5eb", "#e9eff3", "#f4f7f9"])
SMALL: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7}
DRAWS, GRID, ACROSS = 20_000, 220, 12


def prior_densities(priors: dict[str, Prior], codes: dict[str, Codes], seed: int = 0) -> Figure:
    """For two latents: contours of log p(z), each by the share of the prior's mass within it; above, posterior means.

    The contour of share m is where log p(z) is exceeded by a share m of draws of the prior (the region of highest
    density), so that narrow and heavy-tailed priors can be read by one scale.
    """
    columns = min(len(priors), 4 if len(priors) > 9 else 3)
    rows = -(-len(priors) // columns)
    size = 9 / max(columns, 2)
    with mpl.rc_context(STYLE | {"axes.grid": False, "axes.axisbelow": False}):
        figure = Figure(figsize=(max(columns, 1.4) * size, rows * (size + 0.1) + 0.7))
        axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axis, (label, prior) in zip(axes, priors.items(), strict=False):
            contours = _density(axis, prior, codes[label].means, seed)
            _cloud(axis, codes[label])
            title = textwrap.fill(label.replace(":", ": "), 110 // columns, break_long_words=False)
            axis.set_title(title.replace(": ", ":"), loc="left", fontsize=9)
        for axis in axes[len(priors) :]:
            axis.set_axis_off()
        _key(figure, contours, [code.labels for code in codes.values()])
    return figure


def mass_within(prior: Prior, z: Tensor, draws: int = DRAWS, seed: int = 0) -> Tensor:
    """The share of the prior's mass where its density is above that at z, ``(..., D)``; by that many draws."""
    p = prior()
    with forked_rng(seed):
        heights = p.log_prob(p.sample((draws,))).sort().values
    found = torch.cat([p.log_prob(part) for part in z.reshape(-1, z.shape[-1]).split(10_000)])
    return 1 - torch.searchsorted(heights, found).reshape(z.shape[:-1]) / draws


def _density(axis: Axes, prior: Prior, means: Tensor, seed: int) -> ContourSet:
    """Contours in a square that holds 99 of 100 posterior means."""
    low, high = (means.quantile(share, 0) for share in (0.005, 0.995))
    middle, half = (low + high) / 2, max(0.56 * float((high - low).max()), 1e-3)
    sides = [torch.linspace(float(m) - half, float(m) + half, GRID) for m in middle]
    z = torch.stack(torch.meshgrid(*sides, indexing="xy"), -1)
    masses = mass_within(prior, z, seed=seed).numpy()
    filled = axis.contourf(*sides, masses, MASSES, cmap=SHADES)
    filled.set_rasterized(True)
    axis.contour(*sides, masses, MASSES[1:], colors="#5b748c", linewidths=0.5, zorder=3)
    axis.set_xlim(float(sides[0][0]), float(sides[0][-1]))
    axis.set_ylim(float(sides[1][0]), float(sides[1][-1]))
    axis.set_aspect("equal")
    axis.tick_params(labelsize=7, length=2, pad=2)
    return filled


def _cloud(axis: Axes, code: Codes) -> None:
    at = code.means.numpy()
    kinds = COLOURS[1] if code.labels is None else mpl.colormaps["tab10"](code.labels.numpy() % 10)
    size = float(np.clip(3000 / len(at), 2.2, 9))
    axis.scatter(at[:, 0], at[:, 1], s=size, c=kinds, linewidth=0, alpha=0.9, rasterized=True)


def _key(figure: Figure, contours: ContourSet, labels: Sequence[Tensor | None]) -> None:
    """One scale of the shades for all panels, and of the labels' colours where there are few."""
    bar = figure.colorbar(
        contours, ax=figure.axes, location="bottom", shrink=0.6, aspect=45, pad=0.02, format=lambda m, _: f"{m:.0%}"
    )
    bar.set_label("share of the prior's mass within the contour", fontsize=8)
    bar.ax.tick_params(labelsize=8, length=2)
    kinds = torch.cat([found for found in labels if found is not None] or [torch.tensor([])]).unique().tolist()
    if 0 < len(kinds) <= 10:
        dots = [_dot(mpl.colormaps["tab10"](int(kind) % 10), f"{int(kind)}") for kind in kinds]
    else:
        dots = [_dot(COLOURS[1], "posterior means of test data")] if not kinds else []
    if dots:
        figure.legend(handles=dots, loc="outside upper center", ncols=10, fontsize=8, handletextpad=0, columnspacing=1)


def _dot(colour: object, label: str) -> Line2D:
    return Line2D([], [], marker="o", linestyle="", markersize=5, markeredgewidth=0, color=colour, label=label)  # type: ignore[arg-type]


def pseudo_inputs(models: dict[str, VAE], draws: dict[str, Tensor], shape: Sequence[int]) -> Figure:
    """VampPriors' pseudo-inputs, those that answer for most test data first, and below each what decodes its code."""
    shown: dict[str, list[Tensor]] = {}
    for label, model in models.items():
        prior = model.prior
        assert isinstance(prior, VampPrior)
        shares = responsibilities(prior, draws[label])
        best = shares.argsort(descending=True, stable=True)[: _count(models)]
        shown[label] = [shares[best], prior.inputs[best], model.decode(prior.posteriors().mean[best]).mean]
    return _tiles(shown, shape, ("u", "decoded"))


def responsibilities(prior: VampPrior, z: Tensor) -> Tensor:
    """How much of z, ``(N, D)``, each pseudo-input answers for: the mean of q(z|u_k) / sum_j q(z|u_j), ``(K,)``."""
    q = prior.posteriors()
    parts = [q.log_prob(part.unsqueeze(-2)).softmax(-1).sum(0) for part in z.split(100)]
    return torch.stack(parts).sum(0) / len(z)


def components(models: dict[str, VAE], shape: Sequence[int]) -> Figure:
    """What the means of a NormalMixture's components decode to, the largest weights first."""
    shown: dict[str, list[Tensor]] = {}
    for label, model in models.items():
        prior = model.prior
        assert isinstance(prior, NormalMixture)
        weights = prior.logits.softmax(-1)
        best = weights.argsort(descending=True, stable=True)[: _count(models)]
        shown[label] = [weights[best], model.decode(prior.loc[best]).mean]
    return _tiles(shown, shape, ("",))


def _count(models: dict[str, VAE]) -> int:
    """Three rows of the only one, or one of each."""
    return 3 * ACROSS if len(models) == 1 else ACROSS


def _tiles(shown: dict[str, list[Tensor]], shape: Sequence[int], names: Sequence[str]) -> Figure:
    """For each label its shares, ``(K,)``, written above K columns of images, each ``(K, P)``, twelve to a row."""
    cmap = colours(next(iter(shown.values()))[1])
    rows = [
        (label if not start else "", [part[start : start + ACROSS] for part in parts])
        for label, parts in shown.items()
        for start in range(0, len(parts[0]), ACROSS)
    ]
    heights = [0.32 + 0.2 * bool(label) + 0.74 * len(names) for label, _ in rows]
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(9, sum(heights)))
        axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, (label, (shares, *images)) in zip(axes, rows, strict=True):
            _row(axis, shares, [canvas(strip, shape) for strip in images], names, cmap)
            axis.set_title(label, loc="left", fontsize=9, pad=13)
    return figure


def _row(axis: Axes, shares: Tensor, strips: list[np.ndarray], names: Sequence[str], cmap: str) -> None:
    height, width = strips[0].shape[0], (strips[0].shape[1] + 1) // len(shares)
    for place, (strip, name) in enumerate(zip(strips, names, strict=True)):
        top = place * (height + 2)
        extent = (0, strip.shape[1], top + height, top)
        axis.imshow(strip, cmap=cmap, interpolation="nearest", vmin=0, vmax=max(1.0, float(strip.max())), extent=extent)
        axis.text(-2, top + height / 2, name, rotation=90, ha="right", va="center", fontsize=8)
    for place, share in enumerate(shares.tolist()):
        middle = ((place + 0.5) * width, 0)
        axis.annotate(f"{share:.2%}", middle, (0, 2), textcoords="offset points", color="#555555", **SMALL)
    axis.set_xlim(-width / 3, ACROSS * width)
    axis.set_ylim(len(strips) * (height + 2), 0)
    axis.set_axis_off()
