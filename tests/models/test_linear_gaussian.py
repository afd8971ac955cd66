"""The oracle, against formulas that it does not use."""

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from aevb.models import LinearGaussian


def test_evidence_is_that_of_the_marginal_normal(oracle: LinearGaussian, x: Tensor) -> None:
    covariance = oracle.weight @ oracle.weight.T + oracle.scale**2 * torch.eye(3)
    expected = MultivariateNormal(oracle.bias, covariance).log_prob(x)
    assert torch.allclose(oracle.log_evidence(x), expected, rtol=1e-12)


def test_posterior_is_bayes_rule_at_every_z(oracle: LinearGaussian, x: Tensor) -> None:
    z = torch.randn(100, 5, 2)
    joint = oracle.decode(z).log_prob(x) + MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(z)
    bayes = joint - oracle.log_evidence(x)
    assert torch.allclose(oracle.posterior(x).log_prob(z), bayes, rtol=1e-10)


def test_posterior_of_one_datum_and_of_many_agree(oracle: LinearGaussian, x: Tensor) -> None:
    assert torch.allclose(oracle.posterior(x[0]).loc, oracle.posterior(x).loc[0], rtol=1e-12)


def test_samples_have_the_marginal_mean_and_covariance(oracle: LinearGaussian) -> None:
    n = 200_000
    draws = oracle.sample(n)
    covariance = (oracle.weight @ oracle.weight.T + oracle.scale**2 * torch.eye(3)).detach()
    error = (draws.mean(0) - oracle.bias).abs() / (covariance.diag() / n).sqrt()
    assert error.max() < 4.5  # standard errors; a bias of 0.014 would be seen
    spread = (covariance**2 + covariance.diag().outer(covariance.diag())) / n  # Var of a sample covariance
    assert ((draws.T.cov() - covariance).abs() / spread.sqrt()).max() < 4.5


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"weight is \(P, D\) and bias \(P,\); they are \(3, 2\) and \(2,\)"):
        LinearGaussian(torch.zeros(3, 2), torch.zeros(2), 1.0)
