"""log p(x), bounds on held-out data, and what latents carry: against the oracle."""

import math
from dataclasses import replace
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from aevb.data import load
from aevb.guides import AmortizedNormal, ExactPosterior
from aevb.inference import L_B, History, active_units, evaluate, fit, kl_per_latent, log_evidence
from aevb.models import MLP, VAE, Bernoulli, InputError, LinearGaussian, StandardNormal


@pytest.mark.parametrize("samples", [1, 2, 63, 64, 65, 1000])
def test_importance_sampling_is_exact_at_the_exact_posterior(oracle: LinearGaussian, x: Tensor, samples: int) -> None:
    result = log_evidence(oracle, ExactPosterior(oracle), x, samples=samples)
    assert torch.allclose(result.values, oracle.log_evidence(x), rtol=1e-12)
    assert torch.allclose(result.effective_sample_sizes, torch.tensor(float(samples)))
    if samples > 1:
        assert result.standard_errors.max() < 1e-6
    else:
        assert result.standard_errors.isnan().all()


def wide_guide(oracle: LinearGaussian) -> AmortizedNormal:
    """1.5 times the widths of the posterior's marginals, so that the weights' variance is finite."""
    guide = AmortizedNormal(MLP(3, 4))
    posterior = oracle.posterior(torch.zeros(3))
    slope = torch.stack([oracle.posterior(e).loc - posterior.loc for e in torch.eye(3)], 1)
    with torch.no_grad():
        guide.encoder[0].weight.copy_(torch.cat([slope, torch.zeros(2, 3)]))
        guide.encoder[0].bias.copy_(torch.cat([posterior.loc, (1.5 * posterior.stddev).square().log()]))
    return guide


def test_away_from_the_posterior_it_is_right_within_its_standard_errors(oracle: LinearGaussian) -> None:
    """z scores of 200 data are standard normal: an error of a tenth in the standard errors would be seen."""
    x = oracle.sample(200)
    result = log_evidence(oracle, wide_guide(oracle), x, samples=5000)
    z = (result.values - oracle.log_evidence(x)) / result.standard_errors
    assert abs(z.mean()) < 4.5 / math.sqrt(200) + 0.05  # the bias of log, -se / 2 per datum, is 0.005 here
    assert abs(z.std() - 1) < 4.5 / math.sqrt(400)
    assert (result.mean() - oracle.log_evidence(x).mean()).abs() < 4.5 * result.sampling_error
    assert result.standard_error == pytest.approx(result.values.std().item() / math.sqrt(200))


def test_effective_sample_size_is_that_of_the_weights(oracle: LinearGaussian) -> None:
    """E w^2 / (E w)^2 in closed form, for a guide c times as wide as a posterior with independent coordinates."""
    model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
    c, x = 1.5, torch.zeros(1, 2)
    guide = AmortizedNormal(MLP(2, 4))
    with torch.no_grad():
        guide.encoder[0].weight.zero_()
        guide.encoder[0].bias.copy_(torch.tensor([0.0, 0.0, *[math.log(c**2 / 2)] * 2]))
    result = log_evidence(model, guide, x, samples=200_000)
    expected = 200_000 * (math.sqrt(2 * c**2 - 1) / c**2) ** 2  # for each latent int p^2/q = c^2 / sqrt(2 c^2 - 1)
    assert result.effective_sample_sizes.item() == pytest.approx(expected, rel=0.01)


def test_more_samples_raise_the_expectation_towards_the_evidence(oracle: LinearGaussian) -> None:
    x = oracle.sample(2000)
    exact = oracle.log_evidence(x).mean()
    means = [torch.tensor(log_evidence(oracle, wide_guide(oracle), x, samples=k).mean()) for k in (1, 4, 16, 64)]
    gaps = [(exact - mean).item() for mean in means]
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] > -0.01


@pytest.mark.parametrize("draws_at_once", [64, 640, 2**14])
def test_memory_is_bounded_by_draws_at_once(draws_at_once: int) -> None:
    model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
    sizes: list[int] = []
    model.decoder.register_forward_hook(lambda module, args, output: sizes.append(output[..., 0].numel()))
    log_evidence(model, guide, torch.ones(50, 16), samples=300, draws_at_once=draws_at_once)
    assert max(sizes) <= draws_at_once


def test_nothing_is_touched() -> None:
    model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
    state, before = torch.get_rng_state(), [p.clone() for p in (*model.parameters(), *guide.parameters())]
    first = log_evidence(model, guide, torch.ones(5, 16), samples=10)
    assert torch.equal(first.values, log_evidence(model, guide, torch.ones(5, 16), samples=10).values)
    after = [*model.parameters(), *guide.parameters()]
    assert all(torch.equal(a, b) and a.grad is None for a, b in zip(after, before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_global_latents_are_refused() -> None:
    def model(x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(0.0, 1.0))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(w, 1.0), obs=x)

    def guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(0.0, 1.0))

    settings = pyro.settings.get()
    with pytest.raises(InputError, match=r"the latents \['w'\] are shared by all data"):
        log_evidence(model, guide, torch.zeros(3), samples=2)
    assert pyro.settings.get() == settings


