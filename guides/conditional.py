"""The guide of a conditional model, of any family."""

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..models.condition import Condition, beside
from ..models.errors import InputError
from ..models.program import Program
from .guide import Amortized


class Conditional(Program):
    r"""q(z|x, c) = family(encoder(x, c)), of any amortised family, its encoder taking x and c in one vector.

    Sohn, Lee and Yan (2015), Learning Structured Output Representation using Deep Conditional Generative Models,
    section 4 (their x is c here, and their y is x),
    https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html. It
    goes with :class:`~aevb.models.ConditionalVAE`.

    Args:
        guide: the family, with an encoder from ``(..., P + C)``, x then c.
        classes: C, where c is a label from 0 to C - 1, ``(...)``, which is then made one-hot; None where c is real or
            one-hot already, ``(..., C)``.

    Example:
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import MLP
        >>> guide = Conditional(AmortizedNormal(MLP(64 + 10, 500, 2 * 20)), classes=10)
        >>> guide.encode(torch.zeros(5, 64), torch.tensor([0, 1, 2, 3, 4])).event_shape
        torch.Size([20])
    """

    def __init__(self, guide: Amortized, *, classes: int | None = None) -> None:
        super().__init__()
        if not isinstance(guide, Amortized):
            raise InputError(f"Conditional gives c to an encoder; {type(guide).__name__} has none of its own.")
        self.guide = guide
        self.condition = Condition(classes)

    def encode(self, x: Tensor, c: Tensor) -> TorchDistribution:
        """q(z|x, c): from x ``(..., P)`` and c ``(..., C)`` or ``(...)``, event shape ``(D,)``."""
        return self.guide.encode(beside(x, self.condition(c)))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """The inference program of ``x``, ``(B, P)``, given c, ``(B, C)`` or ``(B,)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            return pyro.sample("z", self.encode(x, c))

    @torch.no_grad()
    def sample(self, x: Tensor, c: Tensor, count: int = 1) -> Tensor:
        """Draws z ~ q(z|x, c), ``(count, B, D)``."""
        return self.encode(x, c).sample((count,))
