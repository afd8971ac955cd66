"""The paper's network."""

from itertools import pairwise
from typing import Literal

from torch import nn

from ..errors import InputError, check_name

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gated": nn.GLU,
}


class MLP(nn.Sequential):
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

    def __init__(
        self,
        *sizes: int,
        activation: Literal["tanh", "relu", "softplus", "elu", "gelu", "gated"] = "tanh",
        initialisation: Literal["torch", "paper"] = "torch",
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            raise InputError(f"MLP takes at least two positive sizes, inputs and outputs; it got {sizes}.")
        check_name("initialisation", initialisation, ("torch", "paper"))
        check_name("activation", activation, _ACTIVATIONS)
        layers: list[nn.Module] = []
        for inputs, units in pairwise(sizes[:-1]):
            layers += [nn.Linear(inputs, 2 * units if activation == "gated" else units), _ACTIVATIONS[activation]()]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))
        if initialisation == "paper":
            for parameter in self.parameters():
                nn.init.normal_(parameter, std=0.1)
