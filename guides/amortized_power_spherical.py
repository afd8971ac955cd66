"""A guide on the sphere."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import register_kl

from ..models.priors.hyperspherical_uniform import UniformOnSphere, sphere
from .guide import Amortized


class AmortizedPowerSpherical(Amortized):
    r"""q(z|x) = C (1 + m'z / sqrt(D))^kappa, norm(z) = sqrt(D), norm(m) = 1, 1/kappa = floor + exp(-s) / (D - 1).

    De Cao and Aziz (2020), The Power Spherical distribution, https://arxiv.org/abs/2006.04437: much like von Mises and
    Fisher's, with draws that need no rejection; here on the sphere of radius sqrt(D), that of the prior it goes with,
    HypersphericalUniform. m = v / norm(v), and (v, s) = encoder(x); with s = 0 the mean of z is half as long as z, for
    any D. KL(q || p) has a closed form.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., D + 1)``: v, s.
        floor: the smallest 1 / kappa; 2 D / kappa, where small, is the variance in each of D - 1 directions.

    Example:
        >>> from aevb.models import MLP
        >>> guide = AmortizedPowerSpherical(MLP(64, 500, AmortizedPowerSpherical.outputs(10)))
        >>> guide.sample(torch.rand(5, 64)).norm(dim=-1).mean().item()
        3.16...
    """

    def __init__(self, encoder: nn.Module, *, floor: float = 1e-4) -> None:
        super().__init__(encoder)
        self.floor = floor

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """D + 1: a direction and a concentration."""
        return latents + 1

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., D + 1)``."""
        direction, log_concentration = numbers[..., :-1], numbers[..., -1]
        return PowerSpherical(
            torch.nn.functional.normalize(direction, dim=-1),
            1 / (self.floor + (-log_concentration.clamp(min=-20)).exp() / (direction.shape[-1] - 1)),
        )


class PowerSpherical(dist.TorchDistribution):
    r"""p(z) = C (1 + t)^kappa, t = m'z / sqrt(D), norm(z) = sqrt(D).

    C^-1 = 2^(a + b) (pi D)^b Gamma(a) / Gamma(a + b), b = (D - 1) / 2, a = b + kappa. A draw is its height t along m,
    (1 + t) / 2 of Beta(a, b), and a uniform direction around m. Normaliser and entropy are taken in double precision,
    since their terms cancel.

    Args:
        loc: m, ``(..., D)``, of norm 1.
        concentration: kappa, ``(...)``.
    """

    has_rsample = True
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # torch's own name and form
    support = sphere

    def __init__(self, loc: Tensor, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = loc, concentration
        self.b, self.radius = (loc.shape[-1] - 1) / 2, loc.shape[-1] ** 0.5
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        height = ((self.loc * value).sum(-1) / self.radius).clamp(min=-1 + torch.finfo(value.dtype).eps)
        return self._log_normaliser().to(value.dtype) + self.concentration * height.log1p()

    def _log_normaliser(self) -> Tensor:
        a = self.b + self.concentration.double()
        area = self.b * math.log(math.pi * self.radius**2)
        return torch.lgamma(a + self.b) - torch.lgamma(a) - (a + self.b) * math.log(2) - area

    def entropy(self) -> Tensor:
        """-log C - kappa (log 2 + psi(a) - psi(a + b))."""
        kappa = self.concentration.double()
        a = self.b + kappa
        expected = math.log(2) + torch.digamma(a) - torch.digamma(a + self.b)  # of log(1 + t)
        return (-self._log_normaliser() - kappa * expected).to(self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        """m sqrt(D) kappa / (D - 1 + kappa)."""
        return self.loc * (self.radius * self.concentration / (2 * self.b + self.concentration))[..., None]

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        half = torch.distributions.Beta(self.b + self.concentration, self.b).rsample(torch.Size(sample_shape))[
            ..., None
        ]
        around = torch.randn((*shape[:-1], shape[-1] - 1), dtype=self.loc.dtype, device=self.loc.device)
        around = torch.nn.functional.normalize(around, dim=-1)
        beside = 2 * (half * (1 - half)).clamp(min=torch.finfo(half.dtype).tiny).sqrt()
        return self.radius * _turn(torch.cat([2 * half - 1, beside * around], -1), self.loc)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "PowerSpherical":
        """The same for a larger batch."""
        loc, concentration = self.loc.expand(*batch_shape, -1), self.concentration.expand(batch_shape)
        return PowerSpherical(loc, concentration, validate_args=False)


def _turn(z: Tensor, loc: Tensor) -> Tensor:
    """The reflection that takes the first axis to ``loc``, of z ``(..., D)``."""
    first, rest = loc[..., :1], loc[..., 1:]
    below = torch.where(first > 0, rest.square().sum(-1, keepdim=True) / (1 + first.clamp(min=0)), 1 - first)
    difference = torch.cat([below, -rest], -1)  # e_1 - loc, no digits lost where the two are near
    normal = torch.nn.functional.normalize(difference, dim=-1)
    return z - 2 * (z * normal).sum(-1, keepdim=True) * normal


@register_kl(PowerSpherical, UniformOnSphere)  # type: ignore[untyped-decorator]
def _to_uniform(q: PowerSpherical, p: UniformOnSphere) -> Tensor:
    """The entropy that is missing."""
    return p.entropy() - q.entropy()
