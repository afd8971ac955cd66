"""The importance weighted bound for latents that have no path."""

import math
from typing import Any

import torch
from torch import Tensor

from ...models.errors import check_at_least
from ..draws import Program, held_fixed
from .dreg import DReG
from .estimator import Estimate, Estimator
from .importance import ImportanceWeighted, log_mean_exp


class VIMCO(ImportanceWeighted):
    r"""The value of IWAE, and for the guide sum_i (L_k - L_k without i - v_i) grad log q(z_i|x), v_i = w_i / sum_j w_j.

    Mnih and Rezende (2016), Variational Inference for Monte Carlo Objectives, equations 7, 10 and 11,
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

    def references(self) -> tuple[Estimator, ...]:
        """DReG has the same mean and less noise, where there are paths."""
        return same_mean(self.samples, self.beta)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Equations 7 to 11 on a batch."""
        draws = self.draw(model, guide, *args, link=held_fixed, **kwargs)
        log_w = draws.log_weights(self.beta).detach()
        v, bound = log_w.softmax(0), log_mean_exp(log_w)
        signal = bound - _without_each(log_w) - self.beta * v  # what each draw added, (k, B)
        log_p = draws.log_likelihood + self.beta * draws.log_prior
        surrogate = (v * log_p).sum(0).mean() + draws.score_function(signal, draws.scores_at_fixed_z())
        return Estimate.of(draws, bound, surrogate)


def same_mean(samples: int, beta: float) -> tuple[Estimator, ...]:
    """Estimators of the gradient of E L_k, the least noisy first."""
    dreg = DReG(samples=samples, beta=beta)
    return (dreg, VIMCO(samples=samples, beta=beta)) if samples > 1 else (dreg,)


def _without_each(log_w: Tensor) -> Tensor:
    """The bound with each weight in turn replaced by the geometric mean of the others, ``(k, B)``: equation 10."""
    k = len(log_w)
    others = (log_w.sum(0) - log_w) / (k - 1)
    replaced = torch.where(torch.eye(k, dtype=torch.bool, device=log_w.device)[:, :, None], others[:, None], log_w)
    return torch.logsumexp(replaced, 1) - math.log(k)
