"""A refined guide reaches what its family can, for each datum by itself, and teaches its encoder from there."""

from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from aevb.guides import AmortizedBernoulli, AmortizedMultivariateNormal, AmortizedNormal, Refined
from aevb.inference import L_A, evaluate, fit, log_evidence
from aevb.models import MLP, VAE, Bernoulli, Gaussian, InputError, LinearGaussian, StandardNormal


def as_vae(oracle: LinearGaussian) -> VAE:
    """The oracle, made of parts."""
    decoder, likelihood = MLP(2, 3), Gaussian(variance="shared")
    decoder.load_state_dict({"0.weight": oracle.weight, "0.bias": oracle.bias})
    with torch.no_grad():
        likelihood.log_excess_variance.copy_((oracle.scale.square() - likelihood.floor).log())
    return VAE(StandardNormal(2), decoder, likelihood)


def test_it_closes_the_amortisation_gap(float64: None) -> None:
    """From an untrained encoder to log p(x): a Normal of full covariance is the posterior's family, a factorised one
    is not, and its best bound is known: its variances are those of p(z_d | the other latents, x)."""
    weight = torch.tensor([[1.0, 0.9], [0.5, 0.6], [0.2, -0.1]])
    oracle = LinearGaussian(weight, torch.tensor([0.1, -0.2, 0.3]), 0.7)
    model, x = as_vae(oracle), oracle.sample(40)
    best = oracle.posterior(x)
    factorised = best.covariance_matrix.inverse().diagonal(dim1=-2, dim2=-1).reciprocal()
    gap = 0.5 * (factorised.log().sum(-1) - best.covariance_matrix.logdet()).abs().mean()
    for guide, lost in ((AmortizedMultivariateNormal(MLP(3, 5)), 0.0), (AmortizedNormal(MLP(3, 4)), gap.item())):
        refined = Refined(guide, steps=400, samples=8, learning_rate=0.1).attach(model)
        amortised, reached = (evaluate(model, q, x, samples=2000, seed=1).elbo.mean() for q in (guide, refined))
        expected = oracle.log_evidence(x).mean() - lost
        assert amortised < expected - 1
        assert expected - 0.03 < reached < expected + 0.01  # what the steps still lack, and the noise of 2,000 draws
    assert gap > 0.1


def test_each_datum_is_refined_by_itself(oracle: LinearGaussian, x: Tensor) -> None:
    """On the same noise, a datum has the same posterior whatever else is in the batch."""
    refined = Refined(AmortizedNormal(MLP(3, 4)), steps=30).attach(as_vae(oracle))
    with same_noise():
        alone = refined.encode(x[:1]).mean
    x[1:] = 100.0
    with same_noise():
        torch.testing.assert_close(refined.encode(x).mean[:1], alone)


def same_noise() -> Any:
    """Every Normal draws one vector for all data, from the beginning of one stream."""
    generator = torch.Generator().manual_seed(1)
    return patch(
        "torch.distributions.normal._standard_normal",
        lambda shape, dtype, device: torch.randn(shape[-1], generator=generator, dtype=dtype).expand(shape),
    )


def test_the_encoder_learns_from_the_refined_numbers(oracle: LinearGaussian, x: Tensor) -> None:
    """Its gradient is that of a guide whose numbers are the refined ones plus the encoder's, at 0."""
    refined = Refined(AmortizedNormal(MLP(3, 4)), steps=5).attach(as_vae(oracle))
    torch.manual_seed(0)
    found = torch.autograd.grad(refined.encode(x).mean.square().sum(), list(refined.parameters()))
    torch.manual_seed(0)
    loc = refined.encode(x).mean.detach()
    numbers = refined.guide.encoder(x)
    expected = torch.autograd.grad(2 * (loc * numbers[:, :2]).sum(), list(refined.parameters()))
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other)


