"""Renyi's family of bounds."""

from typing import Any

import torch
from torch import Tensor

from ...models.errors import InputError
from ..sites import Program
from .estimator import Estimate, Target
from .importance import ImportanceWeighted, log_mean_exp


class Renyi(ImportanceWeighted):
    r"""L_alpha,k(x) = 1/(1 - alpha) log 1/k sum_i w_i^(1 - alpha), w_i = p(x, z_i) / q(z_i|x).

    Li and Turner (2016), Renyi Divergence Variational Inference, https://arxiv.org/abs/1602.02311.
    alpha = 0 is IWAE and alpha = 1, by its limit, L^A. With alpha of at least 0 it lies below log p(x) in expectation;
    with alpha below 0 it may lie above, since what it tends to with k does. With alpha above 1 one draw without weight
    makes it -inf. Its gradient is unbiased for E L_alpha,k: pathwise where z is reparametrised, by the score function
    where it is not. With beta, w_i = p(x|z_i) (p(z_i) / q(z_i|x))^beta.

    Args:
        alpha: the order of the divergence D_alpha(q || p); a smaller one covers more of the posterior's mass.
        samples: k, the number of draws of z per datum.
        beta: the power of the prior ratio in the weights.

    Example:
        >>> import torch
        >>> from aevb.guides import ExactPosterior
        >>> from aevb.models import LinearGaussian
        >>> model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
        >>> bound = Renyi(alpha=-2.0).estimate(model, ExactPosterior(model), torch.zeros(1, 2)).bound
        >>> torch.allclose(bound, model.log_evidence(torch.zeros(1, 2)))   # every bound is tight at the posterior
        True
    """

    def __init__(self, *, alpha: float = 0.5, samples: int = 5, beta: float = 1.0) -> None:
        super().__init__(samples=samples, beta=beta)
        if not isinstance(alpha, int | float) or not abs(alpha) < float("inf"):
            raise InputError(f"alpha of Renyi is a finite number; it is {alpha}.")
        self.alpha = alpha

    @property
    def target(self) -> Target:
        """The variational Renyi bound of this alpha and k."""
        name = f"Renyi alpha={self.alpha:g} k={self.samples}" + ("" if self.beta == 1 else f", beta={self.beta:g}")
        is_below = (self.alpha >= 0 and self.beta == 1) or (self.beta > 1 and self.samples == 1)
        return Target(name, "below" if is_below else "either", name, name)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """The bound on a batch, each datum by its own weights."""
        draws = self.draw(model, guide, *args, **kwargs)
        bound = self._bound(draws.log_weights(self.beta))
        return Estimate.of(draws, bound, bound.mean() + draws.score_function(bound))

    def _bound(self, log_w: Tensor) -> Tensor:
        power = 1 - self.alpha
        if abs(power) > 1e-3:
            return log_mean_exp(power * log_w) / power
        mean = log_w.mean(0)  # near alpha = 1 the logarithm above would be of almost 1
        return mean + (torch.expm1(power * (log_w - mean)).mean(0).log1p() / power if power else 0.0)
