"""Each likelihood is a density of its pixels, written out again by hand."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aevb.data import load
from aevb.models import (
    MLP,
    VAE,
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    InputError,
    Likelihood,
    StandardNormal,
    likelihoods,
)
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
    [
        (ContinuousBernoulli(), 0.0, 1.0),
        *((Gaussian(variance=v), -40.0, 40.0) for v in ("from_z", "per_pixel", "shared")),
        (Gaussian(variance="fixed", scale=0.7), -40.0, 40.0),
    ],
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
    assert list(Gaussian().parameters()) == list(Gaussian().state_dict()) == []


def test_variances_of_the_pixels_are_a_learned_number_each(float64: None) -> None:
    likelihood = Gaussian(variance="per_pixel", floor=1e-2)
    assert likelihood.outputs(3) == 3
    (s,) = likelihood.parameters()
    assert torch.allclose(likelihood(torch.zeros(2, 3)).variance, torch.full((2, 3), 1.01), rtol=1e-12)
    torch.nn.init.normal_(s)
    mu, x = torch.randn(2, 5, 3, requires_grad=True), torch.randn(5, 3)
    expected = torch.distributions.Normal(mu, (1e-2 + s.exp()).sqrt()).log_prob(x).sum(-1)
    found = likelihood(mu).log_prob(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    weight = torch.randn(2, 5)
    # d log p / d sigma^2 = ((x - mu)^2 / sigma^2 - 1) / (2 sigma^2), d sigma^2 / ds = e^s, d log p / d mu by itself
    variance = 1e-2 + s.exp()
    of_variance = ((x - mu).square() / variance - 1) / (2 * variance)
    by_hand = (weight[..., None] * of_variance * s.exp()).sum((0, 1)), weight[..., None] * (x - mu) / variance
    for gradient, hand in zip(torch.autograd.grad((weight * found).sum(), (s, mu)), by_hand, strict=True):
        torch.testing.assert_close(gradient, hand, rtol=1e-10, atol=1e-12)
        assert gradient.abs().min() > 0
    with torch.no_grad():
        s.fill_(-1e4)
    assert torch.allclose(likelihood(mu).variance, torch.tensor(1e-2), rtol=1e-12)


def test_variances_of_the_pixels_are_made_once_and_come_back_from_a_file(tmp_path: Path) -> None:
    likelihood = Gaussian(variance="per_pixel")
    with pytest.raises(InputError, match=r"has to know how many pixels there are: ask its outputs\(pixels\) when"):
        likelihood(torch.zeros(1, 3))
    model = VAE(StandardNormal(2), MLP(2, likelihood.outputs(3)), likelihood)
    (s,) = likelihood.parameters()
    torch.nn.init.normal_(s)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert likelihood.outputs(3) == 3
    assert next(likelihood.parameters()) is s
    with pytest.raises(InputError, match=r"has the variances of 3 pixels; these are 4\.\n  Make another"):
        likelihood.outputs(4)
    other = Gaussian(variance="per_pixel")
    again = VAE(StandardNormal(2), MLP(2, other.outputs(3)), other)
    again.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    z = torch.randn(5, 2)
    assert torch.equal(again.decode(z).variance, model.decode(z).variance)
    assert torch.equal(again.decode(z).mean, model.decode(z).mean)


def test_a_fixed_variance_is_the_square_of_the_scale_and_nothing_is_learned(float64: None) -> None:
    likelihood, mu, x = Gaussian(variance="fixed", scale=0.3), torch.randn(2, 5, 3), torch.randn(5, 3)
    assert list(likelihood.parameters()) == []
    assert likelihood.outputs(3) == 3
    expected = torch.distributions.Normal(mu, 0.3).log_prob(x).sum(-1)
    torch.testing.assert_close(likelihood(mu).log_prob(x), expected, rtol=1e-12, atol=0)
    assert torch.equal(Gaussian(variance="fixed", mean="sigmoid")(mu).mean, mu.sigmoid())
    assert Gaussian(variance="fixed")(mu).stddev.unique().item() == 0.1


def test_the_default_scale_is_a_little_less_than_what_pca_leaves_of_the_digits() -> None:
    x = load("digits", binarisation="none").train.batch(torch.arange(1437), torch.Generator()).double()
    left = torch.linalg.svdvals(x - x.mean(0))[10:].square().sum() / x.numel()
    assert round(left.sqrt().item(), 2) == 0.14


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan])
def test_a_scale_is_positive(scale: float) -> None:
    with pytest.raises(InputError, match="The scale of Gaussian is a positive standard deviation; it is"):
        Gaussian(variance="fixed", scale=scale)


@pytest.mark.parametrize("variance", ["from_z", "per_pixel", "shared"])
def test_a_scale_is_refused_where_it_would_not_be_used(variance: Any) -> None:
    with pytest.raises(InputError, match=rf"it is 0\.2, and the variance is {variance}\.\n  Use variance=fixed, or"):
        Gaussian(variance=variance, scale=0.2)


LEVELS: dict[str, Callable[[int], Categorical | DiscretizedLogistic]] = {
    "Categorical": lambda levels: Categorical(levels=levels),
    "DiscretizedLogistic": lambda levels: DiscretizedLogistic(levels=levels),
    "DiscretizedLogistic:scale=shared": lambda levels: DiscretizedLogistic(levels=levels, scale="shared"),
}


@pytest.fixture(params=LEVELS)
def of_levels(request: pytest.FixtureRequest) -> Callable[[int], Categorical | DiscretizedLogistic]:
    return LEVELS[request.param]


def test_probabilities_of_levels_sum_to_one(
    of_levels: Callable[[int], Categorical | DiscretizedLogistic], float64: None
) -> None:
    likelihood = of_levels(256).double()
    levels = torch.arange(256)[:, None] / 255
    for scale in (1.0, 10.0):
        parameters = scale * torch.randn(likelihood.outputs(1))
        distribution = likelihood(parameters.expand(256, -1))
        assert distribution.log_prob(levels).exp().sum().item() == pytest.approx(1, rel=1e-9)
        one = likelihood(parameters)
        torch.testing.assert_close(one.log_probabilities()[0], distribution.log_prob(levels))
        torch.testing.assert_close(one.mean[0], (one.log_probabilities()[0].exp() * levels[:, 0]).sum())


@torch.no_grad()
def test_draws_of_levels_are_as_frequent_as_probable(
    of_levels: Callable[[int], Categorical | DiscretizedLogistic], float64: None
) -> None:
    likelihood, count = of_levels(5).double(), 200_000
    distribution = likelihood(torch.randn(likelihood.outputs(2)))
    draws = distribution.sample((count,))
    assert draws.shape == (count, 2)
    probable = distribution.log_probabilities().exp()
    frequent = torch.stack([(draws == level / 4).double().mean(0) for level in range(5)], -1)
    assert ((frequent - probable).abs() <= 4.5 * (probable * (1 - probable) / count).sqrt() + 1e-12).all()


def test_discretized_logistic_is_its_formula_and_finite_far_out(float64: None) -> None:
    likelihood = DiscretizedLogistic(levels=4)
    mu, r, x = torch.tensor([0.4]), torch.tensor([-1.0]), torch.arange(4)[:, None] / 3
    s = 1e-3 + r.exp()
    edges = torch.tensor([-math.inf, 1 / 6, 1 / 2, 5 / 6, math.inf])
    expected = torch.sigmoid((edges[1:] - mu) / s) - torch.sigmoid((edges[:-1] - mu) / s)
    found = likelihood(torch.cat([mu, r]).expand(4, 2)).log_prob(x).exp()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    far = torch.tensor([[1e4, -1e4]], requires_grad=True)
    log_prob = likelihood(far).log_prob(torch.zeros(1, 1))
    assert log_prob.isfinite()
    assert torch.autograd.grad(log_prob, far)[0].isfinite().all()


def test_categorical_is_its_formula_one_level_of_all_pixels_after_the_other(float64: None) -> None:
    logits, x = torch.randn(2, 5, 4 * 3, requires_grad=True), torch.tensor([[0, 3, 1], [2, 2, 0]]).repeat(3, 1)[:5]
    found = Categorical(levels=4)(logits).log_prob(x / 3)
    by_level = [logits[..., 3 * v : 3 * (v + 1)] for v in range(4)]
    expected = sum(torch.where(x == v, level, 0.0) for v, level in enumerate(by_level))
    expected = (expected - sum(level.exp() for level in by_level).log()).sum(-1)  # type: ignore[union-attr]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    weight = torch.randn(2, 5)
    probable = torch.stack([level.exp() for level in by_level], -2)
    probable = probable / probable.sum(-2, keepdim=True)  # (2, 5, V, P)
    chosen = (x.unsqueeze(-2) == torch.arange(4)[:, None]).double()
    by_hand = (weight[..., None, None] * (chosen - probable)).flatten(-2)
    (gradient,) = torch.autograd.grad((weight * found).sum(), logits)
    torch.testing.assert_close(gradient, by_hand, rtol=1e-10, atol=1e-12)


OF_SEVERAL_KINDS = {
    "Gaussian": Gaussian(),
    "Categorical": Categorical(levels=5),
    "DiscretizedLogistic": DiscretizedLogistic(levels=5),
}


@pytest.mark.parametrize("name", OF_SEVERAL_KINDS)
def test_numbers_of_each_kind_lie_together_as_channels_do(name: str, float64: None) -> None:
    """What a pixel has of each kind lies P apart."""
    likelihood, pixels = OF_SEVERAL_KINDS[name].double(), 3
    kinds = torch.randn(likelihood.outputs(pixels)).unflatten(0, (-1, pixels))
    x = torch.tensor([0.0, 0.25, 1.0])
    whole = likelihood(kinds.flatten()).log_prob(x)
    each = [likelihood(kinds[:, p]).log_prob(x[p : p + 1]) for p in range(pixels)]
    torch.testing.assert_close(whole, torch.stack(each).sum(), rtol=1e-12, atol=0)


def test_pixels_between_the_levels_are_refused(of_levels: Callable[[int], Categorical | DiscretizedLogistic]) -> None:
    likelihood = of_levels(17)
    distribution = likelihood(torch.zeros(1, likelihood.outputs(2)))
    assert distribution.log_prob(torch.tensor([[3 / 16, 1.0]])).isfinite()
    for wrong in (0.5 / 16, -1 / 16, 17 / 16):
        with pytest.raises(ValueError, match="support"):
            distribution.log_prob(torch.tensor([[wrong, 0.0]]))


def test_every_likelihood_is_found_and_says_what_pixels_it_is_for() -> None:
    assert (
        set(LIKELIHOODS)
        == {*("Bernoulli", "ContinuousBernoulli", "Gaussian", "Categorical", "DiscretizedLogistic")}
        <= set(vars(likelihoods))
    )
    assert all(part.binarisations for part in LIKELIHOODS.values())
