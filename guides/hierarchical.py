"""The guide of several layers of latents, one family for each."""

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..models.errors import InputError
from ..models.program import Program
from .guide import Guide


class Hierarchical(Program):
    r"""q(z|x) = q(z_1|x) q(z_2|z_1) ... q(z_S|z_{S-1}), each of any amortised family.

    Burda, Grosse and Salakhutdinov (2015), Importance Weighted Autoencoders, section 2,
    https://arxiv.org/abs/1509.00519, with Normals of diagonal covariance. It goes with
    :class:`~aevb.models.HierarchicalVAE`, whose layers below the top are Normals: families of theirs are on the real
    line, that of the top where its prior is. The sites are ``z1``, drawn first, to ``zS``.

    Args:
        layers: guides from x upwards: the encoder of the first takes x, that of each other the latents below it.

    Example:
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import MLP
        >>> guide = Hierarchical([AmortizedNormal(MLP(64, 100, 2 * 20)), AmortizedNormal(MLP(20, 50, 2 * 10))])
        >>> [z.shape for z in guide.sample(torch.zeros(5, 64))]
        [torch.Size([1, 5, 20]), torch.Size([1, 5, 10])]
    """

    def __init__(self, layers: Sequence[Guide]) -> None:
        super().__init__()
        if not layers:
            raise InputError("Hierarchical is made of at least one guide: Hierarchical([AmortizedNormal(encoder)]).")
        self.layers = nn.ModuleList(layers)

    def encode(self, x: Tensor) -> TorchDistribution:
        """q(z_1|x), of the layer nearest to x: from x ``(..., P)``, batch shape ``(...)``, event shape ``(D_1,)``.

        That of a layer above is known given the one below: ``guide.layers[1].encode(z_1)`` is q(z_2|z_1).
        """
        return self.layers[0].encode(x)  # type: ignore[operator]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The inference program of ``x``, ``(B, P)``; returns z_1 to z_S, ``(B, D_s)`` each."""
        z = [x]
        with pyro.plate("data", len(x)):
            for number, layer in enumerate(self.layers, 1):
                z.append(pyro.sample(f"z{number}", layer.encode(z[-1])))  # type: ignore[operator]
        return tuple(z[1:])

    @torch.no_grad()
    def sample(self, x: Tensor, count: int = 1) -> tuple[Tensor, ...]:
        """Draws z_1 to z_S ~ q(z|x), ``(count, B, D_s)`` each."""
        z = [self.encode(x).sample((count,))]
        for layer in self.layers[1:]:
            z.append(layer.encode(z[-1]).sample())  # type: ignore[operator]
        return tuple(z)
