"""The guide of a class, known or not, and of what else there is in a picture."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..models.errors import check_at_least
from ..models.program import Program
from .conditional import Conditional
from .guide import Amortized

_NEVER = -1e4  # the log-odds of a class that is known to be another: its probability is 0, its logarithm finite


class SemiSupervised(Program):
    r"""q(y|x) q(z|x, y), q(y|x) = softmax(classifier(x)); where y is known, q(y|x) is all at that class.

    Kingma, Rezende, Mohamed and Welling (2014), Semi-Supervised Learning with Deep Generative Models, equation 4,
    https://arxiv.org/abs/1406.5298, for the model :class:`~aevb.models.SemiSupervisedVAE`. y is marked to be
    enumerated: L_A, L_B and L_B_mixed, like Pyro's ``TraceEnum_ELBO``, sum over its C values instead of drawing one.

    Args:
        classifier: a network from ``(..., P)`` to ``(..., C)``.
        guide: q(z|x, y): any amortised guide, its encoder from ``(..., P + C)``, x and y as one of C.
        classes: C.

    Example:
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import MLP
        >>> guide = SemiSupervised(MLP(64, 50, 10), AmortizedNormal(MLP(64 + 10, 50, 2 * 5)), classes=10)
        >>> guide.encode(torch.rand(7, 64), torch.arange(7)).event_shape
        torch.Size([5])
    """

    def __init__(self, classifier: nn.Module, guide: Amortized, *, classes: int) -> None:
        super().__init__()
        self.classifier = classifier
        self.given = Conditional(guide, classes=check_at_least(2, "classes", classes))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The inference program of ``x``, ``(B, P)``, and labels ``(B,)``, -1 where unknown; returns z."""
        with pyro.plate("data", len(x)):
            known = _NEVER * (1 - self.given.condition(y.clamp(min=0)))
            logits = torch.where(y[:, None] >= 0, known, self.classify(x).logits)
            label = pyro.sample("y", dist.Categorical(logits=logits), infer={"enumerate": "parallel"})
            return pyro.sample("z", self.encode(x, label))

    def classify(self, x: Tensor) -> dist.Categorical:
        """q(y|x): from x ``(..., P)``, batch shape ``(...)``."""
        return dist.Categorical(logits=self.classifier(x))

    def encode(self, x: Tensor, y: Tensor) -> dist.TorchDistribution:
        """q(z|x, y): from x ``(..., P)`` and classes ``(...)``, event shape ``(D,)``."""
        return self.given.encode(x, y)

    @torch.no_grad()
    def sample(self, x: Tensor, count: int = 1) -> Tensor:
        """Draws z ~ q(z|x) over all classes, ``(count, B, D)``."""
        return self.encode(x, self.classify(x).sample((count,))).sample()
