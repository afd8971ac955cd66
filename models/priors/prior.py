"""What every prior is: a module that returns p(z)."""

from abc import ABC, abstractmethod

from pyro.distributions import TorchDistribution
from torch import nn


class Prior(nn.Module, ABC):
    """A density p(z) over ``latents`` real numbers, or a probability of discrete ones.

    Args:
        latents: D, the number of latents of one datum (the paper's N_z).
    """

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.latents = latents

    @abstractmethod
    def forward(self) -> TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
