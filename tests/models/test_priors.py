"""Each prior is a density, and draws from it."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from aevb.guides import AmortizedNormal
from aevb.inference import L_A
from aevb.inference.pair import inspect
from aevb.models import (
    MLP,
    VAE,
    Bernoulli,
    FlowPrior,
    InputError,
    Laplace,
    LearnedNormal,
    Logistic,
    NormalMixture,
    Prior,
    StandardNormal,
    StudentT,
    VampPrior,
)
from aevb.models.priors.normal_mixture import MixtureOfNormals
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
    """The sphere has tests of its own, beside its posterior's."""
    assert {name.partition(":")[0] for name in (*CONTINUOUS, *JOINT)} == PRIORS.keys() - {
        "FactorialBernoulli",
        "HypersphericalUniform",
    }


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


def test_a_mixture_by_one_product_is_the_mixture_by_its_components() -> None:
    """Values and gradients, in float32 with components a thousand times narrower than they are apart."""
    loc, scale = 5 * torch.randn(50, 8), torch.logspace(-3.5, 0.5, 50)[:, None].expand(50, 8)
    logits, near = torch.randn(50), torch.randint(50, (200,))
    z = loc[near] + scale[near] * torch.randn(200, 8)
    found = []
    for make, dtype in ((MixtureOfNormals, torch.float32), (_by_components, torch.float64)):
        given = [value.to(dtype).detach().requires_grad_() for value in (logits, loc, scale, z)]
        log_prob = make(*given[:3]).log_prob(given[3])
        found.append([log_prob, *torch.autograd.grad(log_prob.sum(), given)])
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()
    ours = MixtureOfNormals(logits, loc, scale).expand((3,))
    theirs = _by_components(logits, loc, scale)
    assert torch.allclose(ours.mean, theirs.mean.expand(3, 8), rtol=1e-4)
    assert torch.allclose(ours.variance, theirs.variance.expand(3, 8), rtol=1e-4)
    assert ours.sample((2,)).shape == (2, 3, 8)
    far = MixtureOfNormals(torch.zeros(2), torch.tensor([[1e4], [1e4 + 1]]), torch.full((2, 1), 0.5))
    assert far.variance.item() == pytest.approx(0.5, rel=1e-3)  # no digits lost far out


def _by_components(logits: Tensor, loc: Tensor, scale: Tensor) -> Any:
    return dist.MixtureSameFamily(dist.Categorical(logits=logits), dist.Normal(loc, scale).to_event(1))


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


def vamp(latents: int, components: int = 3) -> Prior:
    torch.manual_seed(1)
    guide = AmortizedNormal(MLP(4, 5, 2 * latents)).double()
    return VampPrior(latents, components=components).attach(guide, torch.rand(components, 4))


JOINT: dict[str, Callable[[int], Prior]] = {
    "FlowPrior": FlowPrior,
    "FlowPrior:transform=autoregressive": lambda latents: FlowPrior(latents, transform="autoregressive"),
    "FlowPrior:transform=spline": lambda latents: FlowPrior(latents, transform="spline"),
    "VampPrior": vamp,
}
"""Priors of two latents or more."""


@pytest.fixture(params=JOINT)
def joint(request: pytest.FixtureRequest, float64: None) -> Prior:
    prior = JOINT[request.param](2).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return prior


@pytest.mark.parametrize("name", [name for name in JOINT if name.startswith("FlowPrior")])
@pytest.mark.parametrize("latents", [2, 5])
def test_a_flow_draws_from_its_density(name: str, latents: int, float64: None) -> None:
    """At z = f(u) the density is N(u; 0, I) / |det df/du|, the determinant by differentiating each coordinate."""
    prior = JOINT[name](latents).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    flow = prior()

    def draw(u: Tensor) -> Tensor:
        for transform in flow.transforms:
            u = transform(u)
        return u

    for u in torch.randn(20, latents):
        jacobian = torch.autograd.functional.jacobian(draw, u)
        expected = StandardNormal(latents).double()().log_prob(u) - jacobian.slogdet().logabsdet
        torch.testing.assert_close(prior().log_prob(draw(u).detach()), expected, rtol=1e-6, atol=1e-6)
    torch.manual_seed(2)
    z = prior().sample((3,))
    torch.manual_seed(2)
    torch.testing.assert_close(z, draw(torch.randn(3, latents)))


@torch.no_grad()
def test_a_vamp_prior_integrates_to_one_and_is_drawn_from(float64: None) -> None:
    """The mean and second moments of 100,000 draws are the density's, to 4.5 standard errors."""
    prior, z = vamp(2), torch.linspace(-12, 12, 1201)
    grid = torch.cartesian_prod(z, z)
    mass = prior().log_prob(grid).exp() * (z[1] - z[0]) ** 2
    assert mass.sum().item() == pytest.approx(1, abs=1e-6)

    def moments(z: Tensor) -> Tensor:
        return torch.stack([z[:, 0], z[:, 1], z[:, 0] ** 2, z[:, 0] * z[:, 1], z[:, 1] ** 2], 1)

    draws = moments(prior().sample((100_000,)))
    error = draws.std(0) / 100_000**0.5
    assert ((draws.mean(0) - mass @ moments(grid)).abs() < 4.5 * error).all()
    assert error.max() < 0.02


