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
    r"""p(z) = 1 / area on the sphere of radius sqrt(D) in R^D, area = 2 pi^(D/2) D^((D-1)/2) / Gamma(D / 2).

    Davidson et al. (2018), Hyperspherical Variational Auto-Encoders, https://arxiv.org/abs/1804.00891, on the sphere of
    radius 1. Here each z_d has variance 1, as under N(0, I), and as a decoder's first weights expect; the radius alone
    changes neither KL nor bound. The density is by the area of the sphere, not by the volume of R^D, so that it goes
    with posteriors on this sphere alone: AmortizedPowerSpherical. KL(q || p) has a closed form. It has no parameters.

    Args:
        latents: D, the number of coordinates, at least 2; the sphere has one dimension fewer.

    Example:
        >>> p = HypersphericalUniform(3)()
        >>> z = p.sample()
        >>> z.norm().item(), p.log_prob(z).exp().item()   # sqrt(3), 1 / (4 pi 3)
        (1.732..., 0.0265...)
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


class _Sphere(type(constraints.sphere)):  # type: ignore[misc]
    """The sphere of radius sqrt(D), for vectors of D."""

    def check(self, value: Tensor) -> Tensor:
        """Whether vectors ``(..., D)`` lie on it, ``(...)``."""
        return super().check(value / value.shape[-1] ** 0.5)


sphere = _Sphere()


class UniformOnSphere(dist.TorchDistribution):
    """The uniform distribution of points of that sphere; ``zero``, ``(..., D)``, says shape, dtype and device."""

    has_rsample = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # torch's own name and form
    support = sphere

    def __init__(self, zero: Tensor, validate_args: bool | None = None) -> None:
        self.zero = zero
        super().__init__(zero.shape[:-1], zero.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.zero[..., 0] + value.new_zeros(value.shape[:-1]) - self.entropy()

    def entropy(self) -> Tensor:
        """The logarithm of the sphere's area."""
        size = self.zero.shape[-1]
        area = math.log(2) + size / 2 * math.log(math.pi) - math.lgamma(size / 2) + (size - 1) / 2 * math.log(size)
        return self.zero[..., 0] + area

    @property
    def mean(self) -> Tensor:
        return self.zero

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        draws = torch.randn(shape, dtype=self.zero.dtype, device=self.zero.device)
        return torch.nn.functional.normalize(draws, dim=-1) * shape[-1] ** 0.5

    def expand(self, batch_shape: Any, _instance: Any = None) -> "UniformOnSphere":
        """The same for a larger batch."""
        return UniformOnSphere(self.zero.expand(*batch_shape, -1), validate_args=False)
