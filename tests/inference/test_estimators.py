"""One contract for all estimators, on a model of which everything is known; and what is particular to each."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import ELBO, SVI, Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO, config_enumerate
from torch import Tensor
from torch.distributions import kl_divergence

from aevb.guides import AmortizedNormal, ExactPosterior
from aevb.inference import ESTIMATORS, L_A, L_B, Estimate, Estimator
from aevb.models import MLP, InputError, LinearGaussian

K = 4.5
"""Standard errors allowed; seeds are fixed, and a right estimator would miss it once in 150,000 comparisons."""

PYROS: dict[str, type[ELBO]] = {"L_A": Trace_ELBO, "L_B": TraceMeanField_ELBO}
BETAS = (1.0, 0.3, 0.0)

every_estimator = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)


# --- closed forms, written by hand -----------------------------------------------------------------------------------


def closed_form(model: LinearGaussian, guide: AmortizedNormal, x: Tensor) -> tuple[Tensor, Tensor]:
    """E log p(x|z) and KL(q(z|x) || p(z)) of each datum; the KL by the formula of appendix B."""
    q, (w, b, sigma) = guide.encode(x), (model.weight, model.bias, model.scale)
    residual = x - b - q.mean @ w.T
    spread = (w**2).sum(0) @ q.variance.T  # trace of W S W'
    reconstruction = -0.5 * (
        x.shape[1] * (2 * math.pi * sigma**2).log() + (residual.square().sum(1) + spread) / sigma**2
    )
    kl = -0.5 * (1 + q.variance.log() - q.mean**2 - q.variance).sum(1)
    return reconstruction, kl


def closed_form_gradients(model: LinearGaussian, guide: AmortizedNormal, x: Tensor, beta: float) -> dict[str, Tensor]:
    """The gradient of the mean of E log p(x|z) - beta KL, each parameter's differentiated by hand."""
    with torch.no_grad():
        q, (w, b, sigma) = guide.encode(x), (model.weight, model.bias, model.scale)
        mu, variance = q.mean, q.variance
        residual = x - b - mu @ w.T
        along_mu = residual @ w / sigma**2 - beta * mu
        excess = variance - guide.floor  # d variance / d s
        along_s = excess * 0.5 * (-((w**2).sum(0)) / sigma**2 + beta * (1 / variance - 1))
        along_output = torch.cat([along_mu, along_s], 1)
        square = residual.square().sum(1) + variance @ (w**2).sum(0)
        return {
            "weight": (residual.T @ mu - w * variance.sum(0)) / sigma**2 / len(x),
            "bias": residual.mean(0) / sigma**2,
            "log_scale": (-x.shape[1] + square / sigma**2).mean(),
            "encoder.0.weight": along_output.T @ x / len(x),
            "encoder.0.bias": along_output.mean(0),
        }


def gradients(estimator: Estimator, model: LinearGaussian, guide: AmortizedNormal, x: Tensor) -> dict[str, Tensor]:
    parameters = dict(model.named_parameters()) | dict(guide.named_parameters())
    surrogate = estimator.estimate(model, guide, x).surrogate
    return dict(zip(parameters, torch.autograd.grad(surrogate, list(parameters.values())), strict=True))


def check_mean(draws: Tensor, expected: Tensor, visible: float) -> None:
    """The mean of draws, over the first dimension, is as expected within K standard errors, all below ``visible``."""
    error = draws.std(0) / len(draws) ** 0.5
    if (K * error).max() > visible:
        raise RuntimeError(f"too few draws: a bias of {(K * error).max():.3f} would not be seen")
    assert ((draws.mean(0) - expected).abs() <= K * error + 1e-12).all()


# --- the contract ----------------------------------------------------------------------------------------------------


