"""Estimators on latents that have no path, against enumeration of everything that can be drawn."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch import Tensor, nn

from aevb.guides import AmortizedBernoulli
from aevb.inference import (
    IWAE,
    L_A,
    L_B,
    REINFORCE,
    RWS,
    STL,
    VIMCO,
    DReG,
    Estimator,
    L_B_mixed,
    Renyi,
    WakeSleep,
    WakeWake,
    fit,
)
from aevb.inference.estimators.vimco import _without_each
from aevb.models import MLP, BernoulliVAE, FactorialBernoulli, Gaussian, InputError, Program

K = 4.5
NOISE = 0.5


class Model(Program):
    """p(a) p(b) p(x|a, b): two binary latents, a normal observation."""

    def __init__(self) -> None:
        super().__init__()
        self.prior = nn.Parameter(torch.tensor([0.4, -0.3]))
        self.weight = nn.Parameter(torch.tensor([1.0, -0.5]))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Bernoulli(logits=self.prior[0]))
            b = pyro.sample("b", dist.Bernoulli(logits=self.prior[1]))
            pyro.sample("x", dist.Normal(self.weight[0] * a + self.weight[1] * b, NOISE), obs=x)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        prior = dist.Bernoulli(logits=self.prior).log_prob(z).sum(-1)
        return prior + dist.Normal(z @ self.weight, NOISE).log_prob(x)


class Guide(Program):
    """q(a|x) q(b|a, x)."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.3, -0.8]))
        self.slope = nn.Parameter(torch.tensor([0.5, 0.7]))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Bernoulli(logits=self.logits[0] + self.slope[0] * x))
            pyro.sample("b", dist.Bernoulli(logits=self.logits[1] + self.slope[1] * a))

    def log_q(self, x: Tensor, z: Tensor) -> Tensor:
        a = dist.Bernoulli(logits=self.logits[0] + self.slope[0] * x).log_prob(z[..., 0])
        return a + dist.Bernoulli(logits=self.logits[1] + self.slope[1] * z[..., 0]).log_prob(z[..., 1])


STATES = ((0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0))
X = (0.4, -0.2, 1.1)


@pytest.fixture
def pair(float64: None) -> tuple[Model, Guide, Tensor]:
    return Model(), Guide(), torch.tensor(X)


def enumerated(
    model: Model, guide: Guide, x: Tensor, k: int, value: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """E of ``value(log w, log q)``, each ``(k, B)``, over all 4^k draws: itself, and with the probabilities held."""
    total = held = torch.zeros(len(x))
    for states in itertools.product(STATES, repeat=k):
        z = torch.tensor(states)[:, None, :]
        log_q = guide.log_q(x, z)
        probability = log_q.sum(0).exp()
        result = value(model.log_joint(x, z) - log_q, log_q)
        total, held = total + probability * result, held + probability.detach() * result
    return total, held


def elbo(log_w: Tensor, _: Tensor) -> Tensor:
    return log_w.mean(0)


def iwae(log_w: Tensor, _: Tensor) -> Tensor:
    return log_w.logsumexp(0) - math.log(len(log_w))


def renyi(log_w: Tensor, _: Tensor) -> Tensor:
    return 2 * ((0.5 * log_w).logsumexp(0) - math.log(len(log_w)))


def gradients(value: Tensor, *programs: nn.Module) -> Tensor:
    parameters = [p for program in programs for p in program.parameters()]
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return torch.cat([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)])


def check_gradient(estimator: Estimator, model: Model, guide: Guide, x: Tensor, expected: Tensor) -> None:
    """The mean of 200 gradients, each of 300 copies of the data: a bias of 0.02 in gradients up to 1 would be seen."""
    many = x.repeat(300)
    draws = torch.stack([gradients(estimator.estimate(model, guide, many).surrogate, model, guide) for _ in range(200)])
    error = draws.std(0) / len(draws) ** 0.5
    assert (K * error).max() < 0.02
    assert ((draws.mean(0) - expected).abs() <= K * error + 1e-12).all()


def check_value(estimator: Estimator, model: Model, guide: Guide, x: Tensor, expected: Tensor) -> None:
    with torch.no_grad():
        values = estimator.estimate(model, guide, x.repeat(30_000)).bound.reshape(30_000, 3)
    error = values.std(0) / len(values) ** 0.5
    assert (K * error).max() < 0.05
    assert ((values.mean(0) - expected).abs() <= K * error).all()


def test_the_oracle_is_pyros_enumeration(pair: tuple[Model, Guide, Tensor]) -> None:
    model, guide, x = pair
    ours, _ = enumerated(model, guide, x, 1, elbo)
    theirs = -TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, config_enumerate(guide), x)
    assert torch.allclose(ours.sum(), theirs, rtol=1e-12)
    assert torch.allclose(gradients(ours.sum(), model, guide), gradients(theirs, model, guide), rtol=1e-10)


