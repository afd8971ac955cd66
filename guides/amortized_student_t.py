"""A guide with heavy tails, for importance weights that stay bounded."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from ..models.errors import InputError
from .guide import Amortized


class AmortizedStudentT(Amortized):
    r"""q(z|x) = prod_d Student-t(z_d; nu, mu_d(x), s_d(x)), s = floor + exp(r), (mu, r) = encoder(x).

    Tails heavier than the posterior's keep importance weights from exploding: Domke and Sheldon (2018), Importance
    Weighting and Variational Inference, https://arxiv.org/abs/1808.09034. Reparametrised through the gamma
    distribution's implicit gradient. Where nu is above 2, KL(q || p) has a closed form for the priors StandardNormal
    and LearnedNormal of diagonal covariance.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., 2D)``: mu, then r.
        degrees: nu, the degrees of freedom; above 0, and at most 1,000, beyond which float32 has too few digits for
            the logarithm of the gamma function.
        floor: the smallest scale s, in units of z.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> AmortizedStudentT(MLP(64, 500, 2 * 10), degrees=10.0).encode(torch.zeros(5, 64)).event_shape
        torch.Size([10])
    """

    def __init__(self, encoder: nn.Module, *, degrees: float = 5.0, floor: float = 1e-4) -> None:
        super().__init__(encoder)
        if not 0 < degrees <= 1000:
            raise InputError(
                f"degrees of AmortizedStudentT is above 0 and at most 1000; it is {degrees}. Or use AmortizedNormal."
            )
        self.degrees = degrees
        self.floor = floor

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """2D: a location and a log scale for each latent."""
        return 2 * latents

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., 2D)``."""
        loc, log_excess_scale = numbers.chunk(2, -1)
        return dist.StudentT(self.degrees, loc, self.floor + log_excess_scale.exp()).to_event(1)
