"""A guide whose latents may depend on each other."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from .guide import Amortized


class AmortizedMultivariateNormal(Amortized):
    r"""q(z|x) = N(z; mu(x), L L'), L = diag(sigma) (I + l / D), sigma^2 = floor + exp(s), (mu, s, l) = encoder(x).

    Kingma and Welling (2019), An Introduction to Variational Autoencoders, section 2.5.1,
    https://arxiv.org/abs/1906.02691: the posterior of full covariance, reparametrised by its Cholesky factor. l is
    strictly lower triangular, and with l = 0 this is :class:`AmortizedNormal`. A new encoder's l are not 0 but random:
    in units of sigma, and divided by D, they are a small part of the variance for any D, and a latent that is known
    well stays so. KL(q || p) has a closed form for every Normal prior.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., 2D + D (D - 1) / 2)``: mu, s, and l row by row.
        floor: the smallest squared diagonal of L, in squared units of z.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> guide = AmortizedMultivariateNormal(MLP(64, 500, AmortizedMultivariateNormal.outputs(10)))
        >>> guide.encode(torch.zeros(5, 64)).covariance_matrix.shape
        torch.Size([5, 10, 10])
    """

    def __init__(self, encoder: nn.Module, *, floor: float = 1e-8) -> None:
        super().__init__(encoder)
        self.floor = floor

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """2D + D (D - 1) / 2: a mean, a diagonal, and what is below it."""
        return 2 * latents + latents * (latents - 1) // 2

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., 2D + D (D - 1) / 2)``."""
        latents = _latents(numbers.shape[-1])
        loc, log_excess, below = numbers.split((latents, latents, numbers.shape[-1] - 2 * latents), -1)
        sigma = (self.floor + log_excess.exp()).sqrt()
        unit = torch.eye(latents, dtype=below.dtype, device=below.device) + _strictly_lower(below / latents, latents)
        return dist.MultivariateNormal(loc, scale_tril=sigma[..., None] * unit)


def _latents(outputs: int) -> int:
    """D, of D (D + 3) / 2 outputs."""
    return (math.isqrt(8 * outputs + 9) - 3) // 2


def _strictly_lower(values: Tensor, size: int) -> Tensor:
    """From ``(..., D (D - 1) / 2)``, row by row, to the part of a matrix below its diagonal, ``(..., D, D)``."""
    row, column = torch.arange(size, device=values.device)[:, None], torch.arange(size, device=values.device)
    nothing = values.shape[-1]  # the place of a 0 behind the last value
    place = torch.where(column < row, row * (row - 1) // 2 + column, nothing)
    return functional.pad(values, (0, 1)).index_select(-1, place.flatten()).unflatten(-1, (size, size))
