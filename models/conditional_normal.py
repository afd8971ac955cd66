"""A Normal whose mean and variance a network says."""

import pyro.distributions as dist
from torch import Tensor, nn

from .errors import InputError


class ConditionalNormal(nn.Module):
    r"""p(z|v) = N(z; mu(v), diag(floor + exp(s(v)))), (mu, s) = network(v).

    A layer of :class:`HierarchicalVAE`, whose v is the layer above, and the prior p(z|c) of a :class:`ConditionalVAE`,
    whose v is the condition.

    Args:
        network: from ``(..., V)`` to ``(..., 2D)``: mu, then s.
        floor: the smallest variance, in squared units of z; without one the density has no bound where a latent is
            all but determined by v.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> ConditionalNormal(MLP(10, 50, 2 * 20))(torch.zeros(5, 10)).event_shape
        torch.Size([20])
    """

    def __init__(self, network: nn.Module, *, floor: float = 1e-4) -> None:
        super().__init__()
        if not floor > 0:
            raise InputError(f"The floor of ConditionalNormal is a positive variance; it is {floor}.")
        self.network = network
        self.floor = floor

    def forward(self, v: Tensor) -> dist.TorchDistribution:
        """p(z|v): from v ``(..., V)``, batch shape ``(...)``, event shape ``(D,)``."""
        loc, log_excess_variance = self.network(v).chunk(2, -1)
        return dist.Normal(loc, (self.floor + log_excess_variance.exp()).sqrt()).to_event(1)
