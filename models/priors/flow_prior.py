"""A prior bent out of N(0, I) by invertible transforms."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import pyro.distributions as dist
import torch
from pyro.distributions import transforms
from pyro.nn import AutoRegressiveNN, DenseNN
from torch import Tensor, nn

from ..errors import InputError, check_at_least, check_name
from .prior import Prior


class FlowPrior(Prior):
    r"""p(z) = N(u; 0, I) abs(det du/dz), z = f(u), f a chain of learned transforms with the latents reversed between.

    Chen et al. (2017), Variational Lossy Autoencoder, section 3.2, https://arxiv.org/abs/1611.02731, for
    autoregressive priors. They start as N(0, I), the spline to 1e-3 nats a latent. KL(q || p) has no closed form: use
    L_B_mixed or L_A.

    Args:
        latents: D, the number of latents; at least 2.
        transform: ``coupling``: half of the latents, scaled and shifted by a network of the others (Dinh,
            Sohl-Dickstein and Bengio 2017, https://arxiv.org/abs/1605.08803); ``autoregressive``: each scaled and
            shifted by a network of those before it (Papamakarios, Pavlakou and Murray 2017,
            https://arxiv.org/abs/1705.07057), whose density is quick and whose draws take D steps; ``spline``: half
            of them through rational splines of their own, the other half through splines by a network of the first,
            within [-5, 5] (Durkan et al. 2019, https://arxiv.org/abs/1906.04032; Pyro's are of linear rationals,
            Dolatabadi, Erfani and Leckie 2020).
        layers: the number of transforms.
        hidden: units of each network's hidden layer; D of them for ``autoregressive`` where D is more.

    Example:
        >>> FlowPrior(2)().log_prob(torch.zeros(2)).item()   # that of N(0, I), at first
        -1.8378770351409912
    """

    zero: Tensor

    def __init__(
        self,
        latents: int,
        *,
        transform: Literal["coupling", "autoregressive", "spline"] = "coupling",
        layers: int = 4,
        hidden: int = 64,
    ) -> None:
        super().__init__(latents)
        if latents < 2:
            raise InputError(f"FlowPrior transforms latents by each other: there are at least 2; here {latents}.")
        make = _MAKE[check_name("transform of FlowPrior", transform, _MAKE)]
        check_at_least(1, "layers of FlowPrior", layers)
        check_at_least(1, "hidden of FlowPrior", hidden)
        self.transform = transform
        self.layers = nn.ModuleList(make(latents, hidden) for _ in range(layers))
        self.register_buffer("zero", torch.zeros(latents), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return dist.TransformedDistribution(dist.Normal(self.zero, 1.0).to_event(1), list(self._transforms()))

    def _transforms(self) -> Iterator[dist.transforms.Transform]:
        layers = (layer.inv if self.transform == "autoregressive" else layer for layer in self.layers)
        return reversed_between(layers, self.zero)  # type: ignore[arg-type]


def reversed_between(
    layers: Iterable[dist.transforms.Transform], latents: Tensor
) -> Iterator[dist.transforms.Transform]:
    """Transforms of vectors like ``latents``, ``(..., D)``, whose order is reversed between one and the next."""
    reverse = torch.arange(latents.shape[-1] - 1, -1, -1, device=latents.device)
    for number, layer in enumerate(layers):
        if number:
            yield transforms.Permute(reverse)
        yield layer


def _coupling(latents: int, hidden: int) -> nn.Module:
    half = latents // 2
    network = DenseNN(half, [hidden], [latents - half, latents - half])
    _silence(network.layers[-1])
    return transforms.AffineCoupling(half, network)


def _autoregressive(latents: int, hidden: int) -> nn.Module:
    network = AutoRegressiveNN(latents, [max(hidden, latents)])
    _silence(network.layers[-1])
    return transforms.AffineAutoregressive(network)


def _spline(latents: int, hidden: int, bins: int = 8) -> nn.Module:
    half = latents // 2
    rest = latents - half
    network = DenseNN(half, [hidden], [rest * bins, rest * bins, rest * (bins - 1), rest * bins])
    transform = transforms.SplineCoupling(latents, half, network, count_bins=bins, bound=5.0)
    _silence(network.layers[-1])
    _silence(transform.lower_spline)
    bias: Any = network.layers[-1].bias
    slopes = bias[2 * rest * bins : -rest * bins]
    for slope in (slopes, transform.lower_spline.unnormalized_derivatives):
        nn.init.constant_(slope, math.log(math.expm1(1 - 1e-3)))  # to which Pyro adds the 1e-3
    return transform


def _silence(layer: nn.Module) -> None:
    """Parameters that say 0: no scale, no shift, bins of one size."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


_MAKE = {"coupling": _coupling, "autoregressive": _autoregressive, "spline": _spline}
