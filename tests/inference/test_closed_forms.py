"""The closed forms that are registered, against sampling and against integration."""

import math

import pyro.distributions as dist
import pytest
import torch
from torch.distributions import kl_divergence

from aevb.guides import AmortizedLowRank, AmortizedMultivariateNormal, AmortizedStudentT
from aevb.inference import closed_forms, fit
from aevb.models import MLP, VAE, Bernoulli, StandardNormal

LOC, SCALE = torch.tensor([0.3, -0.5], dtype=torch.float64), torch.tensor([0.8, 1.7], dtype=torch.float64)


def normal() -> dist.TorchDistribution:
    return dist.Normal(LOC, SCALE).to_event(1)


def joint() -> dist.TorchDistribution:
    return dist.MultivariateNormal(torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 0.6], [0.6, 0.7]]))


def low_rank() -> dist.TorchDistribution:
    return dist.LowRankMultivariateNormal(
        torch.tensor([1.0, -1.0]), torch.tensor([[0.8], [-0.4]]), torch.tensor([0.3, 0.5])
    )


@pytest.mark.parametrize("q", [joint, low_rank])
def test_a_joint_normal_to_independent_ones_is_that_to_their_joint(q, float64: None) -> None:  # type: ignore[no-untyped-def]
    """torch knows the KL of two joint Normals; independent ones are joint with a diagonal covariance."""
    diagonal = dist.MultivariateNormal(LOC, torch.diag(SCALE**2))
    torch.testing.assert_close(kl_divergence(q(), normal()), kl_divergence(q(), diagonal), rtol=1e-12, atol=0)


def test_student_t_to_normal_is_its_integral(float64: None) -> None:
    z = torch.sinh(torch.linspace(-1, 1, 400_001) * math.asinh(1e8))
    for degrees in (3.0, 5.0, 50.0):
        q, p = dist.StudentT(degrees, 0.7, 1.3), dist.Normal(-0.2, 0.9)
        integral = torch.trapezoid(q.log_prob(z).exp() * (q.log_prob(z) - p.log_prob(z)), z)
        torch.testing.assert_close(kl_divergence(q, p), integral, rtol=1e-6, atol=0)


def test_it_is_infinite_without_a_variance() -> None:
    assert kl_divergence(dist.StudentT(2.0, 0.0, 1.0), dist.Normal(0.0, 1.0)) == torch.inf


def test_none_reads_values_so_that_a_step_with_it_is_replayed() -> None:
    for make in (AmortizedStudentT, AmortizedMultivariateNormal, AmortizedLowRank):
        model, guide = VAE(StandardNormal(2), MLP(2, 4), Bernoulli()), make(MLP(4, make.outputs(2)))
        history = fit(model, guide, torch.ones(20, 4), estimator="L_B", epochs=2, engine="fast")
        assert (history.engine, history.kl_path) == ("fast", {"z": "analytic"})


@pytest.mark.parametrize("q", [joint, low_rank])
def test_by_sampling(q, float64: None) -> None:  # type: ignore[no-untyped-def]
    z = q().sample((200_000,))
    ratios = q().log_prob(z) - normal().log_prob(z)
    assert abs(ratios.mean() - kl_divergence(q(), normal())) < 4.5 * ratios.std() / 200_000**0.5
    assert ratios.std() / 200_000**0.5 < 0.01


def test_what_has_no_closed_form_still_has_none() -> None:
    with pytest.raises(NotImplementedError):
        kl_divergence(joint(), dist.Laplace(torch.zeros(2), 1.0).to_event(1))
    assert closed_forms.__doc__ is not None