@pytest.mark.parametrize(
    "estimator",
    [
        L_A(),
        L_A(samples=3),
        L_B_mixed(samples=2),
        REINFORCE(),
        REINFORCE(samples=3, baseline="others"),
        REINFORCE(samples=2, baseline="none"),
    ],
    ids=lambda e: f"{type(e).__name__}-{e.samples}-{getattr(e, 'baseline', '')}",
)
def test_the_elbo_and_its_gradient(estimator: Estimator, pair: tuple[Model, Guide, Tensor]) -> None:
    truth, _ = enumerated(*pair, 1, elbo)
    check_value(estimator, *pair, truth)
    check_gradient(estimator, *pair, gradients(truth.mean(), *pair[:2]))


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize(("make", "bound"), [(IWAE, iwae), (VIMCO, iwae), (Renyi, renyi)])
def test_many_sample_bounds_and_their_gradients(
    make: type[Estimator], bound: Any, k: int, pair: tuple[Model, Guide, Tensor]
) -> None:
    truth, _ = enumerated(*pair, k, bound)
    check_value(make(samples=k), *pair, truth)
    check_gradient(make(samples=k), *pair, gradients(truth.mean(), *pair[:2]))


def woken(log_w: Tensor, log_q: Tensor) -> Tensor:
    """sum_i v_i log q(z_i|x), v held."""
    return (log_w.softmax(0).detach() * log_q).sum(0)


def dreamt(model: Model, guide: Guide) -> Tensor:
    """E_p(z, x) log q(z|x), with p held: a sum over z, quadrature over x."""
    points, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(40))
    total = torch.zeros(())
    for state in STATES:
        z = torch.tensor(state)
        x = z @ model.weight + NOISE * points
        probability = dist.Bernoulli(logits=model.prior).log_prob(z).sum().exp()
        total = total + (probability * (weights / weights.sum())).detach() @ guide.log_q(x.detach(), z)
    return total


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize(("make", "wake"), [(WakeWake, 1.0), (RWS, 0.5), (WakeSleep, 0.0)])
def test_the_wake_sleep_family(make: type[Estimator], wake: float, k: int, pair: tuple[Model, Guide, Tensor]) -> None:
    """Value and the model's gradient are IWAE's; the guide's are the expectations of what each phase climbs."""
    model, guide, _ = pair
    truth, _ = enumerated(*pair, k, iwae)
    _, awake = enumerated(*pair, k, woken)
    objective = wake * awake.mean() + (1 - wake) * dreamt(model, guide)
    expected = torch.cat([gradients(truth.mean(), model), gradients(objective, guide)])
    check_value(make(samples=k), *pair, truth)
    check_gradient(make(samples=k), *pair, expected)


def test_the_wake_phase_tends_to_the_posterior(pair: tuple[Model, Guide, Tensor]) -> None:
    """With k = 2000 the guide's wake gradient is that of E_p(z|x) log q(z|x), to 0.01."""
    model, guide, x = pair
    z = torch.tensor(STATES)[:, None, :]
    posterior = model.log_joint(x, z).softmax(0).detach()
    expected = gradients((posterior * guide.log_q(x, z)).sum(0).mean(), guide)
    found = gradients(WakeWake(samples=2000).estimate(model, guide, x.repeat(300)).surrogate, guide)
    assert torch.allclose(found, expected, atol=0.01)
    assert expected.abs().max() > 0.05


@pytest.mark.parametrize("make", [L_B, STL, DReG])
def test_those_that_need_a_path_name_the_site_and_what_would_work(
    make: type[Estimator], pair: tuple[Model, Guide, Tensor]
) -> None:
    with pytest.raises(InputError) as error:
        make().estimate(*pair)
    assert str(error.value).startswith(f"{make.__name__} needs reparametrised latents.\n  Site 'a': Bernoulli is not.")
    named = str(error.value).partition("  Use ")[2].split(",")[0].split(" or ")
    for name in named:
        {"L_A": L_A, "L_B_mixed": L_B_mixed, "REINFORCE": REINFORCE, "VIMCO": VIMCO, "IWAE": IWAE}[name]().estimate(
            *pair
        )


def test_the_baseline_lowers_the_noise_and_is_learned_beside_the_pair(pair: tuple[Model, Guide, Tensor]) -> None:
    model, guide, x = pair
    data = x.repeat(100)

    def noise(estimator: Estimator) -> float:
        draws = [gradients(estimator.estimate(model, guide, x).surrogate, guide) for _ in range(500)]
        return torch.stack(draws).var(0).sum().item()

    learned = REINFORCE()
    svi = pyro.infer.SVI(model, guide, pyro.optim.PyroOptim(torch.optim.SGD, {"lr": 0.05}), loss=learned)
    bare = noise(REINFORCE(baseline="none"))
    for _ in range(300):
        svi.step(data)
    assert noise(learned) < 0.7 * bare


def test_two_estimators_do_not_share_a_baseline(pair: tuple[Model, Guide, Tensor]) -> None:
    model, guide, x = pair
    first, second = REINFORCE(), REINFORCE()
    for estimator in (first, second):
        estimator.estimate(model, guide, x)
    assert not {id(p) for p in first.parameters().values()} & {id(p) for p in second.parameters().values()}
    assert first.fresh().parameters() == {}


