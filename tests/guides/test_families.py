"""Every amortised family of real latents: its formula, its draws, its bounds with every prior."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from aevb.guides import AmortizedFlow, AmortizedLowRank, Guide
from aevb.inference import IWAE, L_A, L_B, L_B_mixed, evaluate, fit
from aevb.models import MLP, VAE, Bernoulli, InputError, VampPrior
from aevb.parts import AMORTIZED, PRIORS

FAMILIES: dict[str, dict[str, Any]] = {
    "AmortizedNormal": {},
    "AmortizedLaplace": {},
    "AmortizedStudentT": {"degrees": 20.0},
    "AmortizedMultivariateNormal": {},
    "AmortizedLowRank": {"rank": 2},
    "AmortizedFlow": {"layers": 2, "hidden": 8, "context": 4},
    "AmortizedFlow:planar": {"transform": "planar", "layers": 3},
}
ANALYTIC = {
    "AmortizedNormal": {"StandardNormal", "LearnedNormal", "LearnedNormal:full", "Laplace"},
    "AmortizedLaplace": {"StandardNormal", "LearnedNormal", "Laplace"},
    "AmortizedStudentT": {"StandardNormal", "LearnedNormal"},
    "AmortizedMultivariateNormal": {"StandardNormal", "LearnedNormal", "LearnedNormal:full"},
    "AmortizedLowRank": {"StandardNormal", "LearnedNormal", "LearnedNormal:full"},
    "AmortizedFlow": set(),
    "AmortizedFlow:planar": set(),
}
"""Which KL has a closed form; every other is sampled."""


def test_every_amortised_family_is_here() -> None:
    assert {name.partition(":")[0] for name in FAMILIES} == AMORTIZED.keys() - {
        "AmortizedBernoulli",
        "AmortizedPowerSpherical",
    }


def make(family: str, pixels: int = 6, latents: int = 3) -> Guide:
    part: Any = AMORTIZED[family.partition(":")[0]]
    sizes = [latents] if part is AmortizedFlow else []
    return part(MLP(pixels, 5, part.outputs(latents, **FAMILIES[family])), *sizes, **FAMILIES[family])


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def test_the_multivariate_normal_is_its_formula(float64: None) -> None:
    guide, x = make("AmortizedMultivariateNormal"), torch.randn(4, 6)
    numbers = guide.encoder(x)  # type: ignore[operator]
    for row, factor in zip(numbers, guide.encode(x).scale_tril, strict=True):
        loc, s, below = row.split((3, 3, 3))
        unit = torch.eye(3)
        unit[1, 0], unit[2, 0], unit[2, 1] = below / 3
        expected = torch.diag((1e-8 + s.exp()).sqrt()) @ unit
        torch.testing.assert_close(factor, expected)
        assert torch.equal(loc, row[:3])


def test_the_low_rank_normal_is_its_formula(float64: None) -> None:
    guide, x = make("AmortizedLowRank"), torch.randn(4, 6)
    numbers = guide.encoder(x).reshape(4, 4, 3)  # type: ignore[operator]
    mu, s, u = numbers[:, 0], numbers[:, 1], numbers[:, 2:].transpose(1, 2)
    sigma = torch.diag_embed((1e-8 + s.exp()).sqrt())
    covariance = sigma @ (torch.eye(3) + u @ u.transpose(1, 2) / 3) @ sigma
    torch.testing.assert_close(guide.encode(x).covariance_matrix, covariance)
    torch.testing.assert_close(guide.encode(x).mean, mu)


@pytest.mark.parametrize(
    "call",
    [
        lambda: AmortizedLowRank.outputs(10, rank=11),
        lambda: AmortizedLowRank(MLP(6, 10 * (2 + 11)), rank=11).encode(torch.zeros(1, 6)),
    ],
    ids=["outputs", "encode"],
)
def test_a_rank_above_the_number_of_latents_is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"at most the number of latents, 10; it is 11.\n  Use AmortizedMultivariate"):
        call()
    guide = AmortizedLowRank(MLP(6, AmortizedLowRank.outputs(10, rank=10)), rank=10)
    assert guide.encode(torch.zeros(1, 6)).event_shape == (10,)  # type: ignore[attr-defined]


def test_without_dependence_they_are_the_normal(float64: None) -> None:
    x, z = torch.randn(4, 6), torch.randn(4, 3)
    normal = make("AmortizedNormal")
    for family in ("AmortizedMultivariateNormal", "AmortizedLowRank"):
        guide = make(family)
        with torch.no_grad():
            for own, theirs in zip(guide.encoder.parameters(), normal.encoder.parameters(), strict=True):  # type: ignore[union-attr,operator]
                own.zero_()
                own[: len(theirs)] = theirs
        torch.testing.assert_close(guide.encode(x).log_prob(z), normal.encode(x).log_prob(z), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("transform", ["iaf", "planar"])
@pytest.mark.parametrize("latents", [2, 3])
def test_a_flow_is_its_change_of_variables(transform: str, latents: int, float64: None) -> None:
    """log q(z) = log q(u) - log abs det dz/du, the determinant by differentiating z."""
    guide = AmortizedFlow(MLP(6, AmortizedFlow.outputs(latents, transform=transform)), latents, transform=transform)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    q: Any = guide.encode(torch.randn(6))
    u = q.base_dist.sample()

    def bend(u: Tensor) -> Tensor:
        for layer in q.transforms:
            u = layer(u)
        return u

    expected = q.base_dist.log_prob(u) - torch.autograd.functional.jacobian(bend, u).slogdet().logabsdet
    torch.testing.assert_close(q.log_prob(bend(u)), expected)


@torch.no_grad()
def test_the_mean_of_a_flow_is_that_of_its_draws(float64: None) -> None:
    """Of 100 draws: to 4.5 of their standard errors."""
    q = make("AmortizedFlow").encode(torch.randn(4, 6))
    draws = q.sample((100_000,))
    error = (draws.var(0) * (1 / 100 + 1e-5)).sqrt()
    assert ((q.mean - draws.mean(0)).abs() < 4.5 * error).all()
    assert (q.variance / draws.var(0)).log().abs().max() < 4.5 * (2 / 99) ** 0.5


@pytest.mark.parametrize("family", [name for name in FAMILIES if "planar" not in name])
@torch.no_grad()
def test_draws_are_of_the_density(family: str, float64: None) -> None:
    """By importance sampling, E_q f = E_r f q / r, for f = 1, z_d and z_d z_e, to 4.5 standard errors."""
    q = make(family, latents=2).encode(torch.randn(6))
    proposal = dist.StudentT(2.5, q.mean, 2 * q.variance.sqrt()).to_event(1)

    def moments(z: Tensor) -> Tensor:
        z = (z - q.mean) / q.variance.sqrt()
        return torch.stack([torch.ones(len(z)), z[:, 0], z[:, 1], z[:, 0] * z[:, 1], (z[:, 0].abs() < 1) * 1.0], 1)

    own = moments(q.sample((400_000,)))
    other = proposal.sample((400_000,))
    weighted = moments(other) * (q.log_prob(other) - proposal.log_prob(other)).exp()[:, None]
    error = (own.var(0) / len(own) + weighted.var(0) / len(weighted)).sqrt()
    assert ((own.mean(0) - weighted.mean(0)).abs() <= 4.5 * error).all()
    assert error.max() < 0.02


def test_a_gradient_reaches_every_output(family: str, float64: None) -> None:
    guide = make(family)
    q = guide.encode(torch.randn(4, 6))
    z = q.rsample()
    (q.log_prob(z).sum() + (z * torch.randn(4, 3)).sum()).backward()
    for parameter in guide.encoder.parameters():  # type: ignore[union-attr]
        assert (parameter.grad != 0).any(-1).all() if parameter.grad is not None else False
    for parameter in guide.parameters():  # where masked, of an autoregressive network, there is none
        assert parameter.grad is not None
        assert parameter.grad.any()


def priors() -> dict[str, Callable[[], Any]]:
    special = ("FactorialBernoulli", "HypersphericalUniform", "VampPrior")
    named = {name: (lambda part=part: part(3)) for name, part in PRIORS.items() if name not in special}
    full: Any = PRIORS["LearnedNormal"]
    return named | {"LearnedNormal:full": lambda: full(3, covariance="full")}


def test_a_copy_by_its_state_is_the_same(family: str) -> None:
    guide, other, x = make(family), make(family), torch.randn(4, 6)
    other.load_state_dict(guide.state_dict())
    pair = copy.deepcopy(guide), other
    draws = []
    for q in (guide.encode(x), *(each.encode(x) for each in pair)):
        torch.manual_seed(1)
        draws.append(q.rsample())
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(draws[0], draws[2])


def test_a_mixture_of_planar_flows_is_refused() -> None:
    with pytest.raises(InputError, match="AmortizedFlow have one only where they drew"):
        VampPrior(3, components=4).attach(make("AmortizedFlow:planar"), torch.rand(4, 6))


@pytest.mark.parametrize("prior", [*priors(), "VampPrior"])
def test_every_prior_goes_with_every_family(family: str, prior: str) -> None:
    """Fifty steps raise the bound of twenty data by more than three standard errors, by every kind of bound; the KL is
    taken in closed form where there is one, and L_B says so where there is none."""
    if (family, prior) == ("AmortizedFlow:planar", "VampPrior"):
        return  # refused, as shown above
    x = (torch.rand(20, 6) < torch.linspace(0.05, 0.95, 6)).float()
    for estimator in (L_A(), IWAE(samples=3), L_B() if prior in ANALYTIC[family] else L_B_mixed()):
        torch.manual_seed(0)
        guide = make(family)
        p = VampPrior(3, components=4).attach(guide, x[:4]) if prior == "VampPrior" else priors()[prior]()
        model = VAE(p, MLP(3, 5, 6), Bernoulli())
        before = evaluate(model, guide, x, samples=100, seed=0).elbo
        history = fit(model, guide, x, estimator=estimator, epochs=50, batch_size=20, learning_rate=0.01)
        gain = evaluate(model, guide, x, samples=100, seed=0).elbo - before
        assert gain.mean() > 3 * gain.std() / math.sqrt(len(gain)), type(estimator).__name__
        path = {"L_A": "monte-carlo", "IWAE": "none", "L_B": "analytic", "L_B_mixed": "monte-carlo"}
        assert history.kl_path == {"z": path[type(estimator).__name__]}
    if prior not in ANALYTIC[family]:
        with pytest.raises(InputError, match="has none"):
            fit(model, guide, x, estimator="L_B", epochs=1)
