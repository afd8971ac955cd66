"""The paper's network."""

import math
from itertools import pairwise
from typing import Any, Self

from torch import nn

from ..errors import InputError
from .activations import Activation, Initialisation, before, initialise, make_activation
from .network import Network


class MLP(nn.Sequential, Network):
    r"""A fully connected network: linear, activation, linear, ..., linear.

    With one hidden layer it is W_2 tanh(W_1 v + b_1) + b_2 of Kingma and Welling (2013), Auto-Encoding Variational
    Bayes, appendix C; their two linear heads for mean and log variance are the two halves of the last layer. Leading
    dimensions are batch dimensions.

    Args:
        sizes: inputs, hidden units of each layer, outputs; two sizes make a linear map.
        activation: ``tanh`` (the paper), ``relu``, ``softplus``, ``elu``, ``gelu``, or ``gated``: (W v + b) times
            sigmoid(V v + c), with twice the weights, as in Tomczak and Welling (2018), VAE with a VampPrior.
        initialisation: ``"torch"``: PyTorch's default for linear layers, uniform within 1 / sqrt(inputs);
            ``"paper"``: every weight and bias from N(0, 0.01), read as a variance (section 5; standard deviation 0.1).

    Example:
        >>> MLP(64, 500, 20)
        MLP(
          (0): Linear(in_features=64, out_features=500, bias=True)
          (1): Tanh()
          (2): Linear(in_features=500, out_features=20, bias=True)
        )
    """

    def __init__(self, *sizes: int, activation: Activation = "tanh", initialisation: Initialisation = "torch") -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise InputError(f"MLP takes at least two positive sizes, inputs and outputs; it got {sizes}.")
        make_activation(activation)  # says what is wrong with it where there is no hidden layer too
        layers: list[nn.Module] = []
        for inputs, units in pairwise(sizes[:-1]):
            layers += [nn.Linear(inputs, before(activation, units)), make_activation(activation)]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))
        initialise(self, initialisation)

    @classmethod
    def encoder(cls, shape: tuple[int, ...], *sizes: int, **options: Any) -> Self:
        """From data of any shape; sizes: hidden units of each layer, outputs."""
        return cls(math.prod(shape), *sizes, **options)

    @classmethod
    def decoder(cls, shape: tuple[int, ...], *sizes: int, **options: Any) -> Self:
        """For data of any shape; sizes: inputs, hidden units of each layer, outputs."""
        return cls(*sizes, **options)
