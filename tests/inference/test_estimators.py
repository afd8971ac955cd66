"""One contract for all estimators, on a model of which everything is known; and what is particular to each."""

import math
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import ELBO, SVI, RenyiELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor
from torch.distributions import kl_divergence

from aevb.contract import BrokenContract, check_estimator, gradients_of, integral, one_latent, scripted, two_latents
from aevb.guides import AmortizedNormal, ExactPosterior
from aevb.inference import (
    ESTIMATORS,
    IWAE,
    L_A,
    L_B,
    REINFORCE,
    RWS,
    STL,
    DReG,
    Estimate,
    Estimator,
    L_B_mixed,
    Renyi,
    WakeSleep,
    WakeWake,
    gradient_noise,
)
from aevb.models import MLP, VAE, Gaussian, InputError, LinearGaussian, StudentT

K = 4.5
"""Standard errors allowed; seeds are fixed, and a right estimator would miss it once in 150,000 comparisons."""

PYROS: dict[str, type[ELBO]] = {
    "L_A": Trace_ELBO,
    "L_B": TraceMeanField_ELBO,
    "L_B_mixed": TraceMeanField_ELBO,
    "IWAE": RenyiELBO,
}
BETAS = (1.0, 0.3, 0.0)

every_estimator = pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)
of_the_elbo = pytest.mark.parametrize("make", [L_A, L_B, L_B_mixed, STL])


def renyi(alpha: float) -> Callable[[Tensor], Tensor]:
    return lambda log_w: (((1 - alpha) * log_w).logsumexp(0) - math.log(len(log_w))) / (1 - alpha)


def iwae(log_w: Tensor) -> Tensor:
    return renyi(0.0)(log_w)


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


@every_estimator
def test_it_keeps_the_contract(make: type[Estimator]) -> None:
    """Values and gradients by quadrature, one latent site and two, batches, subsampling, reach, extremes."""
    check_estimator(make, bound=renyi(0.5) if make is Renyi else None)


@pytest.mark.parametrize("make", [L_A, IWAE, DReG])
def test_it_keeps_the_contract_with_one_sample(make: type[Estimator]) -> None:
    check_estimator(make, samples=1)


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 1.0, 2.0])
def test_renyi_keeps_the_contract_at_any_alpha(alpha: float) -> None:
    bound = (lambda log_w: log_w.mean(0)) if alpha == 1 else renyi(alpha)
    check_estimator(lambda **settings: Renyi(alpha=alpha, **settings), bound=bound)


@pytest.mark.parametrize("baseline", ["none", "others"])
def test_reinforce_keeps_the_contract_with_any_baseline(baseline: Any) -> None:
    check_estimator(lambda **settings: REINFORCE(baseline=baseline, **settings))


class WrongAmongMany(IWAE):
    """One weight for the whole batch, as Pyro's reweighted wake-sleep has it."""

    def estimate(self, *args: Any) -> Estimate:
        estimate = super().estimate(*args)
        object.__setattr__(estimate, "bound", estimate.bound.mean().expand_as(estimate.bound))
        return estimate


class NoScore(IWAE):
    """IWAE's guide gradient without the score, and without DReG's squares."""

    def estimate(self, *args: Any) -> Estimate:
        estimate = super().estimate(*args)
        draws = self.draw(*args)
        log_w = draws.log_weights()
        score, _ = draws.log_q_at_fixed_z()
        surrogate = (log_w.detach().softmax(0) * (log_w + score)).sum(0).mean()
        object.__setattr__(estimate, "surrogate", surrogate)
        return estimate


class ForgetsTheModel(L_A):
    """Trains the guide alone."""

    def estimate(self, model: Any, guide: Any, *args: Any) -> Estimate:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        try:
            return super().estimate(model, guide, *args)
        finally:
            for parameter in model.parameters():
                parameter.requires_grad_(True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("WrongSign", "the value at beta = 1 is"),
        ("HalfGradient", "the gradient of 'weight' at beta = 1 is"),
        ("WrongAmongMany", "the value at beta = 1 is"),
        ("NoScore", "the gradient of 'encoder.0.weight' at beta = 1 is"),
        ("ForgetsTheModel", "the gradient of 'weight' at beta = 1 is"),
    ],
)
def test_the_contract_fails_a_wrong_estimator_by_name(wrong: str, message: str) -> None:
    with pytest.raises(BrokenContract, match=f"{wrong}: {message}"):
        check_estimator(globals()[wrong])


