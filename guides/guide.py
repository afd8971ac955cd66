"""What every guide of one latent vector is: a program that samples z ~ q(z|x)."""

from abc import ABC, abstractmethod
from typing import Any

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..models.program import Program


class Guide(Program, ABC):
    """q(z|x) for the models that have one latent vector ``z`` per datum; a family says what ``encode`` returns."""

    @staticmethod
    @abstractmethod
    def outputs(latents: int, **options: Any) -> int:
        """How many numbers the encoder must return for ``latents`` latents of a guide made with these options."""

    @abstractmethod
    def encode(self, x: Tensor) -> TorchDistribution:
        """q(z|x): from x ``(..., P)``, batch shape ``(...)``, event shape ``(D,)``."""

    def forward(self, x: Tensor) -> Tensor:
        """The inference program of ``x``, ``(B, P)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            return pyro.sample("z", self.encode(x))

    @torch.no_grad()
    def sample(self, x: Tensor, count: int = 1) -> Tensor:
        """Draws z ~ q(z|x), ``(count, B, D)``."""
        return self.encode(x).sample((count,))


class Amortized(Guide):
    """q(z|x) = family(encoder(x)): one network gives the numbers of every datum's posterior.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., outputs(D))``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @abstractmethod
    def family(self, numbers: Tensor) -> TorchDistribution:
        """q of the numbers ``(..., outputs(D))``: batch shape ``(...)``, event shape ``(D,)``."""

    def encode(self, x: Tensor) -> TorchDistribution:
        """q(z|x): from x ``(..., P)``, batch shape ``(...)``, event shape ``(D,)``."""
        return self.family(self.encoder(x))
