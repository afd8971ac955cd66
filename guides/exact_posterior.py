"""The guide that cannot be improved."""

from typing import Any

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..models.linear_gaussian import LinearGaussian
from .guide import Guide


class ExactPosterior(Guide):
    r"""q(z|x) = p(z|x) of a :class:`~aevb.models.LinearGaussian`.

    Under it log p(x, z) - log q(z|x) = log p(x) for every z: the value of L_A is exact and has no variance, and one
    importance sample is enough. It follows the model's parameters and has none of its own.

    Args:
        model: the model whose posterior this is.

    Example:
        >>> import torch
        >>> from aevb.models import LinearGaussian
        >>> guide = ExactPosterior(LinearGaussian(torch.eye(2), torch.zeros(2), 1.0))
        >>> guide.encode(torch.zeros(3, 2)).batch_shape
        torch.Size([3])
    """

    def __init__(self, model: LinearGaussian) -> None:
        super().__init__()
        self.model = model

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """0: there is no encoder."""
        return 0

    def encode(self, x: Tensor) -> TorchDistribution:
        """p(z|x): from x ``(..., P)``, batch shape ``(...)``, event shape ``(D,)``."""
        return self.model.posterior(x)
