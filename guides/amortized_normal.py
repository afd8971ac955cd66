"""The paper's guide."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from .guide import Amortized


class AmortizedNormal(Amortized):
    r"""q(z|x) = N(z; mu(x), diag sigma^2(x)), sigma^2 = floor + exp(s), (mu, s) = encoder(x).

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, equation 9, https://arxiv.org/abs/1312.6114.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., 2D)``: mu, then s, their log sigma^2.
        floor: the smallest variance, in squared units of z; the default is a standard deviation of 1e-4.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> guide = AmortizedNormal(MLP(64, 500, 2 * 10))
        >>> guide.encode(torch.zeros(5, 64)).event_shape
        torch.Size([10])
    """

    def __init__(self, encoder: nn.Module, *, floor: float = 1e-8) -> None:
        super().__init__(encoder)
        self.floor = floor

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """2D: a mean and a log variance for each latent."""
        return 2 * latents

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., 2D)``."""
        loc, log_excess_variance = numbers.chunk(2, -1)
        return dist.Normal(loc, (self.floor + log_excess_variance.exp()).sqrt()).to_event(1)