def check_value(make: type[Estimator], model: LinearGaussian, guide: AmortizedNormal, x: Tensor, beta: float) -> None:
    """The bound and its split against closed forms: a bias of 0.05 nats in a bound of about -8 would be seen."""
    reconstruction, kl = closed_form(model, guide, x)
    with torch.no_grad():
        estimates = [make(samples=10_000, beta=beta).estimate(model, guide, x) for _ in range(100)]
    check_mean(torch.stack([e.bound for e in estimates]), reconstruction - beta * kl, visible=0.05)
    check_mean(torch.stack([e.reconstruction for e in estimates]), reconstruction, visible=0.05)
    check_mean(torch.stack([e.kl for e in estimates]), kl, visible=0.05)
    check_mean(torch.stack([e.elbo for e in estimates]), reconstruction - kl, visible=0.05)


def check_gradient(
    make: type[Estimator], model: LinearGaussian, guide: AmortizedNormal, x: Tensor, beta: float
) -> None:
    """Each gradient against the one written by hand: a bias of 0.08 in gradients of up to 6 would be seen."""
    expected = closed_form_gradients(model, guide, x, beta)
    draws = [gradients(make(samples=1000, beta=beta), model, guide, x) for _ in range(150)]
    for name, value in expected.items():
        check_mean(torch.stack([draw[name] for draw in draws]), value, visible=0.08)


