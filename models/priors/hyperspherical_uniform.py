"""A prior without a middle: the sphere."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from ..errors import InputError
from .prior import Prior


class HypersphericalUniform(Prior):
    r"""p(z) = Gamma(D / 2) / (2 pi^(D/2)) on the unit sphere S^(D-1) of R^D: the same everywhere.

    Davidson et al. (2018), Hyperspherical Variational Auto-Encoders, https://arxiv.org/abs/1804.00891. Its density is
    by the area of the sphere, not by the volume of R^D, so that it goes with posteriors on the sphere alone:
    AmortizedPowerSpherical. KL(q || p) has a closed form. It has no parameters.

    Args:
        latents: D, the number of coordinates, at least 2; the sphere has one dimension fewer.

    Example:
        >>> HypersphericalUniform(3)().log_prob(torch.tensor([0.0, 0.0, 1.0])).exp().item()   # 1 / (4 pi)
        0.0795...
    """

    zero: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__(latents)
        if latents < 2:
            raise InputError(f"A sphere has at least 2 coordinates; here {latents} latents.")
        self.register_buffer("zero", torch.zeros(latents), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return UniformOnSphere(self.zero)


class UniformOnSphere(dist.TorchDistribution):
    """The uniform distribution of points of the unit sphere; ``zero``, ``(..., D)``, says shape, dtype and device."""

    has_rsample = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # torch's own name and form
    support = constraints.sphere

    def __init__(self, zero: Tensor, validate_args: bool | None = None) -> None:
        self.zero = zero
        super().__init__(zero.shape[:-1], zero.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.zero[..., 0] + value.new_zeros(value.shape[:-1]) - self.entropy()

    def entropy(self) -> Tensor:
        """The logarithm of the sphere's area, 2 pi^(D/2) / Gamma(D / 2)."""
        half = self.zero.shape[-1] / 2
        return self.zero[..., 0] + math.log(2) + half * math.log(math.pi) - math.lgamma(half)

    @property
    def mean(self) -> Tensor:
        return self.zero

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.nn.functional.normalize(torch.randn(shape, dtype=self.zero.dtype, device=self.zero.device), dim=-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "UniformOnSphere":
        """The same for a larger batch."""
        return UniformOnSphere(self.zero.expand(*batch_shape, -1), validate_args=False)