def test_it_trains(float64: None) -> None:
    """Model and encoder, on either engine, alike."""
    x = (torch.rand(50, 6) < torch.linspace(0.05, 0.95, 6)).double()
    curves = []
    for engine in ("svi", "fast"):
        torch.manual_seed(0)
        model, guide = VAE(StandardNormal(2), MLP(2, 8, 6), Bernoulli()), AmortizedNormal(MLP(6, 8, 4))
        before = guide.encoder[0].weight.clone()  # type: ignore[index,operator]
        refined = Refined(guide, steps=3).attach(model)
        history = fit(model, refined, x, estimator=L_A(samples=2), epochs=30, learning_rate=0.01, engine=engine)  # type: ignore[arg-type]
        assert history.engine == engine
        assert not torch.equal(guide.encoder[0].weight, before)  # type: ignore[index,operator]
        curves.append(torch.tensor(history["train_elbo"]))
    torch.testing.assert_close(*curves, rtol=1e-10, atol=0)
    assert curves[0][-1] > curves[0][0] + 0.3


@pytest.mark.parametrize("beta", [0.0, 1.0, 8.0])
def test_it_raises_the_bound_that_is_trained(beta: float, oracle: LinearGaussian) -> None:
    model, x = as_vae(oracle), oracle.sample(40)
    guide = AmortizedNormal(MLP(3, 4))
    refined = Refined(guide, steps=200, learning_rate=0.1, beta=beta).attach(model)
    estimator = L_A(samples=500, beta=beta)
    with torch.no_grad():
        own, raised = (estimator.estimate(model, q, x).bound for q in (guide, refined))
    assert (raised - own).min() > -0.05  # for each datum; the noise of 500 draws
    assert (raised - own).mean() > 0.5


def test_out_of_training_it_is_the_same_at_every_call(oracle: LinearGaussian, x: Tensor) -> None:
    refined = Refined(AmortizedNormal(MLP(3, 4))).attach(as_vae(oracle)).eval()
    torch.manual_seed(3)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(refined.encode(x).mean, refined.encode(x).mean)
    assert torch.equal(torch.rand(1), after)  # and draws from no stream but its own
    assert not torch.equal(refined.train().encode(x).mean, refined.encode(x).mean)


def test_what_it_cannot_refine() -> None:
    x, model = torch.ones(2, 6), VAE(StandardNormal(2), MLP(2, 6), Bernoulli())
    with pytest.raises(InputError, match="attach"):
        Refined(AmortizedNormal(MLP(6, 4))).encode(x)
    with pytest.raises(InputError, match="AmortizedBernoulli draws without one"):
        Refined(AmortizedBernoulli(MLP(6, 2))).attach(model).encode(x)
    with pytest.raises(InputError, match="Refined has none"):
        Refined(Refined(AmortizedNormal(MLP(6, 4))))  # type: ignore[arg-type]


def test_what_is_remembered_is_what_would_be_found_again(
    oracle: LinearGaussian, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The estimate is the same to the bit, and each batch is refined once; another batch, and afterwards all, anew."""
    x = oracle.sample(30)
    refined = Refined(AmortizedNormal(MLP(3, 4)), steps=5).attach(as_vae(oracle))
    counts = []
    delta = Refined._delta
    monkeypatch.setattr(Refined, "_delta", lambda self, *args: (counts.append(1), delta(self, *args))[1])
    found = []
    for remembering in (refined.remembering(), nullcontext()):
        counts.clear()
        with remembering:
            found.append(log_evidence(refined._model[0], refined, x, samples=640).values)
        found.append(torch.tensor(len(counts)))
    assert torch.equal(found[0], found[2])
    assert found[1] < 4 < 10 <= found[3]
    with refined.eval().remembering():
        one, two = refined.encode(x[:5]).mean, refined.encode(x[5:10]).mean
        assert not torch.equal(one, two)
        with torch.no_grad():
            refined.guide.encoder[0].bias.add_(1.0)
    assert not torch.equal(refined.encode(x[5:10]).mean, two)
