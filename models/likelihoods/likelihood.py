"""What every likelihood is: a module that turns the decoder's output into p(x|z)."""

from abc import ABC, abstractmethod
from typing import ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor, nn


class Likelihood(nn.Module, ABC):
    """A density p(x|z) over P pixels, given what the decoder made of z.

    ``binarisations`` names the treatments of the pixels (see ``aevb.data``) under which it is a proper choice, the
    usual one first.
    """

    binarisations: ClassVar[tuple[str, ...]]

    def outputs(self, pixels: int) -> int:
        """How many numbers the decoder must return for ``pixels`` pixels: P numbers of each kind, one kind after the
        other, as the channels of a convolutional network lie."""
        return pixels

    @abstractmethod
    def forward(self, parameters: Tensor) -> TorchDistribution:
        """p(x|z): from decoder output ``(..., outputs(P))``, batch shape ``(...)``, event shape ``(P,)``."""