# --- closed forms on two latents -------------------------------------------------------------------------------------


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


@of_the_elbo
@pytest.mark.parametrize("beta", BETAS)
def test_value_is_the_closed_form(
    make: type[Estimator], beta: float, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    check_value(make, oracle, guide, x, beta)


@of_the_elbo
@pytest.mark.parametrize("beta", BETAS)
def test_gradient_is_the_one_written_by_hand(
    make: type[Estimator], beta: float, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    check_gradient(make, oracle, guide, x, beta)


class WrongSign(L_A):
    """log p(x, z) + log q(z|x)."""

    def draw(self, *args: Any, **how: Any) -> Any:
        draws = super().draw(*args, **how)
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


@pytest.mark.parametrize("name", PYROS)
@pytest.mark.parametrize("samples", [1, 7])
def test_it_is_pyros_own_in_nats_per_datum(
    name: str, samples: int, oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    """Draw by draw, value and gradient. Pyro weighs importance samples of a single datum rightly, so it gets one."""
    x, make = x[:1] if name == "IWAE" else x, ESTIMATORS[name]
    theirs = PYROS[name](num_particles=samples, vectorize_particles=True, max_plate_nesting=1)
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
    """Three hundred steps raise the bound, and it stays below the evidence."""
    estimator = make(samples=max(make().samples, 1))
    svi = SVI(oracle, guide, pyro.optim.Adam({"lr": 0.02}), loss=estimator)
    losses = [svi.step(x) for _ in range(300)]
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
    assert calls == [(5, 4)] * (2 if make in (WakeSleep, RWS) else 1)  # dreams are encoded too


@every_estimator
def test_it_says_its_target(make: type[Estimator]) -> None:
    target = make().target
    assert target.side == "below"
    if make().has_beta:
        assert make(beta=0.5).target.side == "either"
        assert make(beta=0.5).target.bound == f"{target.bound}, beta=0.5"
    assert Renyi(alpha=-1.0).target.side == "either"


@every_estimator
def test_global_latents_work_or_are_refused(make: type[Estimator], float64: None) -> None:
    """Two global weights, N = 4 data: the sum over data of the bound is Pyro's ELBO of all."""
    model, guide = global_pair()
    x = torch.randn(4)
    if make not in (L_A, L_B, L_B_mixed, STL, REINFORCE):
        with pytest.raises(InputError, match=r"the latents \['w'\] are shared by all data"):
            make().estimate(model, guide, x)
        return
    settings: dict[str, Any] = {"baseline": "none"} if make is REINFORCE else {}
    for samples in (1, 6):
        theirs = PYROS.get(make.__name__, Trace_ELBO)(
            num_particles=samples, vectorize_particles=True, max_plate_nesting=1
        )
        torch.manual_seed(3)
        estimate = make(samples=samples, **settings).estimate(model, guide, x)
        torch.manual_seed(3)
        assert -estimate.bound.sum().item() == pytest.approx(theirs.loss(model, guide, x), rel=1e-12)
        assert estimate.kl.abs().max() == 0


@pytest.mark.parametrize("make", [L_A, L_B, L_B_mixed, STL, REINFORCE])
def test_the_gradient_for_global_latents_is_the_closed_form(make: type[Estimator], float64: None) -> None:
    """d/dm and d/ds of E log p(x|w) / N - KL / N, by hand, w ~ N(m, s^2) twice, x ~ N(w1 + w2, 1), m = 1, s = 1/2."""
    model, guide = global_pair()
    x = torch.tensor([0.3, -0.2, 1.0, 2.0])
    loc, log_scale = global_pair.parameters  # type: ignore[attr-defined]
    along_loc = (x.mean() - 2.0) - 1.0 / 4
    along_log_scale = (-0.25) + (1 - 0.25) / 4
    settings: dict[str, Any] = {"baseline": "others"} if make is REINFORCE else {}
    draws = [
        torch.cat(
            torch.autograd.grad(make(samples=100, **settings).estimate(model, guide, x).surrogate, [loc, log_scale])
        )
        for _ in range(1000)
    ]
    expected = torch.stack([along_loc, along_loc, torch.tensor(along_log_scale), torch.tensor(along_log_scale)])
    check_mean(torch.stack(draws), expected, visible=0.05)


def global_pair() -> tuple[Callable[[Tensor], None], Callable[[Tensor], None]]:
    """Two weights that all data share."""
    loc, log_scale = torch.ones(2, requires_grad=True), torch.full((2,), math.log(0.5), requires_grad=True)
    global_pair.parameters = loc, log_scale  # type: ignore[attr-defined]

    def model(x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w.sum(-1), 1.0), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(loc, log_scale.exp()).to_event(1))

    return model, guide


# --- laws ------------------------------------------------------------------------------------------------------------


def exact_pair(scale: float = 1.0, shift: float = 0.0) -> tuple[LinearGaussian, AmortizedNormal, Tensor]:
    """One datum, two latents with W'W diagonal, and a guide at the exact posterior, widened and shifted in its sd."""
    model = LinearGaussian(torch.tensor([[1.0, 0.5], [-0.5, 1.0]]), torch.tensor([0.1, -0.2]), 0.8)
    x = torch.tensor([[0.7, -0.4]])
    with torch.no_grad():
        posterior = model.posterior(x)
        variance = posterior.variance[0]
        mean = posterior.loc[0] + shift * variance.sqrt()
        guide = AmortizedNormal(MLP(2, 4), floor=1e-30)
        guide.encoder[0].weight.zero_()  # type: ignore[operator, union-attr]
        guide.encoder[0].bias.copy_(torch.cat([mean, (scale**2 * variance).log()]))  # type: ignore[operator, union-attr]
    return model, guide, x


@pytest.mark.parametrize("samples", [1, 5])
@pytest.mark.parametrize("make", [STL, DReG])
def test_without_the_score_the_guides_gradient_vanishes_at_the_posterior(
    make: type[Estimator], samples: int, float64: None
) -> None:
    model, guide, x = exact_pair()
    gradient = gradients_of(make(samples=samples).estimate(model, guide, x).surrogate, guide)
    noisy = gradients_of(L_A(samples=samples).estimate(model, guide, x).surrogate, guide)
    assert max(g.abs().max() for g in gradient.values()) < 1e-12
    assert max(g.abs().max() for g in noisy.values()) > 1e-2


@pytest.mark.parametrize("make", [STL, DReG])
def test_it_vanishes_with_two_latents_that_depend_on_each_other(make: type[Estimator], float64: None) -> None:
    """The exact posterior of a chain a -> b, x: the guide draws a given x and then b given a and x."""
    prior_b, noise = 0.6, 0.8
    gain = torch.zeros((), requires_grad=True)
    w = torch.linalg.inv(torch.tensor([[1 + prior_b**2, -prior_b], [-prior_b, 1.0]]))  # covariance of a and b
    c = torch.tensor([1.0, -0.7])
    s = w - torch.outer(w @ c, w @ c) / (c @ w @ c + noise**2)  # posterior covariance
    m = w @ c / (c @ w @ c + noise**2)  # posterior mean, per unit of x

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(prior_b * a, 1.0))
            pyro.sample("x", dist.Normal(c[0] * a + c[1] * b, noise), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(m[0] * x + gain, s[0, 0].sqrt()))
            slope = s[0, 1] / s[0, 0]
            spread = (s[1, 1] - s[0, 1] ** 2 / s[0, 0]).sqrt()
            pyro.sample("b", dist.Normal(m[1] * x + slope * (a - m[0] * x) + gain, spread))

    x = torch.tensor([0.8, -1.1])
    estimate = make(samples=3).estimate(model, guide, x)
    assert estimate.bound.std() > 0
    assert torch.autograd.grad(estimate.surrogate, gain)[0].abs() < 1e-12


def test_the_bounds_are_in_order(float64: None) -> None:
    """ELBO <= IWAE_2 <= IWAE_3 <= log p(x), and Renyi's between, all by quadrature; strictly, the guide being off."""
    pair = one_latent()
    elbo = integral(pair, lambda log_w: log_w.mean(0), 1, 1.0)
    two, three, half = (integral(pair, f, k, 1.0) for f, k in ((iwae, 2), (iwae, 3), (renyi(0.5), 2)))
    evidence = pair.model.log_evidence(pair.x)
    for low, high in ((elbo, half), (half, two), (two, three), (three, evidence)):
        assert (low < high - 1e-3).all()
    assert torch.allclose(elbo, pair.model.elbo(pair.x, pair.guide), rtol=1e-12)


@pytest.mark.parametrize("make", ["one_latent", "two_latents"])
def test_the_quadrature_has_converged(make: str, float64: None) -> None:
    """Against a rule of other nodes, by Monte Carlo with a million draws: to 0.002 nats."""
    pair = {"one_latent": one_latent, "two_latents": two_latents}[make]()
    noise = torch.randn(2, 500_000, len(pair.x), pair.latents)
    log_w = pair.log_weights(noise, 1.0)
    error = iwae(log_w).std(0) / 500_000**0.5
    assert (4.5 * error < 0.02).all()
    assert ((iwae(log_w).mean(0) - integral(pair, iwae, 2, 1.0)).abs() < 4.5 * error).all()


@pytest.mark.parametrize("make", [IWAE, Renyi, DReG, RWS, WakeWake, WakeSleep])
def test_with_one_sample_the_value_is_l_a_draw_by_draw(
    make: type[Estimator], oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    torch.manual_seed(1)
    theirs = L_A().estimate(oracle, guide, x)
    torch.manual_seed(1)
    ours = make(samples=1).estimate(oracle, guide, x)
    assert torch.equal(ours.bound, theirs.bound)
    if make is IWAE:
        own, other = (gradients_of(estimate.surrogate, guide) for estimate in (ours, theirs))
        assert all(torch.allclose(own[name], other[name], rtol=1e-12) for name in own)


def test_with_one_sample_dreg_is_sticking_the_landing(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    found = []
    for make in (DReG, STL):
        torch.manual_seed(1)
        found.append(gradients_of(make(samples=1).estimate(oracle, guide, x).surrogate, guide))
    assert all(torch.allclose(found[0][name], found[1][name], rtol=1e-10) for name in found[0])


def test_signal_to_noise_follows_its_power_laws(float64: None) -> None:
    """Rainforth et al. (2018), Tucker et al. (2018): slopes -1/2, +1/2, +1/2 against k, to 0.1.

    In the regime where they hold: two latents, one datum, a guide 1.2 times as wide as the posterior and off by 0.3 of
    its standard deviations, k from 8 to 512; IWAE's mean is taken from DReG's draws.
    """
    model, guide, x = exact_pair(scale=1.2, shift=0.3)
    ks = (8, 64, 512)
    rows = {
        (row.estimator, row.part): row
        for k in ks
        for row in gradient_noise(
            model, guide, x, {f"IWAE {k}": IWAE(samples=k), f"DReG {k}": DReG(samples=k)}, draws=1000, effort=1, seed=k
        )
    }

    def slope(name: str, part: str) -> float:
        """Least squares of log SNR against log k."""
        log_k = torch.tensor(ks).double().log()
        log_snr = torch.tensor([rows[f"{name} {k}", part].snr for k in ks]).double().log()
        centred = log_k - log_k.mean()
        return float((centred @ log_snr) / (centred @ centred))

    assert slope("IWAE", "guide") == pytest.approx(-0.5, abs=0.1)
    assert slope("IWAE", "model") == pytest.approx(0.5, abs=0.1)
    assert slope("DReG", "guide") == pytest.approx(0.5, abs=0.1)


# --- what is particular ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 3])
def test_l_a_has_no_variance_at_the_exact_posterior(oracle: LinearGaussian, x: Tensor, samples: int) -> None:
    bound = L_A(samples=samples).estimate(oracle, ExactPosterior(oracle), x).bound
    assert torch.allclose(bound, oracle.log_evidence(x), rtol=1e-12)


def test_evidence_is_bound_plus_kl_to_the_posterior_draw_by_draw(
    oracle: LinearGaussian, guide: AmortizedNormal, x: Tensor
) -> None:
    noise = torch.randn(5, 2)
    bound = L_A().estimate(oracle, scripted(guide, noise), x).bound
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


def test_l_b_without_a_closed_form_names_site_and_distributions(guide: AmortizedNormal, x: Tensor) -> None:
    model = VAE(StudentT(2), MLP(2, 3), Gaussian(variance="shared")).double()
    with pytest.raises(InputError) as error:
        L_B().estimate(model, guide, x)
    assert str(error.value) == (
        "L_B needs a closed-form KL at every latent site.\n"
        "  Site 'z': KL(Normal || StudentT) has none.\n"
        "  Use L_B_mixed, which samples the KL of such sites, or L_A, which samples all."
    )


def test_l_b_mixed_takes_each_site_as_it_can(float64: None) -> None:
    """One site with a closed form and one without: the KL of the first is exact, of the second sampled."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.StudentT(4.0, 0.0, 1.0))
            pyro.sample("x", dist.Normal(a + b, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("a", dist.Normal(0.5 * x, 0.8))
            pyro.sample("b", dist.Normal(0.2 * x, 0.6))

    x = torch.tensor([0.4, -1.0])
    torch.manual_seed(1)
    mixed = L_B_mixed(samples=4).estimate(model, guide, x)
    torch.manual_seed(1)
    draws = L_A(samples=4).draw(model, guide, x)
    exact = kl_divergence(dist.Normal(0.5 * x, 0.8), dist.Normal(0.0, 1.0))
    assert mixed.kl_path == {"a": "analytic", "b": "monte-carlo"}
    assert torch.allclose(mixed.kl, exact + (draws.latents[1].log_q - draws.latents[1].log_p).mean(0), rtol=1e-12)
    with pytest.raises(InputError, match=r"Site 'b': KL\(Normal \|\| StudentT\) has none.\n  Use L_B_mixed"):
        L_B().estimate(model, guide, x)


def reversed_pair() -> tuple[Callable[[Tensor], None], Callable[[Tensor], None]]:
    """p(b) p(a|b) p(x|a), and a guide that draws a first and then b: two stochastic layers, bottom up."""

    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            b = pyro.sample("b", dist.Normal(0.0, 1.0))
            a = pyro.sample("a", dist.Normal(0.5 * b, 1.0))
            pyro.sample("x", dist.Normal(a, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.5 * x, 0.7))
            pyro.sample("b", dist.Normal(0.4 * a, 0.9))

    return model, guide


def test_a_guide_in_the_reverse_order_has_its_upper_kl_in_closed_form_and_the_lower_sampled(float64: None) -> None:
    """Given a, KL(q(b|a) || p(b)) is exact; p(a|b) depends on what the guide draws later. Value by hand."""
    model, guide = reversed_pair()
    x = torch.tensor([0.6]).repeat(200_000)
    with torch.no_grad():
        mixed, sampled = L_B_mixed().estimate(model, guide, x), L_A().estimate(model, guide, x)
    assert mixed.kl_path == {"a": "monte-carlo", "b": "analytic"}
    # a ~ N(0.3, 0.49), b = 0.4 a + 0.9 e: E log p(x|a) + E log p(a|b) + E log p(b) + H(a) + H(b|a)
    log_2pi = math.log(2 * math.pi)
    square_b = (0.4 * 0.3) ** 2 + 0.16 * 0.49 + 0.81
    square_a_b = (0.3 - 0.5 * 0.12) ** 2 + (1 - 0.5 * 0.4) ** 2 * 0.49 + 0.25 * 0.81
    entropies = 0.5 * (log_2pi + 1 + math.log(0.49)) + 0.5 * (log_2pi + 1 + math.log(0.81))
    expected = -0.5 * (3 * log_2pi + (0.6 - 0.3) ** 2 + 0.49 + square_a_b + square_b) + entropies
    for estimate in (mixed, sampled):
        check_mean(estimate.bound, torch.tensor(expected), visible=0.02)
    with pytest.raises(InputError, match=r"Site 'a': p\(a\|...\) depends on what the guide draws later"):
        L_B().estimate(model, guide, x[:3])


def test_a_model_without_the_plate_is_told_to_have_one() -> None:
    def model(x: Tensor) -> None:
        z = pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("z", dist.Normal(torch.zeros(3), 1.0).to_event(1))

    with pytest.raises(InputError, match='no plate named "data"'):
        L_A().estimate(model, guide, torch.zeros(3))