def test_a_gradient_reaches_every_parameter_of_a_joint_prior(joint: Prior) -> None:
    joint().log_prob(3 * torch.randn(400, 2)).sum().backward()
    for name, parameter in joint.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name


def test_a_joint_prior_is_the_same_by_its_state(joint: Prior) -> None:
    other = copy.deepcopy(joint)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(joint.state_dict())
    z = torch.randn(5, 2)
    torch.testing.assert_close(joint().log_prob(z), other().log_prob(z), rtol=0, atol=0)


@pytest.mark.parametrize(("transform", "apart"), [("coupling", 1e-12), ("autoregressive", 1e-12), ("spline", 0.02)])
def test_a_flow_starts_as_the_standard_normal(transform: Any, apart: float, float64: None) -> None:
    """Pyro's spline has a slope of 0.999 at its ends, four times over."""
    z = torch.randn(50, 5)
    flow = FlowPrior(5, transform=transform).double()
    torch.testing.assert_close(flow().log_prob(z), StandardNormal(5).double()().log_prob(z), rtol=0, atol=apart)


def test_a_vamp_prior_is_the_mean_of_its_guides_posteriors(float64: None) -> None:
    guide, inputs, z = AmortizedNormal(MLP(4, 5, 4)), torch.rand(3, 4), torch.randn(6, 2)
    prior = VampPrior(2, components=3).attach(guide, inputs)
    expected = torch.stack([guide.encode(u).log_prob(z).exp() for u in inputs]).mean(0).log()
    torch.testing.assert_close(prior().log_prob(z), expected)
    assert [name for name, _ in prior.named_parameters()] == ["pseudo_inputs"]


def test_black_and_white_pseudo_inputs_learn(float64: None) -> None:
    """They are held in [0, 1] with the gradient of inputs that are not held."""
    guide, z, u = AmortizedNormal(MLP(4, 5, 4)), torch.randn(6, 2), torch.tensor([[0.0, 1.0, 1.0, 0.0], [0.0] * 4])
    held, free = (VampPrior(2, components=2, bounded=b).attach(guide, u) for b in (True, False))
    gradients = [torch.autograd.grad(p().log_prob(z).sum(), p.pseudo_inputs)[0] for p in (held, free)]
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    assert (gradients[0] != 0).all()
    with torch.no_grad():
        held.pseudo_inputs.copy_(torch.tensor([[-3.0, 0.25, 1.0, 4.0], [0.5] * 4]))
    torch.testing.assert_close(held.inputs, torch.tensor([[0.0, 0.25, 1.0, 1.0], [0.5] * 4]))


def test_a_vamp_prior_whose_encoder_ignores_its_input_is_one_normal(float64: None) -> None:
    guide, z = AmortizedNormal(MLP(4, 4)), torch.randn(6, 2)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.zero_()
    prior = VampPrior(2, components=3).attach(guide, torch.rand(3, 4))
    torch.testing.assert_close(prior().log_prob(z), StandardNormal(2).double()().log_prob(z), rtol=1e-7, atol=1e-7)


def test_a_vamp_prior_trains_its_guide_once(float64: None) -> None:
    """One entry for each of the guide's parameters, whose gradient is that of the whole bound, the prior's part too."""
    guide = AmortizedNormal(MLP(4, 5, 4))
    model = VAE(VampPrior(2, components=3).attach(guide, torch.rand(3, 4)), MLP(2, 5, 4), Bernoulli())
    x = (torch.rand(7, 4) < 0.5).double()
    pair = inspect(model, guide, (x,))
    assert len({id(p) for p in pair.parameters.values()}) == len(pair.parameters) == len([*model.parameters()]) + 4
    assert {id(p) for p in pair.guide_parameters.values()} == {id(p) for p in guide.parameters()}
    torch.manual_seed(0)
    surrogate = L_A().estimate(model, guide, x).surrogate
    torch.manual_seed(0)
    q = guide.encode(x)
    z = q.rsample()
    by_hand = (model.decode(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)).mean()
    found = torch.autograd.grad(surrogate, [*guide.parameters(), *model.parameters()])
    expected = torch.autograd.grad(by_hand, [*guide.parameters(), *model.parameters()])
    torch.testing.assert_close(found, expected)


def test_what_a_joint_prior_needs_is_said() -> None:
    with pytest.raises(InputError, match="at least 2; here 1"):
        FlowPrior(1)
    with pytest.raises(InputError, match="attach"):
        VampPrior(2)()
    with pytest.raises(InputError, match=r"3 pseudo-inputs, a row each; these are \(2, 4\)"):
        VampPrior(2, components=3).attach(AmortizedNormal(MLP(4, 4)), torch.rand(2, 4))


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
