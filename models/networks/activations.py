"""What stands between the layers of a network, and how their weights start."""

from typing import Literal

from torch import nn

from ..errors import check_name

Activation = Literal["tanh", "relu", "softplus", "elu", "gelu", "gated"]
Initialisation = Literal["torch", "paper"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "gated": nn.GLU,
}


def make_activation(name: Activation, units_dim: int = -1) -> nn.Module:
    """The activation of a layer whose units lie in that dimension."""
    kind = _ACTIVATIONS[check_name("activation", name, _ACTIVATIONS)]
    return nn.GLU(units_dim) if kind is nn.GLU else kind()


def before(name: Activation, units: int) -> int:
    """How many numbers an activation takes to make so many units: a gate is as wide as what it lets through."""
    return 2 * units if name == "gated" else units


def initialise(network: nn.Module, name: Initialisation) -> None:
    """Leave the weights as PyTorch made them, or draw each anew from N(0, 0.01)."""
    if check_name("initialisation", name, ("torch", "paper")) == "paper":
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
