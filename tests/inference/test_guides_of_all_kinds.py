"""Estimators on the guides that users have: dropout, Delta, scales, masks, flows, effect handlers."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal, AutoStructured
from pyro.infer.autoguide.effect import AutoNormalMessenger
from torch import Tensor, nn

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
    evaluate,
    fit,
)
from aevb.models import InputError

K = 4.5
Pair = tuple[Callable[..., Any], Callable[..., Any], list[Tensor]]


def means(estimator: Estimator, pair: Pair, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Mean and standard error of the gradient."""
    model, guide, parameters = pair
    found = []
    for _ in range(draws):
        surrogate = estimator.estimate(model, guide, x).surrogate
        gradients = torch.autograd.grad(surrogate, parameters, allow_unused=True)
        found.append(torch.stack([torch.zeros(()) if g is None else g for g in gradients]))
    stacked = torch.stack(found)
    return stacked.mean(0), stacked.std(0) / draws**0.5


def check_same(estimators: list[Estimator], pair: Pair, copies: int, draws: int, visible: float) -> None:
    """Estimators of one target have one gradient; the first is known to be right."""
    x = torch.tensor([0.7, -0.4]).repeat(copies)
    truth, error = means(estimators[0], pair, x, draws)
    assert truth.abs().max() > 2 * visible
    for estimator in estimators[1:]:
        mean, own = means(estimator, pair, x, draws)
        both = (error**2 + own**2).sqrt()
        assert K * both.max() < visible, f"{type(estimator).__name__} is too noisy to tell"
        assert ((mean - truth).abs() <= K * both + 1e-9).all(), type(estimator).__name__


def two_sites(inner: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None) -> Pair:
    """p(a) p(b|a) p(x|a, b), and a guide whose b follows its a, through dropout."""
    gain, mix, log_scale = (torch.tensor(v, requires_grad=True) for v in (0.6, 0.3, -0.4))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(0.5 * a, 1.0))
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        h = nn.functional.dropout(x, 0.5)
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(gain * h, 0.7))
            pyro.sample("b", dist.Normal(mix * a + 0.2 * h, log_scale.exp()))

    return model, guide, [gain, mix, log_scale]


def test_a_guide_with_noise_of_its_own_and_two_sites(float64: None) -> None:
    pair = two_sites()
    check_same([L_A(), STL(), REINFORCE(baseline="none"), L_B()], pair, copies=500, draws=600, visible=0.05)
    check_same([IWAE(samples=3), DReG(samples=3), VIMCO(samples=3)], pair, copies=500, draws=600, visible=0.05)


def one_site(wrap: Callable[[Tensor], Any]) -> Pair:
    """z under a poutine in both programs."""
    loc, log_scale = (torch.tensor(v, requires_grad=True) for v in (0.3, -0.4))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            with wrap(x):
                z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 0.8), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)), wrap(x):
            pyro.sample("z", dist.Normal(loc * x, log_scale.exp()))

    return model, guide, [loc, log_scale]


def test_a_scaled_latent(float64: None) -> None:
    """The KL weighted by poutine.scale in both programs, as Pyro's users do."""
    pair = one_site(lambda x: poutine.scale(scale=0.3))
    check_same([L_A(), L_B(), STL(), REINFORCE(baseline="none")], pair, copies=500, draws=500, visible=0.05)
    check_same([IWAE(samples=3), DReG(samples=3), VIMCO(samples=3)], pair, copies=500, draws=500, visible=0.05)
    weighed = [IWAE(samples=3, beta=0.3), DReG(samples=3, beta=0.3), VIMCO(samples=3, beta=0.3)]
    check_same([IWAE(samples=3), *weighed][1:], one_site(lambda x: poutine.scale(scale=1.0)), 500, 500, 0.05)


def test_a_masked_latent_is_still_drawn(float64: None) -> None:
    pair = one_site(lambda x: poutine.mask(mask=x > 0))
    check_same([L_A(), STL(), REINFORCE(baseline="none")], pair, copies=500, draws=500, visible=0.05)
    check_same([IWAE(samples=3), VIMCO(samples=3)], pair, copies=500, draws=500, visible=0.05)
    with pytest.raises(InputError, match=r"DReG needs one scale for all latents, and no mask.*\n  Use IWAE or VIMCO"):
        DReG().estimate(*pair[:2], torch.tensor([0.5, -0.5]))


