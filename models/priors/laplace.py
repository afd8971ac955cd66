"""A prior under which latents like to be near 0."""

import pyro.distributions as dist
import torch
from torch import Tensor

from .prior import Prior


class Laplace(Prior):
    r"""p(z) = prod_d exp(-abs(z_d)) / 2.

    Of variance 2, with a peak at 0 and exponential tails: the prior of sparse coding, Olshausen and Field (1996),
    Emergence of simple-cell receptive field properties by learning a sparse code for natural images. KL(q || p) has a
    closed form for Normal and for Laplace q. It has no parameters.

    Args:
        latents: D, the number of latents.

    Example:
        >>> Laplace(3)().log_prob(torch.zeros(3)).item() / 3   # log 1/2 a latent
        -0.6931471824645996
    """

    zero: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__(latents)
        self.register_buffer("zero", torch.zeros(latents), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return dist.Laplace(self.zero, 1.0).to_event(1)
