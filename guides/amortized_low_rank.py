"""A guide whose latents depend on each other along a few directions."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from ..models.errors import InputError, check_at_least
from .guide import Amortized


class AmortizedLowRank(Amortized):
    r"""q(z|x) = N(z; mu(x), S (I + U U' / D) S), S = diag(sigma), sigma^2 = floor + exp(s), (mu, s, U) = encoder(x).

    Rezende, Mohamed and Wierstra (2014), Stochastic Backpropagation, https://arxiv.org/abs/1401.4082, for
    rank 1 in the precision; Ong, Nott and Smith (2018), Gaussian variational approximation with a factor covariance
    structure, for a diagonal and a factor in the covariance. U is ``(D, R)``, and with U = 0 this is
    :class:`AmortizedNormal`. A new encoder's U is not 0 but random: in units of sigma, and U U' divided by D, it is a
    small part of the variance for any D. KL(q || p) has a closed form for every Normal prior.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., D (2 + R))``: mu, s, U.
        rank: R, the number of directions, at most D.
        floor: the smallest variance of the diagonal, in squared units of z.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> guide = AmortizedLowRank(MLP(64, 500, AmortizedLowRank.outputs(10, rank=3)), rank=3)
        >>> guide.encode(torch.zeros(5, 64)).cov_factor.shape
        torch.Size([5, 10, 3])
    """

    def __init__(self, encoder: nn.Module, *, rank: int = 2, floor: float = 1e-8) -> None:
        super().__init__(encoder)
        self.rank = check_at_least(1, "rank of AmortizedLowRank", rank)
        self.floor = floor

    @staticmethod
    def outputs(latents: int, *, rank: int = 2, **options: Any) -> int:
        """D (2 + R): a mean, a diagonal, and R directions."""
        _check_rank(rank, latents)
        return latents * (2 + rank)

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., D (2 + R))``."""
        rows = numbers.unflatten(-1, (2 + self.rank, -1))  # mu, s, and U transposed
        _check_rank(self.rank, rows.shape[-1])
        loc, log_excess, factor = rows[..., 0, :], rows[..., 1, :], rows[..., 2:, :].mT
        variance = self.floor + log_excess.exp()
        scale = (variance / variance.shape[-1]).sqrt()
        return dist.LowRankMultivariateNormal(loc, scale[..., None] * factor, variance)


def _check_rank(rank: int, latents: int) -> None:
    if rank > latents:
        raise InputError(
            f"rank of AmortizedLowRank is at most the number of latents, {latents}; it is {rank}.\n"
            "  Use AmortizedMultivariateNormal, which has every covariance."
        )
