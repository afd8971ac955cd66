"""What pictures of priors show, against what is known of them."""

import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection

from aevb.build import make_pair
from aevb.config import Config
from aevb.data import load
from aevb.guides import AmortizedNormal
from aevb.inference.history import Row
from aevb.models import MLP, Laplace, NormalMixture, Prior, StandardNormal, StudentT, VampPrior
from aevb.parts import PRIORS
from aevb.plots import Shown, pictures, prior_pictures
from aevb.plots.curves import Curves, difference_curves, learning_curves
from aevb.plots.latents import Codes, kl_bars, latent_spaces
from aevb.plots.priors import mass_within, prior_densities, responsibilities
from aevb.report import CAPTIONS

DRAWS = 20_000
NARROW = NormalMixture(2, components=1)
with torch.no_grad():
    NARROW.log_excess_variance.fill_(math.log(1e-4))  # and the floor, 1e-4: a standard deviation of 0.0141


def shown(*priors: str, latents: int = 2, likelihood: str = "Bernoulli") -> dict[str, Shown]:
    """Untrained pairs of the digits."""
    others = {"FactorialBernoulli": "AmortizedBernoulli", "HypersphericalUniform": "AmortizedPowerSpherical"}
    guide = others.get(priors[0], "AmortizedNormal")
    configs = [Config(prior=prior, guide=guide, latents=latents, hidden=(8,)) for prior in priors]
    data = load("digits")
    return {c.prior: Shown(*make_pair(c, data.pixels, data.train), data, 0) for c in configs}


@pytest.mark.parametrize(
    ("prior", "z", "mass"),
    [
        (StandardNormal(2), (0.6, 0.8), 1 - math.exp(-0.5)),  # |z|^2 is exponential
        (NARROW, (0.6 * 2**0.5 * 0.01, 0.8 * 2**0.5 * 0.01), 1 - math.exp(-0.5)),
        (Laplace(2), (1.0, -0.5), 1 - 2.5 * math.exp(-1.5)),  # |z_1| + |z_2| is Gamma(2)
        (StudentT(1, degrees=1.0), (1.0,), 0.5),  # Cauchy's quartiles
        (StudentT(1, degrees=1.0), (-63.66,), 0.99),
    ],
)
def test_a_contour_holds_the_mass_it_says(prior: Prior, z: tuple[float, ...], mass: float) -> None:
    with torch.no_grad():
        found = mass_within(prior, torch.tensor(z), draws=DRAWS).item()
    assert abs(found - mass) < 4 * math.sqrt(mass * (1 - mass) / DRAWS)  # sees 0.014 at 0.5, 0.003 at 0.99


