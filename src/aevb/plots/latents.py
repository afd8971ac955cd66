"""The latent space: where data lie in it, what each latent carries, and what pulls at a datum."""

import math
import textwrap
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA
from torch import Tensor

from ..guides import Guide
from ..models import VAE
from .style import COLOURS, STYLE, legend_below, legend_rows, line


@dataclass(frozen=True)
class Codes:
    """Where a guide puts N data: posterior means and one draw each, draws of the prior, ``(N, D)``; labels ``(N,)``."""

    means: Tensor
    draws: Tensor
    prior: Tensor
    labels: Tensor | None


def latent_spaces(codes: dict[str, Codes]) -> Figure:
    """For each combination: the posterior means, by label if any; and draws of q(z), the aggregate, against p(z)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2 * len(codes)))
        grid = figure.subplots(len(codes), 2, squeeze=False)
        for (left, right), (label, code) in zip(grid, codes.items(), strict=True):
            project, names = _plane(code.means)
            _by_label(left, project(code.means), code.labels)
            left.set_title(textwrap.fill(f"{label}: posterior means", 42), loc="left")
            _dots(right, project(code.prior), "#999999", "prior p(z)")
            _dots(right, project(code.draws), COLOURS[0], "aggregate posterior")
            right.set_title("draws", loc="left")
            right.legend(loc="upper right", markerscale=2, frameon=True, edgecolor="white", fontsize=8)
            for axis in (left, right):
                axis.set_xlabel(names[0])
                axis.set_ylabel(names[1])
                axis.set_aspect("equal", "datalim")
    return figure


def _dots(axis: Axes, at: np.ndarray, colour: str, label: str) -> None:
    axis.scatter(at[:, 0], at[:, 1], s=7, color=colour, label=label, linewidth=0, alpha=0.6)


def _by_label(axis: Axes, at: np.ndarray, labels: Tensor | None) -> None:
    if labels is None:
        axis.scatter(at[:, 0], at[:, 1], s=7, color=COLOURS[0], linewidth=0)
        return
    for kind in labels.unique().tolist():
        own, colour = at[labels.numpy() == kind], mpl.colormaps["tab10"](kind % 10)
        axis.scatter(own[:, 0], own[:, 1], s=16, alpha=0.8, marker=f"${kind}$", color=colour, linewidth=0)


def _plane(z: Tensor):  # type: ignore[no-untyped-def]  # a projection, and the names of its two axes
    if z.shape[1] == 1:
        return (lambda v: np.column_stack([v.numpy()[:, 0], np.zeros(len(v))])), ("z", "")
    if z.shape[1] == 2:
        return (lambda v: v.numpy()), ("$z_1$", "$z_2$")
    pca = PCA(2).fit(z.numpy())
    shares = [f"component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(pca.explained_variance_ratio_)]
    return (lambda v: pca.transform(v.numpy())), shares


def kl_bars(per_latent: dict[str, list[float]]) -> Figure:
    """KL(q(z_d|x) || p(z_d)) of each latent, averaged over test data, largest first."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.9 + 0.2 * legend_rows(per_latent)))
        axis = figure.subplots()
        for number, (label, values) in enumerate(per_latent.items()):
            rank = np.arange(1, len(values) + 1)
            axis.plot(rank, sorted(values, reverse=True), marker="o", label=label, markersize=4, **line(number))
        axis.set_ylim(bottom=0)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("latent, in the order of its KL")
        axis.set_ylabel("KL, nats per datum")
        legend_below(figure, axis)
    return figure


@dataclass(frozen=True)
class Forces:
    """What pulls at q(z|x) = N(mu, diag sigma^2) of each datum: gradients of three terms of the bound, each ``(N, D)``.

    The bound is E log p(x|z) - 1/2 sum mu^2 + 1/2 sum (1 + log sigma^2 - sigma^2) (appendix B). The means' term pulls
    mu to the origin with -mu, the variances' term pulls sigma to 1 with 1 / sigma - sigma, and the reconstruction moves
    both.
    """

    mean: Tensor
    scale: Tensor
    reconstruction_on_mean: Tensor
    reconstruction_on_scale: Tensor

    @property
    def means_term(self) -> Tensor:
        """-mu."""
        return -self.mean

    @property
    def variances_term(self) -> Tensor:
        """1 / sigma - sigma."""
        return 1 / self.scale - self.scale


def forces(model: VAE, guide: Guide, x: Tensor, samples: int = 256, seed: int = 0) -> Forces:
    """The forces on some data, ``(N, P)``; the reconstruction's by sampling z."""
    q = guide.encode(x)
    mean, scale = (v.detach().requires_grad_() for v in (q.mean, q.stddev))
    noise = torch.randn(samples, *mean.shape, generator=torch.Generator().manual_seed(seed))
    log_likelihood = model.decode(mean + scale * noise).log_prob(x).mean(0).sum()
    on_mean, on_scale = torch.autograd.grad(log_likelihood, (mean, scale))
    return Forces(mean.detach(), scale.detach(), on_mean, on_scale)


def bubbles(model: VAE, guide: Guide, x: Tensor, labels: Tensor | None) -> Figure:
    """For two latents: an ellipse of one standard deviation for each datum; and for a few, the three forces on it."""
    found = forces(model, guide, x)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.8))
        left, right = figure.subplots(1, 2)
        for i in range(len(x)):
            colour = COLOURS[0] if labels is None else mpl.colormaps["tab10"](int(labels[i]) % 10)
            _ellipse(left, found, i, colour)
        for i in range(min(14, len(x))):
            _ellipse(right, found, i, "#666666")
            _arrows(right, found, i)
        for colour, text in (
            (COLOURS[1], "reconstruction"),
            (COLOURS[0], "means' term"),
            (COLOURS[2], "variances' term"),
        ):
            right.plot([], [], color=colour, label=text)
        right.legend(loc="upper right", fontsize=8)
        left.set_title("one standard deviation of q(z|x)", loc="left")
        right.set_title("three forces, of some data", loc="left")
        for axis in (left, right):
            axis.set_xlabel("$z_1$")
            axis.set_ylabel("$z_2$")
            axis.autoscale_view()
            axis.set_aspect("equal", "datalim")
    return figure


def _ellipse(axis: Axes, found: Forces, i: int, colour: object) -> None:
    width, height = (2 * found.scale[i]).tolist()
    axis.add_patch(
        Ellipse(tuple(found.mean[i].tolist()), width, height, facecolor=colour, edgecolor=colour, alpha=0.35)
    )


def _arrows(axis: Axes, found: Forces, i: int) -> None:
    """Forces on the mean from the centre; on the scales from the rim, along each axis. Lengths as the root of size."""
    centre, scale = found.mean[i].numpy(), found.scale[i].numpy()
    for colour, force in ((COLOURS[1], found.reconstruction_on_mean), (COLOURS[0], found.means_term)):
        _arrow(axis, centre, _shortened(force[i].numpy()), colour)
    for d in range(2):
        direction = np.eye(2)[d]
        for colour, force, side in (
            (COLOURS[1], found.reconstruction_on_scale, -1),
            (COLOURS[2], found.variances_term, 1),
        ):
            push = _shortened(np.array([float(force[i, d])]))[0]
            _arrow(axis, centre + side * direction * scale[d], side * direction * push, colour)


def _shortened(force: np.ndarray) -> np.ndarray:
    size = float(np.linalg.norm(force))
    return force * 0.18 * math.sqrt(size) / size if size else force


def _arrow(axis: Axes, start: np.ndarray, step: np.ndarray, colour: str) -> None:
    axis.annotate(
        "", tuple(start + step), tuple(start), arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.1}
    )
