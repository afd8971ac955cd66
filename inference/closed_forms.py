"""Closed forms of KL divergences that torch and Pyro lack, registered with torch when this package is imported.

For a q with known entropy, mean and variance, and a p that is a product of Normals,

    KL(q || p) = -H(q) + sum_d log s_d + log(2 pi) / 2 + (Var z_d + (E z_d - mu_d)^2) / (2 s_d^2).

Registered are: MultivariateNormal and LowRankMultivariateNormal to independent Normals; StudentT to Normal. No entry of
torch or Pyro is replaced.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    StudentT,
    register_kl,
)


def _cross_entropy(mean: Tensor, variance: Tensor, p: Normal) -> Tensor:
    """-E_q log p(z), for each coordinate."""
    return p.scale.log() + 0.5 * math.log(2 * math.pi) + (variance + (mean - p.loc) ** 2) / (2 * p.scale**2)


@register_kl(MultivariateNormal, Independent)  # type: ignore[untyped-decorator]
@register_kl(LowRankMultivariateNormal, Independent)  # type: ignore[untyped-decorator]
def _joint_to_independent(q: MultivariateNormal | LowRankMultivariateNormal, p: Any) -> Tensor:
    """Of a joint Normal to one of independent coordinates."""
    if not isinstance(p.base_dist, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    return _cross_entropy(q.mean, q.variance, p.base_dist).sum(-1) - q.entropy()


@register_kl(StudentT, Normal)  # type: ignore[untyped-decorator]
def _student_t_to_normal(q: StudentT, p: Normal) -> Tensor:
    """Finite where q has a variance, above two degrees of freedom; torch's own reads values, and cannot be traced."""
    finite = q.df > 2
    df = torch.where(finite, q.df, 3.0)
    kl = _cross_entropy(q.loc, q.scale**2 * df / (df - 2), p) - q.entropy()
    return torch.where(finite, kl, torch.inf)
