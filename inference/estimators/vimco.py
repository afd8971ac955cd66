"""The importance weighted bound for latents that have no path."""

import math
from typing import Any

import torch
from torch import Tensor

from ...models.errors import check_at_least
from ..sites import Program
from .estimator import Estimate
from .importance import ImportanceWeighted, log_mean_exp


class VIMCO(ImportanceWeighted):
    r"""The value of IWAE, and for the guide sum_i (L_k - L_k without i - v_i) grad log q(z_i|x), v_i = w_i / sum_j w_j.

    Mnih and Rezende (2016), Variational Inference for Monte Carlo Objectives,
    https://arxiv.org/abs/1602.06725. Each draw's baseline is the bound with its own weight replaced by the geometric
    mean of the others. Unbiased for E L_k whether or not z is reparametrised: no path is used. The model's gradient is
    IWAE's. With beta, w_i = p(x|z_i) (p(z_i) / q(z_i|x))^beta.

    Args:
        samples: k, at least 2: with one draw there are no others.
        beta: the power of the prior ratio in the weights.

    Example:
        >>> import torch
        >>> from aevb.guides import AmortizedBernoulli
        >>> from aevb.models import Bernoulli, BernoulliVAE, FactorialBernoulli, MLP
        >>> model = BernoulliVAE(FactorialBernoulli(8), MLP(8, 16), Bernoulli())
        >>> guide = AmortizedBernoulli(MLP(16, 8))
        >>> VIMCO(samples=3).estimate(model, guide, torch.zeros(4, 16)).bound.shape
        torch.Size([4])
    """

    def __init__(self, *, samples: int = 5, beta: float = 1.0) -> None:
        super().__init__(samples=check_at_least(2, "samples of VIMCO", samples), beta=beta)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """The bound on a batch, and what each draw added to it."""
        draws = self.draw(model, guide, *args, hold=True, **kwargs)
        log_w = draws.log_weights(self.beta)
        bound = log_mean_exp(log_w)
        signal = bound - _without_each(log_w.detach())  # what each draw added, (k, B)
        surrogate = bound.mean() + draws.score_function(signal)
        return Estimate.of(draws, bound, surrogate)


def _without_each(log_w: Tensor) -> Tensor:
    """The bound with each weight in turn replaced by the geometric mean of the others, ``(k, B)``."""
    k = len(log_w)
    own = torch.eye(k, dtype=torch.bool, device=log_w.device)[:, :, None]  # (k, k, 1)
    others = log_w.masked_fill(own, 0.0).sum(1) / (k - 1)  # not the sum less its own: that would cancel
    replaced = torch.where(own, others[:, None], log_w)
    return torch.logsumexp(replaced, 1) - math.log(k)