@every_estimator
@pytest.mark.parametrize("beta", BETAS)
def test_value_is_the_closed_form(
    make: type[Estimator], beta: float, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    check_value(make, oracle, guide, x, beta)


@every_estimator
@pytest.mark.parametrize("beta", BETAS)
def test_gradient_is_the_one_written_by_hand(
    make: type[Estimator], beta: float, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    check_gradient(make, oracle, guide, x, beta)


class WrongSign(L_A):
    """log p(x, z) + log q(z|x)."""

    def draw(self, *args: Any) -> Any:
        draws = super().draw(*args)
        for z in draws.latents:
            object.__setattr__(z, "log_q", -z.log_q)
        return draws


class HalfGradient(L_B):
    """The right value, half of the reconstruction's gradient."""

    def estimate(self, *args: Any) -> Estimate:
        estimate = super().estimate(*args)
        half = 0.5 * estimate.reconstruction  # as if half of the pixels had been forgotten
        object.__setattr__(estimate, "surrogate", (half + half.detach() - estimate.kl).mean())
        return estimate


def test_the_contract_fails_a_wrong_value(oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor) -> None:
    with pytest.raises(AssertionError):
        check_value(WrongSign, oracle, guide, x, 1.0)


def test_the_contract_fails_a_wrong_gradient(oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor) -> None:
    check_value(HalfGradient, oracle, guide, x, 1.0)
    with pytest.raises(AssertionError):
        check_gradient(HalfGradient, oracle, guide, x, 1.0)


@every_estimator
def test_a_datum_has_the_same_bound_in_any_batch(
    make: type[Estimator], oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    noise = torch.randn(5, 2)
    whole = _with_noise(make(), oracle, guide, x, noise)
    parts = [_with_noise(make(), oracle, guide, x[i : i + 1], noise[i : i + 1]) for i in range(5)]
    assert torch.allclose(whole.bound, torch.cat([part.bound for part in parts]), rtol=1e-12)


def _with_noise(estimator: Estimator, model: Any, guide: AmortizedNormal, x: Tensor, noise: Tensor) -> Estimate:
    """An estimate in which z = mu + sigma noise."""
    normal = torch.distributions.normal._standard_normal
    torch.distributions.normal._standard_normal = lambda *_, **__: noise  # type: ignore[attr-defined]
    try:
        return estimator.estimate(model, guide, x)
    finally:
        torch.distributions.normal._standard_normal = normal  # type: ignore[attr-defined]


@every_estimator
def test_subsampling_keeps_nats_per_datum(
    make: type[Estimator], oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", 100, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", oracle.decode(z), obs=x)

    def q(x: Tensor) -> None:
        with pyro.plate("data", 100, subsample=x):
            pyro.sample("z", guide.encode(x))

    torch.manual_seed(1)
    part = make().estimate(model, q, x)
    torch.manual_seed(1)
    whole = make().estimate(oracle, guide, x)
    assert torch.allclose(part.bound, whole.bound, rtol=1e-12)
    assert torch.allclose(part.surrogate, whole.surrogate, rtol=1e-12)


@every_estimator
@pytest.mark.parametrize("samples", [1, 7])
def test_it_is_pyros_own_in_nats_per_datum(
    make: type[Estimator], samples: int, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    theirs = PYROS[make.__name__](num_particles=samples, vectorize_particles=True, max_plate_nesting=1)
    parameters = [*oracle.parameters(), *guide.parameters()]
    losses, grads = [], []
    for loss, unit in ((make(samples=samples), 1), (theirs, len(x))):
        torch.manual_seed(1)
        losses.append(float(loss.loss_and_grads(oracle, guide, x)) / unit)
        grads.append([p.grad / unit for p in parameters if p.grad is not None])
        for parameter in parameters:
            parameter.grad = None
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert all(torch.allclose(a, b, rtol=1e-10) for a, b in zip(*grads, strict=True))


@every_estimator
def test_it_is_a_loss_of_pyros_svi(
    make: type[Estimator], oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    svi = SVI(oracle, guide, pyro.optim.Adam({"lr": 0.05}), loss=make())
    losses = [svi.step(x) for _ in range(200)]
    evidence = oracle.log_evidence(x).mean().item()
    assert isinstance(svi.evaluate_loss(x), float)
    assert sum(losses[-50:]) < sum(losses[:50])
    assert -sum(losses[-50:]) / 50 < evidence


@every_estimator
def test_the_encoder_runs_once_for_all_samples(
    make: type[Estimator], oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    estimator, calls = make(samples=9), []
    estimator.estimate(oracle, guide, x)  # the first call finds how deep the plates are
    guide.encoder.register_forward_hook(lambda module, args, output: calls.append(output.shape))
    estimator.estimate(oracle, guide, x)
    assert calls == [(5, 4)]


@every_estimator
def test_float32_keeps_nine_digits_less_than_eps_of_float64_at_extremes(make: type[Estimator]) -> None:
    values = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        model = LinearGaussian(torch.eye(2) * 1e-3, torch.zeros(2), 100.0)
        guide = AmortizedNormal(MLP(2, 4))
        with torch.no_grad():
            guide.encoder[0].weight.zero_()
            guide.encoder[0].bias.copy_(torch.tensor([1.0, -1.0, -40.0, -40.0]))  # at the floor: scale 1e-4
        x = torch.tensor([[1e4, -1e4]])
        values.append(_with_noise(make(), model, guide, x, torch.ones(1, 2).to(dtype)).bound.double())
    torch.set_default_dtype(torch.float32)
    # float32 has 24 bits; the bound is a sum of a dozen terms whose largest, 1e4, is summed exactly to 1e-3.
    assert torch.allclose(values[0], values[1], rtol=12 * 2**-24)


# --- what is particular ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
def test_l_a_has_no_variance_at_the_exact_posterior(oracle: LinearGaussian, x: Tensor, samples: int) -> None:
    bound = L_A(samples=samples).estimate(oracle, ExactPosterior(oracle), x).bound
    assert torch.allclose(bound, oracle.log_evidence(x), rtol=1e-12)


def test_evidence_is_bound_plus_kl_to_the_posterior_draw_by_draw(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    noise = torch.randn(5, 2)
    bound = _with_noise(L_A(), oracle, guide, x, noise).bound
    q = guide.encode(x)
    z = q.mean + q.stddev * noise
    gap = q.log_prob(z) - oracle.posterior(x).log_prob(z)
    assert torch.allclose(bound + gap, oracle.log_evidence(x), rtol=1e-12)


def test_evidence_is_bound_plus_kl_to_the_posterior_in_closed_form(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    reconstruction, kl = closed_form(oracle, guide, x)
    q = guide.encode(x)
    full = dist.MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    gap = kl_divergence(full, oracle.posterior(x))
    assert torch.allclose(reconstruction - kl + gap, oracle.log_evidence(x), rtol=1e-10)


def test_l_b_takes_its_kl_from_appendix_b_without_noise(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    _, kl = closed_form(oracle, guide, x)
    assert torch.allclose(L_B().estimate(oracle, guide, x).kl, kl, rtol=1e-12)


def test_kl_paths_are_what_happened(oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor) -> None:
    assert L_A().estimate(oracle, guide, x).kl_path == {"z": "monte-carlo"}
    assert L_B().estimate(oracle, guide, x).kl_path == {"z": "analytic"}


def test_l_b_without_a_closed_form_names_site_and_distributions(oracle: LinearGaussian, x: Tensor) -> None:
    with pytest.raises(InputError) as error:
        L_B().estimate(oracle, ExactPosterior(oracle), x)
    assert str(error.value) == (
        "L_B needs a closed-form KL at every latent site.\n"
        "  Site 'z': KL(MultivariateNormal || Normal) has none.\n"
        "  Use L_A, which estimates it by sampling."
    )


def binary_pair() -> tuple[Callable[[Tensor], None], Callable[[Tensor], None], Tensor, Tensor]:
    """Two binary latents and a normal observation: small enough to enumerate."""
    logits = torch.tensor([0.3, -0.8], requires_grad=True)
    weight = torch.tensor([1.0, -0.5], requires_grad=True)

    def model(x: Tensor) -> None:
        pyro.param("weight", weight)
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Bernoulli(0.5))
            b = pyro.sample("b", dist.Bernoulli(0.5))
            pyro.sample("x", dist.Normal(weight[0] * a + weight[1] * b, 0.5), obs=x)

    def guide(x: Tensor) -> None:
        pyro.param("logits", logits)
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Bernoulli(logits=logits[0]))
            pyro.sample("b", dist.Bernoulli(logits=logits[1]))

    return model, guide, logits, weight


def test_l_a_is_right_for_latents_that_are_not_reparametrised(float64: None) -> None:
    model, guide, logits, weight = binary_pair()
    x = torch.tensor([0.4, -0.2, 1.1])
    enumerated = TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(model, config_enumerate(guide), x)
    expected = torch.autograd.grad(-enumerated / 3, [logits, weight])
    draws = [
        torch.cat(torch.autograd.grad(L_A(samples=100).estimate(model, guide, x).surrogate, [logits, weight]))
        for _ in range(400)
    ]
    check_mean(torch.stack(draws), torch.cat(expected), visible=0.05)  # of gradients of up to 0.4


def test_l_b_refuses_latents_that_are_not_reparametrised(float64: None) -> None:
    model, guide, _, _ = binary_pair()
    with pytest.raises(
        InputError, match=r"L_B needs reparametrised latents.\n  Site 'a': Bernoulli is not.\n  Use L_A"
    ):
        L_B().estimate(model, guide, torch.zeros(3))


def test_a_model_without_the_plate_is_told_to_have_one() -> None:
    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    with pytest.raises(InputError, match='no plate named "data"'):
        L_A().estimate(model, guide, torch.zeros(3))


def test_global_latents_are_shared_out_over_the_data(float64: None) -> None:
    """Two global weights, N = 4 data: the sum over data of the bound is Pyro's ELBO of all."""

    def model(x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w.sum(-1, keepdim=True), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(torch.ones(2), 0.5).to_event(1))

    x = torch.randn(4)
    for make in ESTIMATORS.values():
        for samples in (1, 6):
            theirs = PYROS[make.__name__](num_particles=samples, vectorize_particles=True, max_plate_nesting=1)
            torch.manual_seed(3)
            estimate = make(samples=samples).estimate(model, guide, x)
            torch.manual_seed(3)
            assert -estimate.bound.sum().item() == pytest.approx(theirs.loss(model, guide, x), rel=1e-12)
            assert estimate.kl.abs().max() == 0
    analytic = kl_divergence(dist.Normal(1.0, 0.5), dist.Normal(0.0, 1.0)) * 2 / 4
    assert L_B().estimate(model, guide, x).kl_global.item() == pytest.approx(analytic.item(), rel=1e-12)