@torch.no_grad()
def test_densities_of_every_real_prior_are_drawn_with_the_cloud_in_view() -> None:
    real = PRIORS.keys() - {"FactorialBernoulli", "HypersphericalUniform"}
    names = [*sorted(real), "StudentT:degrees=1", "FlowPrior:layers=1"]
    figure = prior_pictures(shown(*names))["prior_density"]
    panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.get_title(loc="left")}
    assert set(panels) == set(names)
    for axis in panels.values():
        cloud = next(part for part in axis.collections if isinstance(part, PathCollection))
        at = np.asarray(cloud.get_offsets())
        (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
        inside = (at > [left, low]) & (at < [right, high])
        assert inside.all(1).mean() > 0.97
        assert right - left == pytest.approx(high - low, rel=1e-5)
        assert max(np.ptp(at[:, 0]), np.ptp(at[:, 1])) > 0.7 * (right - left)


@torch.no_grad()
@pytest.mark.parametrize("labels", [None, torch.arange(40)])
def test_densities_need_no_labels_nor_few(labels: torch.Tensor | None) -> None:
    z = torch.randn(40, 2)
    figure = prior_densities({"one": StandardNormal(2)}, {"one": Codes(z, z, z, labels)})
    assert len(figure.legends) == (1 if labels is None else 0)


@torch.no_grad()
def test_the_latent_space_of_data_without_labels_has_one_colour() -> None:
    z = torch.randn(40, 2)
    dots = latent_spaces({"one": Codes(z, z, z, None)}).axes[0].collections
    assert [len(part.get_facecolor()) for part in dots] == [1]


@torch.no_grad()
def test_each_prior_has_the_pictures_that_apply() -> None:
    assert prior_pictures(shown("StandardNormal", latents=3)).keys() == set()
    for prior in ("FactorialBernoulli", "HypersphericalUniform"):
        assert prior_pictures(shown(prior)).keys() == set()
    assert prior_pictures(shown("VampPrior:components=3", latents=3)).keys() == {"pseudo_inputs"} <= CAPTIONS.keys()
    both = prior_pictures(shown("NormalMixture:components=30", "NormalMixture:components=2"))
    assert both.keys() == {"prior_density", "components"} <= CAPTIONS.keys()
    texts = [text.get_text() for axis in both["components"].axes for text in axis.texts]
    assert sum("%" in text for text in texts) == 12 + 2


@torch.no_grad()
def test_responsibilities_are_the_shares_of_what_lies_near() -> None:
    network = MLP(2, 4)
    network[-1].weight.copy_(torch.eye(4)[:, :2])  # q(z|u) = N(u, e^bias)
    network[-1].bias.copy_(torch.tensor([0.0, 0.0, -9.0, -9.0]))
    prior = VampPrior(2, components=3).attach(
        AmortizedNormal(network), torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    )
    z = torch.tensor([[0.0, 0.0]] * 150 + [[1.0, 1.0]] * 50 + [[0.5, 1.0]] * 50)
    assert torch.allclose(responsibilities(prior, z), torch.tensor([0.6, 0.3, 0.1]), atol=1e-6)


def curves(labels: int, images: int, epochs: int) -> Curves:
    """As a run leaves them, with names of the length that priors' options have."""
    rows: list[Row] = [
        {"images": images * n, "seconds": 0.02 * n, "train_elbo": -40 / n, "test_elbo": -41 / n}
        for n in range(1, epochs + 1)
    ]
    return {f"L_B_mixed NormalMixture:components={n}": [rows, rows] for n in range(labels)}


@pytest.mark.parametrize("images", [1438, 1200, 60_000])
@pytest.mark.parametrize("epochs", [2, 5, 10, 100, 1000, 5000])
def test_log_axes_have_numbers_that_do_not_overlap(images: int, epochs: int) -> None:
    found = curves(2, images, epochs)
    pair = tuple(found.values())
    figures = [learning_curves({"one": found}, against) for against in ("images", "seconds")]
    for figure in (*figures, difference_curves({"a": (pair[0], pair[1])})):
        figure.draw_without_rendering()
        for axis in figure.axes:
            low, high = axis.get_xlim()
            shown = [t for t in axis.get_xticklabels() if t.get_text() and low <= t.get_position()[0] <= high]
            assert len(shown) >= 2
            assert not any("e" in text.get_text() or "$" in text.get_text() for text in shown)
            boxes = [text.get_window_extent() for text in shown]
            assert all(a.x1 < b.x0 for a, b in itertools.pairwise(boxes))


@pytest.mark.parametrize("labels", [1, 2, 6, 21])
def test_legends_cover_no_axes_and_lie_within_the_figure(labels: int) -> None:
    found = curves(labels, 1000, 3)
    for figure in (
        learning_curves({"one": found, "another": found}, "images"),
        difference_curves({label: (seeds, seeds) for label, seeds in found.items()}),
        kl_bars({label: [1.0, 2.0] for label in found}),
    ):
        figure.draw_without_rendering()
        parts, axes = figure.subfigs or [figure], figure.axes
        legends = [legend.get_window_extent() for part in parts for legend in part.legends]
        assert len(legends) == len(parts)
        assert not any(legend.overlaps(axis.get_window_extent()) for legend in legends for axis in axes)
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in legends)
        assert all(axis.bbox.height > 150 for axis in axes)  # pixels, a hundred to the inch
        assert all(axis.get_legend() is None for axis in axes)


@torch.no_grad()
@pytest.mark.parametrize(("priors", "rows"), [(1, 2), (3, 6), (4, 4)])
def test_many_combinations_have_one_interpolation_each(priors: int, rows: int) -> None:
    pairs = shown(*[f"NormalMixture:components={n}" for n in range(2, 2 + priors)], latents=3)
    figure = pictures(pairs, dict.fromkeys(pairs, curves(1, 1000, 3).popitem()[1]), {})["interpolations"]
    assert len(figure.axes) == rows
    assert all(any(axis.get_title(loc="left").startswith(label) for axis in figure.axes) for label in pairs)