def test_global_latents_are_refused_before_draws_of_them_meet_a_model_that_takes_one() -> None:
    def model(x: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("x", dist.Normal(x @ w, 1.0), obs=x[:, 0])

    def guide(x: Tensor) -> None:
        pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with pytest.raises(InputError, match=r"the latents \['w'\] are shared by all data"):
        log_evidence(model, guide, torch.zeros(300, 2), samples=100)


def test_evaluate_splits_the_bound_and_covers_all_data(oracle: LinearGaussian, guide: AmortizedNormal) -> None:
    x = oracle.sample(300)
    result = evaluate(oracle, guide, x, estimator="L_B", samples=100)
    assert result.elbo.shape == (300,)
    assert torch.allclose(result.bound, result.reconstruction - result.kl - result.kl_global, rtol=1e-12)
    half = evaluate(oracle, guide, x, estimator=L_B(samples=100, beta=0.5))
    assert torch.allclose(half.bound, half.reconstruction - 0.5 * half.kl)
    assert torch.allclose(half.elbo, result.elbo)


def test_kl_per_latent_is_appendix_b_and_sums_to_the_kl(oracle: LinearGaussian, guide: AmortizedNormal) -> None:
    x = oracle.sample(50)
    q = guide.encode(x)
    by_hand = (-0.5 * (1 + q.variance.log() - q.mean**2 - q.variance)).mean(0)
    result = kl_per_latent(oracle, guide, x)["z"]
    assert torch.allclose(result, by_hand, rtol=1e-12)
    assert result.sum().item() == pytest.approx(evaluate(oracle, guide, x, estimator="L_B").kl.mean().item(), rel=1e-12)


def test_kl_per_latent_leaves_out_what_does_not_factorise(oracle: LinearGaussian, x: Tensor) -> None:
    assert kl_per_latent(oracle, ExactPosterior(oracle), x) == {}


def test_active_units_are_those_whose_mean_moves(oracle: LinearGaussian, guide: AmortizedNormal) -> None:
    x = oracle.sample(500)
    with torch.no_grad():
        guide.encoder[0].weight[1] = 0.0
    assert active_units(oracle, guide, x) == {"z": 1}
    assert active_units(oracle, guide, x, threshold=0.0) == {"z": 1}
    assert active_units(oracle, guide, x, threshold=1e9) == {"z": 0}


@pytest.mark.parametrize("call", [evaluate, log_evidence, kl_per_latent, active_units])
def test_bad_data_are_named(call: Any) -> None:
    model, guide = VAE(StandardNormal(2), MLP(2, 16), Bernoulli()), AmortizedNormal(MLP(16, 4))
    x = torch.zeros(3000, 16)
    x[2999, 3] = 0.5
    with pytest.raises(InputError, match=r"row 2999, pixel 3: 0\.5"):
        call(model, guide, x, seed=0)
    with pytest.raises(InputError, match=r"batch of \(3, 15\) float32"):
        call(model, guide, torch.zeros(3, 15))


def test_a_split_of_aevb_data_is_data() -> None:
    digits = load("digits")
    model, guide = VAE(StandardNormal(2), MLP(2, 64), Bernoulli()), AmortizedNormal(MLP(64, 4))
    assert log_evidence(model, guide, digits.test, samples=10).values.shape == (360,)


def test_results_and_data_are_shown_on_a_line_and_compared_as_before() -> None:
    digits = load("digits")
    model, guide = VAE(StandardNormal(2), MLP(2, 64), Bernoulli()), AmortizedNormal(MLP(64, 4))
    history = fit(model, guide, digits.train, epochs=2, validation=digits.test)
    bound, evidence = evaluate(model, guide, digits.test), log_evidence(model, guide, digits.test, samples=10)
    error = bound.bound.std().item() / math.sqrt(360)
    assert repr(bound).startswith(f"Estimate(bound {bound.bound.mean().item():.4g} ± {error:.2g}, elbo ")
    assert repr(bound).endswith("; n=360)")
    assert repr(evidence) == (f"LogEvidence({evidence.mean():.4g} ± {evidence.standard_error:.2g}; n=360, samples=10)")
    last = history.rows[-1]
    assert repr(history) == (
        f"History(epochs 2, train_elbo {last['train_elbo']:.4g}, validation_elbo {last['validation_elbo']:.4g}, "
        "engine svi; epochs done)"
    )
    assert repr(History()) == "History(epochs 0, engine svi; epochs done)"
    assert repr(digits.train) == "Split(n=1437, shape=(8, 8), binarisation='dynamic', labelled)"
    assert repr(digits.train.labelled(per_class=5)) == f"Labelled({digits.train}, known=50)"
    assert repr(digits).startswith("DataSet('digits', shape=(8, 8), binarisation='dynamic'; ")
    assert repr(digits).endswith("1,437 train, 0 validation, 360 test)")
    assert history == replace(history)
    with_one = repr(evaluate(model, guide, torch.ones(1, 64)))
    assert "±" not in with_one
    assert with_one.endswith("; n=1)")
