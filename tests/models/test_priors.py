"""Each prior is a density, and draws from it."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from aevb.models import (
    InputError,
    Laplace,
    LearnedNormal,
    Logistic,
    NormalMixture,
    Prior,
    StandardNormal,
    StudentT,
)
from aevb.parts import PRIORS

CONTINUOUS: dict[str, Callable[[int], Prior]] = {
    "StandardNormal": StandardNormal,
    "Laplace": Laplace,
    "Logistic": Logistic,
    "StudentT": StudentT,
    "StudentT:degrees=2.5": lambda latents: StudentT(latents, degrees=2.5),
    "LearnedNormal": LearnedNormal,
    "LearnedNormal:covariance=full": lambda latents: LearnedNormal(latents, covariance="full"),
    "NormalMixture:components=3": lambda latents: NormalMixture(latents, components=3),
    "NormalMixture:components=1": lambda latents: NormalMixture(latents, components=1),
}


def test_every_prior_of_real_latents_is_here() -> None:
    assert {name.partition(":")[0] for name in CONTINUOUS} == PRIORS.keys() - {"FactorialBernoulli"}


@pytest.fixture(params=CONTINUOUS)
def make(request: pytest.FixtureRequest) -> Callable[[int], Prior]:
    """A prior whose parameters are anywhere but where they start."""

    def moved(latents: int) -> Prior:
        prior = CONTINUOUS[request.param](latents).double()
        with torch.no_grad():
            for parameter in prior.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return prior

    return moved


def line(points: int = 400_001) -> Tensor:
    """From -10^5 to 10^5, dense near 0: heavy tails end far out."""
    return torch.sinh(torch.linspace(-1, 1, points) * math.asinh(1e5))


def test_its_density_integrates_to_one(make: Callable[[int], Prior], float64: None) -> None:
    z = line()
    assert torch.trapezoid(make(1)().log_prob(z[:, None]).exp(), z).item() == pytest.approx(1, abs=1e-6)


def test_its_density_of_two_latents_integrates_to_one(make: Callable[[int], Prior], float64: None) -> None:
    z = torch.sinh(torch.linspace(-1, 1, 1201) * math.asinh(300))
    grid = torch.cartesian_prod(z, z)
    density = make(2)().log_prob(grid).exp().reshape(1201, 1201)
    total = torch.trapezoid(torch.trapezoid(density, z), z).item()
    assert total == pytest.approx(1, abs=2e-3)  # of degrees 2.5 about 1e-3 lies beyond 300


def distance(prior: Prior, draws: Tensor) -> float:
    """Kolmogorov's: the largest difference of the draws' distribution function and the density's integral."""
    z = line()
    density = prior().log_prob(z[:, None]).exp()
    cumulative = torch.cat([torch.zeros(1), torch.cumulative_trapezoid(density, z)])
    draws = draws.sort().values
    place = torch.searchsorted(z, draws).clamp(1, len(z) - 1)
    share = (draws - z[place - 1]) / (z[place] - z[place - 1])
    expected = cumulative[place - 1] + share * (cumulative[place] - cumulative[place - 1])
    return (expected - torch.arange(1, len(draws) + 1) / len(draws)).abs().max().item()


@torch.no_grad()
def test_its_draws_are_of_its_density(make: Callable[[int], Prior], float64: None) -> None:
    """A false alarm in 10^6; draws that are 5 % too wide are refused."""
    prior, count = make(1), 100_000
    limit = math.sqrt(-math.log(1e-6 / 2) / 2 / count)
    draws = prior().sample((count,))[:, 0]
    assert distance(prior, draws) < limit
    middle = draws.median()
    assert distance(prior, middle + (draws - middle) * 1.05) > limit


def test_a_copy_by_its_state_is_the_same(make: Callable[[int], Prior], float64: None) -> None:
    prior, other = make(3), make(3)
    other.load_state_dict(prior.state_dict())
    z = torch.randn(5, 3)
    assert torch.equal(prior().log_prob(z), other().log_prob(z))
    assert torch.equal(copy.deepcopy(prior)().log_prob(z), prior().log_prob(z))


def test_a_gradient_reaches_every_parameter(make: Callable[[int], Prior], float64: None) -> None:
    prior = make(3)
    parameters = {n: p for n, p in prior.named_parameters() if n != "logits" or len(p) > 1}  # one weight is 1 for good
    if parameters:
        gradients = torch.autograd.grad(prior().log_prob(torch.randn(5, 3)).sum(), list(parameters.values()))
        assert all((gradient != 0).any() for gradient in gradients), parameters.keys()


AT_FIRST_STANDARD: dict[str, Callable[[int], Prior]] = {
    "LearnedNormal": LearnedNormal,
    "LearnedNormal:covariance=full": lambda latents: LearnedNormal(latents, covariance="full"),
    "NormalMixture:components=1": lambda latents: NormalMixture(latents, components=1),
}


@pytest.mark.parametrize("name", AT_FIRST_STANDARD)
def test_it_can_be_the_standard_normal(name: str, float64: None) -> None:
    z = torch.randn(50, 3)
    prior = AT_FIRST_STANDARD[name](3).double()
    torch.testing.assert_close(prior().log_prob(z), StandardNormal(3).double()().log_prob(z), rtol=0, atol=1e-12)


def test_student_t_of_many_degrees_is_nearly_normal(float64: None) -> None:
    """Up to the first term in 1 / nu, (z^4 - 2 z^2 - 1) / 4 nu for each latent; the next is of the size 1e-5."""
    z = torch.randn(50, 3).clamp(-3, 3)
    expected = StandardNormal(3).double()().log_prob(z) + ((z**4 - 2 * z**2 - 1) / 4000).sum(1)
    torch.testing.assert_close(StudentT(3, degrees=1000.0)().log_prob(z), expected, rtol=0, atol=2e-4)


def test_a_full_covariance_is_the_product_of_its_factor(float64: None) -> None:
    prior = LearnedNormal(3, covariance="full").double()
    nn.init.normal_(prior.below_diagonal)
    nn.init.normal_(prior.log_excess_variance)
    factor = prior.below_diagonal.tril(-1) + (1e-8 + prior.log_excess_variance.exp()).sqrt().diag()
    normal = torch.distributions.MultivariateNormal(prior.loc, factor @ factor.T)
    z = torch.randn(5, 3)
    torch.testing.assert_close(prior().log_prob(z), normal.log_prob(z))


def test_variances_stay_above_their_floor() -> None:
    for prior in (LearnedNormal(2, floor=0.25), NormalMixture(2, components=2, floor=0.25)):
        nn.init.constant_(prior.log_excess_variance, -1e4)
        assert torch.isfinite(prior().log_prob(torch.full((2,), 1e3)))
    assert LearnedNormal(2, floor=0.25)().variance.min() >= 0.25


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="components"):
        NormalMixture(2, components=0)
    with pytest.raises(InputError, match="degrees of StudentT is above 0 and at most 1000"):
        StudentT(2, degrees=0.0)
    with pytest.raises(InputError, match="covariance"):
        LearnedNormal(2, covariance="round")  # type: ignore[arg-type]
