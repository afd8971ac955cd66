"""A prior with several places to be."""

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import constraints

from ..errors import check_at_least
from .prior import Prior


class NormalMixture(Prior):
    r"""p(z) = sum_k pi_k N(z; mu_k, diag s_k^2), with weights, means and variances learned.

    Tomczak and Welling (2018), VAE with a VampPrior, https://arxiv.org/abs/1705.07120, compare theirs to this one, the
    mixture of Gaussians. At first the weights are equal, the variances 1, and the means
    drawn from N(0, I), so that the components differ; of one component the mean is 0, which makes it N(0, I).
    KL(q || p) has no closed form: use L_B_mixed or L_A.

    Args:
        latents: D, the number of latents.
        components: K, the number of components.
        floor: their smallest variance, in squared units of z.

    Example:
        >>> NormalMixture(2, components=1)().log_prob(torch.zeros(2)).item()   # that of N(0, I)
        -1.8378770351409912
    """

    def __init__(self, latents: int, *, components: int = 10, floor: float = 1e-4) -> None:
        super().__init__(latents)
        self.components = check_at_least(1, "components of NormalMixture", components)
        self.floor = floor
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latents) if components > 1 else torch.zeros(1, latents))
        self.log_excess_variance = nn.Parameter(torch.full((components, latents), 1 - floor).log())

    @property
    def scale(self) -> Tensor:
        """s, ``(K, D)``."""
        return (self.floor + self.log_excess_variance.exp()).sqrt()

    def forward(self) -> "MixtureOfNormals":
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return MixtureOfNormals(self.logits, self.loc, self.scale)


class MixtureOfNormals(dist.TorchDistribution):
    r"""sum_k softmax(logits)_k N(z; mu_k, diag s_k^2), quick for many components.

    The K distances of a z are one product of matrices,

        sum_d (z_d - mu_kd)^2 / s_kd^2 = z^2 . s_k^-2 - 2 z . (mu_k s_k^-2) + mu_k^2 . s_k^-2,

    in double precision, since its terms cancel: with z and mu up to 10 and s down to 1e-4, to some 1e-4 nats.

    Args:
        logits: log weights, ``(K,)``, up to a constant.
        loc, scale: mu and s, ``(K, D)``.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # torch's own name and form
    support = constraints.real_vector

    def __init__(
        self, logits: Tensor, loc: Tensor, scale: Tensor, batch_shape: Any = (), validate_args: bool | None = None
    ) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(torch.Size(batch_shape), loc.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_prob = self.log_joint(value).logsumexp(-1).to(value.dtype)
        return log_prob.expand(torch.broadcast_shapes(value.shape[:-1], self.batch_shape))

    def log_joint(self, value: Tensor) -> Tensor:
        """log p(k) p(z|k) of every component k, ``(..., K)``, in double precision."""
        z, loc, scale = value.double(), self.loc.double(), self.scale.double()
        precision = scale**-2
        distances = z**2 @ precision.mT - 2 * (z @ (loc * precision).mT) + (loc**2 * precision).sum(-1)
        log_normaliser = scale.log().sum(-1) + 0.5 * math.log(2 * math.pi) * scale.shape[-1]
        return self.logits.double().log_softmax(-1) - log_normaliser - 0.5 * distances

    @property
    def mean(self) -> Tensor:
        return (self.logits.softmax(-1) @ self.loc).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Tensor:
        weights = self.logits.softmax(-1)
        variance = weights @ (self.scale**2 + (self.loc - weights @ self.loc) ** 2)
        return variance.expand(self.batch_shape + self.event_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            which = dist.Categorical(logits=self.logits).sample(shape[:-1])
            return torch.normal(self.loc[which], self.scale[which])

    def expand(self, batch_shape: Any, _instance: Any = None) -> "MixtureOfNormals":
        """The same for a larger batch, nothing copied."""
        return MixtureOfNormals(self.logits, self.loc, self.scale, batch_shape, validate_args=False)
