"""Each likelihood is a density of its pixels, written out again by hand."""

import math

import pytest
import torch

from aevb.models import Bernoulli, ContinuousBernoulli, Gaussian, Likelihood, likelihoods
from aevb.parts import LIKELIHOODS

LOGITS = torch.linspace(-6, 6, 13, dtype=torch.float64).unsqueeze(1)


def test_bernoulli_is_equation_11(float64: None) -> None:
    y = LOGITS.sigmoid()
    for x in (0.0, 1.0):
        expected = x * y.log() + (1 - x) * (1 - y).log()
        assert torch.allclose(Bernoulli()(LOGITS).log_prob(torch.tensor([x])), expected[:, 0], rtol=1e-12)


def test_bernoulli_sums_over_pixels_and_keeps_leading_dimensions(float64: None) -> None:
    logits, x = torch.randn(7, 5, 4), torch.ones(5, 4)
    assert torch.allclose(Bernoulli()(logits).log_prob(x), logits.sigmoid().log().sum(-1), rtol=1e-12)


def test_bernoulli_refuses_grey_pixels_unless_relaxed(float64: None) -> None:
    grey = torch.full((13, 1), 0.3)
    with pytest.raises(ValueError, match="support"):
        Bernoulli()(LOGITS).log_prob(grey)
    y = LOGITS.sigmoid()
    cross_entropy = (0.3 * y.log() + 0.7 * (1 - y).log())[:, 0]
    assert torch.allclose(Bernoulli(relaxed=True)(LOGITS).log_prob(grey), cross_entropy, rtol=1e-12)


@pytest.mark.parametrize(
    ("likelihood", "low", "high"),
    [(ContinuousBernoulli(), 0.0, 1.0), (Gaussian(), -40.0, 40.0), (Gaussian(variance="shared"), -40.0, 40.0)],
)
def test_densities_integrate_to_one(likelihood: Likelihood, low: float, high: float, float64: None) -> None:
    x = torch.linspace(low, high, 200_001)
    for parameters in torch.randn(5, likelihood.outputs(1)).double() * 1.5:
        density = likelihood.double()(parameters.expand(len(x), -1)).log_prob(x.unsqueeze(1)).exp()
        # The trapezoid rule is good to 1e-9 here; the continuous Bernoulli's constant near y = 1/2 is a series (torch).
        assert torch.trapezoid(density, x).item() == pytest.approx(1, abs=1e-6)


def test_gaussian_is_equation_12_with_its_floor(float64: None) -> None:
    parameters, x = torch.randn(5, 6), torch.randn(5, 3)
    mu, s = parameters[:, :3], parameters[:, 3:]
    variance = 1e-4 + s.exp()
    expected = (-0.5 * (2 * math.pi * variance).log() - (x - mu) ** 2 / (2 * variance)).sum(1)
    assert torch.allclose(Gaussian()(parameters).log_prob(x), expected, rtol=1e-12)


def test_gaussian_variance_stays_above_its_floor_and_finite() -> None:
    parameters = torch.tensor([[0.0, -1e4]])
    assert Gaussian()(parameters).variance.item() == pytest.approx(1e-4)
    assert Gaussian(floor=0.25)(parameters).stddev.item() == pytest.approx(0.5)
    assert Gaussian()(parameters).log_prob(torch.tensor([[1e4]])).isfinite()


def test_gaussian_mean_through_a_sigmoid(float64: None) -> None:
    parameters = torch.randn(5, 6)
    assert torch.equal(Gaussian(mean="sigmoid")(parameters).mean, parameters[:, :3].sigmoid())


def test_shared_variance_is_one_learned_number(float64: None) -> None:
    likelihood = Gaussian(variance="shared")
    assert [p.numel() for p in likelihood.parameters()] == [1]
    assert torch.allclose(likelihood(torch.zeros(2, 3)).variance, torch.full((2, 3), 1 + 1e-4), rtol=1e-12)
    assert list(Gaussian().parameters()) == []


def test_every_likelihood_is_found_and_says_what_pixels_it_is_for() -> None:
    assert set(LIKELIHOODS) == {"Bernoulli", "ContinuousBernoulli", "Gaussian"} <= set(vars(likelihoods))
    assert all(part.binarisations for part in LIKELIHOODS.values())