def observe(x: Tensor) -> None:
    with pyro.plate("data", len(x)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        w = pyro.sample("w", dist.Normal(0.5 * z, 1.0))
        pyro.sample("x", dist.Normal(z + w, 0.8), obs=x)


@pytest.mark.parametrize("auto", [AutoNormal, AutoMultivariateNormal, AutoStructured, AutoDelta])
def test_pyros_own_guides(auto: Any, float64: None) -> None:
    """STL leaves a Delta's path alone; those that need a density refuse it by name rather than be wrong."""
    guide = auto(observe)
    x = torch.tensor([0.7, -0.4])
    guide(x)
    parameters = [p for p in guide.parameters() if p.requires_grad]

    def gradient(estimator: Estimator) -> tuple[Tensor, Tensor]:
        found = []
        for _ in range(100):
            surrogate = estimator.estimate(observe, guide, x).surrogate
            gradients = torch.autograd.grad(surrogate, parameters, allow_unused=True, materialize_grads=True)
            found.append(torch.cat([g.flatten() for g in gradients]))
        return torch.stack(found).mean(0), torch.stack(found).std(0) / 100**0.5

    (truth, error), (mean, own) = gradient(L_A(samples=200)), gradient(STL(samples=200))
    assert ((mean - truth).abs() <= K * (error**2 + own**2).sqrt() + 1e-9).all()
    refused = "are shared by all data|Use L_A, L_B_mixed or IWAE"
    for make in (REINFORCE, VIMCO, WakeWake, DReG):
        if auto is AutoNormal or (make is REINFORCE and auto is AutoMultivariateNormal):
            assert make(samples=2).estimate(observe, guide, x).bound.isfinite().all()
        else:
            with pytest.raises(InputError, match=refused):
                make(samples=2).estimate(observe, guide, x)


def test_an_auxiliary_draw_and_a_delta_that_carries_its_density(float64: None) -> None:
    """e ~ N(0, 1), z = m x + s e with log density -log s: as Pyro's automatic guides do it."""
    gain, log_scale = (torch.tensor(v, requires_grad=True) for v in (0.3, -0.4))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Normal(z, 0.8), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            z = gain * x + log_scale.exp() * e
            pyro.sample("z", dist.Delta(z, log_density=-log_scale.expand(z.shape)))

    check_same([L_A(), STL()], (model, guide, [gain, log_scale]), copies=500, draws=500, visible=0.05)
    for make in (DReG, REINFORCE, VIMCO, WakeWake):
        with pytest.raises(InputError, match=r"Site 'z': Delta has no log q .*\n  Use L_A, L_B_mixed or IWAE"):
            make(samples=2).estimate(model, guide, torch.ones(2))


@pytest.mark.parametrize("kind", ["affine_coupling", "planar"])
def test_flows(kind: str, float64: None) -> None:
    """A flow with an inverse goes with every estimator; one without is refused where log q is needed at a given z."""
    torch.manual_seed(0)
    flow = {"affine_coupling": lambda: T.affine_coupling(2, [8]), "planar": lambda: T.planar(2)}[kind]()
    loc, shift = torch.zeros(2, requires_grad=True), torch.tensor(0.3, requires_grad=True)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", dist.Normal(z.sum(-1), 0.8), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            base = dist.Normal(loc + shift * x[:, None], 0.8).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [flow]))

    x = torch.tensor([0.5, -1.0])
    if kind == "planar":
        for make in (STL, DReG, REINFORCE, VIMCO, WakeWake):
            with pytest.raises(InputError, match="Site 'z': TransformedDistribution has no log q of a given z"):
                make(samples=2).estimate(model, guide, x)
        assert IWAE().estimate(model, guide, x).bound.isfinite().all()
        assert evaluate(model, guide, x, estimator="STL").bound.isfinite().all()
    else:
        for estimator in (STL(), L_B_mixed(), DReG(samples=3), REINFORCE(), VIMCO(samples=3), WakeWake()):
            surrogate = estimator.estimate(model, guide, x).surrogate
            gradients = torch.autograd.grad(surrogate, [loc, *flow.parameters()])
            assert all(g.isfinite().all() for g in gradients)
        check_same([L_A(), STL(), REINFORCE(baseline="none")], (model, guide, [shift]), 300, 300, 0.1)


def test_effect_handler_guides_are_refused_where_guide_and_model_run_apart(float64: None) -> None:
    guide = AutoNormalMessenger(observe)
    for make in (REINFORCE, VIMCO, WakeSleep, STL, DReG):
        with pytest.raises(InputError, match=r"an effect-handler guide runs both\. Use L_A"):
            make(samples=2).estimate(observe, guide, torch.ones(2))


def test_deterministic_sites_are_no_latents_and_no_data(float64: None) -> None:
    gain = nn.Parameter(torch.tensor(0.3))

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            twice = pyro.deterministic("twice", 2 * z)
            pyro.sample("x", dist.Normal(twice, 0.8), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            loc = pyro.deterministic("loc", pyro.param("gain", gain) * x)
            pyro.sample("z", dist.Normal(loc, 0.8))

    def plain(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(pyro.param("gain", gain) * x, 0.8))

    x = torch.tensor([0.5, -1.0])
    fit(model, plain, x, epochs=1)
    for make in (L_A, L_B, STL, IWAE, DReG, VIMCO, WakeSleep, RWS):
        with pyro.validation_enabled(False):  # Pyro warns of the guide's
            estimate = make(samples=3).estimate(model, guide, x)
        assert set(estimate.kl_path) == {"z"}
        assert torch.autograd.grad(estimate.surrogate, gain)[0].isfinite()
    with pyro.validation_enabled(False):
        torch.manual_seed(1)
        ours = L_A().loss(model, guide, x)
        torch.manual_seed(1)
        assert ours == pytest.approx(Trace_ELBO().loss(model, guide, x) / 2, rel=1e-12)


def test_vimco_survives_a_draw_without_weight(float64: None) -> None:
    """Where x cannot have come from a draw, its weight is 0: bounds and gradients are finite, and the others' count."""
    loc = torch.tensor(0.2, requires_grad=True)

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("x", dist.Uniform(z - 1, z + 1, validate_args=False), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc * x, 1.0))

    for _ in range(20):
        estimate = VIMCO(samples=30).estimate(model, guide, torch.full((50,), 0.3))
        assert estimate.bound.isfinite().all()
        assert torch.autograd.grad(estimate.surrogate, loc)[0].isfinite()


def test_renyi_near_one_is_the_limit_in_float32() -> None:
    """alpha = 1 - 1e-5 and 1 - 1e-7 differ from L_A by less than float32 shows of a bound of -300."""
    log_w = torch.tensor([[-300.0, -310.0], [-306.0, -301.0], [-309.0, -307.0]])
    for gap in (1e-5, 1e-7, -1e-6):
        bound = Renyi(alpha=1 - gap)._bound(log_w)
        expected = (log_w.double() * gap).logsumexp(0).sub(math.log(3)) / gap
        assert torch.allclose(bound.double(), expected, atol=1e-3)


def test_evaluation_refuses_what_training_would(float64: None) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Uniform(0.0, 1.0, validate_args=False))
            pyro.sample("x", dist.Normal(z, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(0.5 * torch.ones(len(x)), 0.01))

    with pytest.raises(InputError, match=r"the prior has a density on \[0, 1\] alone"):
        evaluate(model, guide, torch.ones(3), estimator="L_B")


@pytest.mark.parametrize("make", [IWAE, VIMCO, Renyi])
def test_a_bound_on_a_sharpened_prior_is_not_below_the_evidence(make: type[Estimator]) -> None:
    assert make(samples=5, beta=2.0).target.side == "either"
    assert L_A(beta=2.0).target.side == "below"
