"""A guide that can take any shape: a Normal, bent."""

from collections.abc import Iterator
from typing import Any, Literal

import pyro.distributions as dist
import torch
from pyro.distributions import transforms
from pyro.distributions.transforms.planar import ConditionedPlanar
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn

from ..models.errors import InputError, check_at_least, check_name
from ..models.priors.flow_prior import reversed_between
from .guide import Amortized


class AmortizedFlow(Amortized):
    r"""q(z|x) = N(u; mu, diag sigma^2) abs(det du/dz), z = f_x(u), sigma^2 = floor + exp(s), (mu, s, c) = encoder(x).

    f_x is a chain of transforms that x steers through c. Draws and their own density are quick; KL(q || p) has no
    closed form: use L_B_mixed or L_A.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., outputs(D))``: mu, s, c.
        latents: D, the number of latents; at least 2 for ``iaf``.
        transform: ``iaf``: each latent is mixed with a function of c and those before it, by a gate, the order
            reversed between layers: Kingma et al. (2016), Improving Variational Inference with Inverse Autoregressive
            Flow, equations 13 and 14, https://arxiv.org/abs/1606.04934. ``planar``: z + v tanh(w'z + b), where v, w, b
            of each layer are the encoder's, v bent so that w'v > -1: Rezende and Mohamed (2015), Variational
            Inference with Normalizing Flows, equation 10, https://arxiv.org/abs/1505.05770. It has no inverse:
            estimators that need log q of a given z refuse it, which are all but L_A, L_B_mixed, IWAE and Renyi.
        layers: the number of transforms.
        hidden: units of the hidden layer of each autoregressive network of ``iaf``; D of them where D is more.
        context: the size of c for ``iaf``.
        floor: the smallest variance of u, in squared units of z.

    Example:
        >>> from aevb.models import MLP
        >>> guide = AmortizedFlow(MLP(64, 500, AmortizedFlow.outputs(10, layers=4)), 10, layers=4)
        >>> guide.sample(torch.zeros(5, 64)).shape
        torch.Size([1, 5, 10])
    """

    def __init__(
        self,
        encoder: nn.Module,
        latents: int,
        *,
        transform: Literal["planar", "iaf"] = "iaf",
        layers: int = 2,
        hidden: int = 64,
        context: int = 16,
        floor: float = 1e-8,
    ) -> None:
        super().__init__(encoder)
        self.latents, self.floor = latents, floor
        self.transform = check_name("transform of AmortizedFlow", transform, ("planar", "iaf"))
        self.layers = check_at_least(1, "layers of AmortizedFlow", layers)
        self.context = check_at_least(1, "context of AmortizedFlow", context)
        check_at_least(1, "hidden of AmortizedFlow", hidden)
        if transform == "iaf":
            if latents < 2:
                raise InputError(f"An inverse autoregressive flow has at least 2 latents; here {latents}. Use planar.")
            self.flows = nn.ModuleList(_autoregressive(latents, context, hidden) for _ in range(layers))

    @staticmethod
    def outputs(latents: int, *, transform: str = "iaf", layers: int = 2, context: int = 16, **options: Any) -> int:
        """2D, and what steers the flow: 2D + 1 a layer for ``planar``, the context for ``iaf``."""
        return 2 * latents + (layers * (2 * latents + 1) if transform == "planar" else context)

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., outputs(D))``."""
        rest = numbers.shape[-1] - 2 * self.latents
        loc, log_excess_variance, steering = numbers.split((self.latents, self.latents, rest), -1)
        base = dist.Normal(loc, (self.floor + log_excess_variance.exp()).sqrt()).to_event(1)
        if self.transform == "planar":
            return FlowPosterior(base, list(self._planar(steering)))
        flows = (flow.condition(steering) for flow in self.flows)  # type: ignore[operator]
        return FlowPosterior(base, list(reversed_between(flows, loc)))

    def _planar(self, steering: Tensor) -> Iterator[dist.transforms.Transform]:
        for numbers in steering.chunk(self.layers, -1):
            v, w, b = numbers.split((self.latents, self.latents, 1), -1)
            yield ConditionedPlanar((b, v, w))


class FlowPosterior(dist.TransformedDistribution):
    """A flow of a Normal; its moments, which have no closed form, from 100 draws, the same noise for every datum."""

    def log_prob(self, value: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(value.shape, self.batch_shape + self.event_shape)
        return super().log_prob(value if value.shape == shape else value.expand(shape))

    @property
    def mean(self) -> Tensor:
        return self._draws().mean(0)

    @property
    def variance(self) -> Tensor:
        return self._draws().var(0)

    def _draws(self) -> Tensor:
        normal = self.base_dist.base_dist
        shape = (100, *[1] * (normal.loc.ndim - 1), normal.loc.shape[-1])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=normal.loc.dtype)
        z = normal.loc + normal.scale * noise.to(normal.loc.device)
        for transform in self.transforms:
            z = transform(z)
        return z


def _autoregressive(latents: int, context: int, hidden: int) -> nn.Module:
    order: Any = torch.arange(latents)
    network = ConditionalAutoRegressiveNN(latents, context, [max(hidden, latents)], permutation=order)
    return transforms.ConditionalAffineAutoregressive(network, stable=True)
