"""What every kind of network is: one that encoders and decoders can be made of."""

from abc import ABC, abstractmethod
from typing import Any

from torch import nn


class Network(nn.Module, ABC):
    """A kind of network that says how to make an encoder of it, and its mirror, a decoder.

    Both take the shape of one datum; data are rows of P numbers all the same. Anything else that maps
    ``(..., inputs)`` to ``(..., outputs)`` can be an encoder or a decoder too: it is only not made by name.
    """

    @classmethod
    @abstractmethod
    def encoder(cls, shape: tuple[int, ...], *sizes: int, **options: Any) -> nn.Module:
        """From ``(..., P)``, data of that shape; sizes: hidden units of each layer, outputs."""

    @classmethod
    @abstractmethod
    def decoder(cls, shape: tuple[int, ...], *sizes: int, **options: Any) -> nn.Module:
        """To ``(..., outputs)``, for data of that shape; sizes: inputs, hidden units of each layer, outputs."""
