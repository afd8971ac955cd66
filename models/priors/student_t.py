"""A prior that forgives latents far out."""

import pyro.distributions as dist
import torch
from torch import Tensor

from ..errors import InputError
from .prior import Prior


class StudentT(Prior):
    r"""p(z) = prod_d Student-t(z_d; nu), of scale 1: tails as abs(z_d)^-(nu + 1); the Normal as nu grows.

    Kim et al. (2023), t3-Variational Autoencoder, https://arxiv.org/abs/2312.01133, make prior, encoder and decoder of
    Student's t, jointly in all coordinates; here each latent has its own. KL(q || p) has no closed form: use
    L_B_mixed or L_A. It has no parameters.

    Args:
        latents: D, the number of latents.
        degrees: nu, the degrees of freedom; above 0, and at most 1,000: beyond, it is a Normal to 1e-3 nats in the
            middle, and float32 loses more than that in the logarithm of the gamma function.

    Example:
        >>> StudentT(2, degrees=1.0)().log_prob(torch.zeros(2)).exp().item()   # two Cauchys: 1 / pi^2
        0.1013...
    """

    zero: Tensor

    def __init__(self, latents: int, *, degrees: float = 5.0) -> None:
        super().__init__(latents)
        if not 0 < degrees <= 1000:
            raise InputError(
                f"degrees of StudentT is above 0 and at most 1000; it is {degrees}. Or use StandardNormal."
            )
        self.degrees = degrees
        self.register_buffer("zero", torch.zeros(latents), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return dist.StudentT(self.degrees, self.zero, 1.0).to_event(1)
