"""Guides are the distributions that they say they are."""

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from aevb.guides import AmortizedNormal, ExactPosterior
from aevb.models import MLP, LinearGaussian, StandardNormal


def test_amortized_normal_is_equation_9(float64: None) -> None:
    guide, x = AmortizedNormal(MLP(3, 4)), torch.randn(5, 3)
    mu, s = guide.encoder(x)[:, :2], guide.encoder(x)[:, 2:]
    assert torch.equal(guide.encode(x).mean, mu)
    assert torch.allclose(guide.encode(x).variance, s.exp() + 1e-8, rtol=1e-12)


def test_its_kl_is_the_formula_of_appendix_b(float64: None) -> None:
    q = AmortizedNormal(MLP(3, 4)).encode(torch.randn(5, 3))
    mu, variance = q.mean, q.variance
    appendix_b = -0.5 * (1 + variance.log() - mu**2 - variance).sum(1)
    assert torch.allclose(kl_divergence(q, StandardNormal(2).double()()), appendix_b, rtol=1e-12)


def test_its_variance_stays_above_its_floor() -> None:
    guide = AmortizedNormal(MLP(3, 4))
    with torch.no_grad():
        guide.encoder[0].bias[2:] = -1e4
    assert torch.allclose(guide.encode(torch.zeros(1, 3)).stddev, torch.tensor(1e-4))


def test_exact_posterior_follows_its_model(oracle: LinearGaussian, x: Tensor) -> None:
    guide = ExactPosterior(oracle)
    assert torch.equal(guide.encode(x).loc, oracle.posterior(x).loc)
    assert {id(p) for p in guide.parameters()} == {id(p) for p in oracle.parameters()}
