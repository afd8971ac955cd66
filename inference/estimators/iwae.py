"""The importance weighted bound."""

from typing import Any

from ..sites import Program
from .estimator import Estimate
from .importance import ImportanceWeighted, log_mean_exp


class IWAE(ImportanceWeighted):
    r"""L_k(x) = log 1/k sum_i w_i, w_i = p(x, z_i) / q(z_i|x), z_1 ... z_k ~ q(z|x).

    Burda, Grosse and Salakhutdinov (2015), Importance Weighted Autoencoders, equation 8,
    https://arxiv.org/abs/1509.00519. In expectation below log p(x), and the nearer the larger k: with k = 1 it is L^A.
    Its gradient is unbiased for E L_k: pathwise where z is reparametrised, by the score function where it is not. The
    gradient's signal-to-noise ratio for the guide falls as k^-1/2 (Rainforth et al. 2018,
    https://arxiv.org/abs/1802.04537); see :class:`DReG`. With beta, w_i = p(x|z_i) (p(z_i) / q(z_i|x))^beta.

    Example:
        >>> import torch
        >>> from aevb.guides import ExactPosterior
        >>> from aevb.models import LinearGaussian
        >>> model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
        >>> IWAE(samples=50).estimate(model, ExactPosterior(model), torch.zeros(3, 2)).bound.shape
        torch.Size([3])
    """

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Equation 8 on a batch, each datum by its own weights."""
        draws = self.draw(model, guide, *args, **kwargs)
        bound = log_mean_exp(draws.log_weights(self.beta))  # equation 8: (B,)
        return Estimate.of(draws, bound, bound.mean() + draws.score_function(bound))
