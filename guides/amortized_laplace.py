"""A guide with a peak and exponential tails."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from .guide import Amortized


class AmortizedLaplace(Amortized):
    r"""q(z|x) = prod_d Laplace(z_d; mu_d(x), b_d(x)), b = floor + exp(s), (mu, s) = encoder(x).

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, section 2.4, https://arxiv.org/abs/1312.6114, list it
    among the families that a location and a scale reparametrise. KL(q || p) has a closed form for the
    priors Laplace, StandardNormal and LearnedNormal of diagonal covariance.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., 2D)``: mu, then s.
        floor: the smallest scale b, in units of z.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> AmortizedLaplace(MLP(64, 500, 2 * 10)).encode(torch.zeros(5, 64)).event_shape
        torch.Size([10])
    """

    def __init__(self, encoder: nn.Module, *, floor: float = 1e-4) -> None:
        super().__init__(encoder)
        self.floor = floor

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """2D: a location and a log scale for each latent."""
        return 2 * latents

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., 2D)``."""
        loc, log_excess_scale = numbers.chunk(2, -1)
        return dist.Laplace(loc, self.floor + log_excess_scale.exp()).to_event(1)
