"""The paper's prior."""

import pyro.distributions as dist
import torch
from torch import Tensor

from .prior import Prior


class StandardNormal(Prior):
    r"""p(z) = N(z; 0, I).

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, section 3, https://arxiv.org/abs/1312.6114.
    It has no parameters.

    Args:
        latents: D, the number of latents.

    Example:
        >>> StandardNormal(3)().event_shape
        torch.Size([3])
    """

    zero: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__(latents)
        self.register_buffer("zero", torch.zeros(latents), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return dist.Normal(self.zero, 1.0).to_event(1)
