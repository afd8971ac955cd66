"""Grey pixels in [0, 1], with the Bernoulli's decoder."""

import pyro.distributions as dist
from torch import Tensor

from .likelihood import Likelihood


class ContinuousBernoulli(Likelihood):
    r"""p(x|z) = prod_p C(y_p) y_p^x_p (1 - y_p)^(1 - x_p) on [0, 1], with y = sigmoid(decoder(z)).

    C(y) = 2 artanh(1 - 2y) / (1 - 2y), and 2 at y = 1/2, is what the Bernoulli lacks to be a density of grey pixels.
    Loaiza-Ganem and Cunningham (2019), The continuous Bernoulli, section 3, https://arxiv.org/abs/1907.06845.

    Example:
        >>> import torch
        >>> ContinuousBernoulli()(torch.zeros(1, 4)).log_prob(torch.full((1, 4), 0.3)).item()   # uniform at y = 1/2
        0.0
    """

    binarisations = ("none",)

    def forward(self, parameters: Tensor) -> dist.TorchDistribution:
        """p(x|z): from logits ``(..., P)``."""
        return dist.ContinuousBernoulli(logits=parameters).to_event(1)