def test_a_dream_needs_what_is_observed_to_be_an_argument(float64: None) -> None:
    guide = Guide()
    x = torch.tensor(X)

    def model(_: Tensor) -> None:
        with pyro.plate("data", 3):
            a = pyro.sample("a", dist.Bernoulli(0.5))
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(a - b, 1.0), obs=x * 2)

    with pytest.raises(InputError, match="site 'x' observes no argument of the pair as it is"):
        WakeSleep().estimate(model, guide, x)
    WakeWake().estimate(model, guide, x)


# --- BernoulliVAE ----------------------------------------------------------------------------------------------------


@pytest.fixture
def vae(float64: None) -> tuple[BernoulliVAE, AmortizedBernoulli, Tensor]:
    model = BernoulliVAE(FactorialBernoulli(3), MLP(3, 4), Gaussian(variance="shared"))
    with torch.no_grad():
        model.prior.logits.copy_(torch.tensor([0.3, -0.5, 1.0]))
    return model, AmortizedBernoulli(MLP(4, 3)), torch.randn(5, 4)


def test_its_evidence_is_the_sum_over_all_latents(vae: tuple[BernoulliVAE, AmortizedBernoulli, Tensor]) -> None:
    model, _, x = vae
    total = torch.zeros(5)
    for state in itertools.product((0.0, 1.0), repeat=3):
        z = torch.tensor(state)
        prior = torch.sigmoid((2 * z - 1) * model.prior.logits).prod()
        scale = (model.likelihood.floor + model.likelihood.log_excess_variance.exp()).sqrt()  # type: ignore[union-attr, operator]
        total = total + prior * dist.Normal(model.decoder(z), scale).log_prob(x).sum(-1).exp()
    assert torch.allclose(model.log_evidence(x), total.log(), rtol=1e-12)
    assert torch.allclose(model.posterior(x).sum(-1), torch.ones(5))


def test_its_bound_is_pyros_enumeration(vae: tuple[BernoulliVAE, AmortizedBernoulli, Tensor]) -> None:
    """Pyro enumerates scalar sites: the same pair with a site for each latent."""
    model, guide, x = vae

    def scalars(program: Callable[[Tensor], Any], given: bool) -> Any:
        def run(x: Tensor) -> None:
            with pyro.plate("data", len(x)):
                logits = program(x)
                z = [pyro.sample(f"z{d}", dist.Bernoulli(logits=logits[..., d])) for d in range(3)]
                if given:
                    code = torch.stack(torch.broadcast_tensors(*z), -1)
                    pyro.sample("x", model.decode(code), obs=x)

        return run

    generative = scalars(lambda x: model.prior.logits, given=True)
    inferential = config_enumerate(scalars(lambda x: guide.encoder(x), given=False))
    theirs = -TraceEnum_ELBO(max_plate_nesting=1).loss(generative, inferential, x)
    assert model.elbo(x, guide).sum().item() == pytest.approx(theirs, rel=1e-12)


def test_its_bound_is_below_its_evidence_by_the_kl_to_the_posterior(
    vae: tuple[BernoulliVAE, AmortizedBernoulli, Tensor],
) -> None:
    model, guide, x = vae
    log_q = guide.encode(x.unsqueeze(-2)).log_prob(model.states())
    gap = (log_q.exp() * (log_q - model.posterior(x).log())).sum(-1)
    assert torch.allclose(model.elbo(x, guide) + gap, model.log_evidence(x), rtol=1e-12)


@pytest.mark.parametrize("make", [REINFORCE, VIMCO, RWS, WakeWake, WakeSleep])
def test_each_trains_it(make: type[Estimator]) -> None:
    """The exact bound of data from four clusters rises by more than a nat, whatever trains the pair."""
    torch.manual_seed(0)
    centres = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    data = centres.repeat(50, 1) + 0.3 * torch.randn(200, 4)
    model = BernoulliVAE(FactorialBernoulli(3), MLP(3, 16, 4), Gaussian(variance="shared"))
    guide = AmortizedBernoulli(MLP(4, 16, 3))
    before = model.elbo(data, guide).mean().item()
    fit(model, guide, data, estimator=make(), epochs=60, batch_size=50, learning_rate=0.02)
    assert model.elbo(data, guide).mean().item() > before + 1


def test_more_latents_than_can_be_enumerated_are_refused() -> None:
    model = BernoulliVAE(FactorialBernoulli(20), MLP(20, 4), Gaussian(variance="shared"))
    with pytest.raises(InputError, match="2\\^20 values of z are too many"):
        model.log_evidence(torch.zeros(1, 4))


def test_vimcos_baseline_is_the_bound_with_the_others_geometric_mean(float64: None) -> None:
    """Weights 1, 2, 4: without the first, log of the mean of sqrt(8), 2, 4; and so on. Any would be unbiased."""
    found = _without_each(torch.tensor([[1.0], [2.0], [4.0]]).log()).squeeze(1)
    replaced = torch.tensor([[8**0.5, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 2.0, 2**0.5]])
    assert torch.allclose(found, replaced.mean(1).log(), rtol=1e-12)
