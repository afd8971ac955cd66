"""The model of x where something is known of it."""

from typing import Protocol

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from .condition import Condition, beside
from .conditional_normal import ConditionalNormal
from .likelihoods import Likelihood
from .priors import Prior
from .program import Program


class SupportsEncodeGiven(Protocol):
    """A guide of a conditional model: anything that says q(z|x, c)."""

    def encode(self, x: Tensor, c: Tensor) -> TorchDistribution: ...


class ConditionalVAE(Program):
    r"""p(x, z|c) = prod_i p(z_i) p(x_i|z_i, c_i), or p(z_i|c_i) for p(z_i), with p(x|z, c) = likelihood(decoder(z, c)).

    Sohn, Lee and Yan (2015), Learning Structured Output Representation using Deep Conditional Generative Models,
    section 4 (their x is c here, and their y is x),
    https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html. With c
    the observed label and a prior that does not depend on it, it is the generative model M2 of Kingma, Rezende, Mohamed
    and Welling (2014), Semi-supervised Learning with Deep Generative Models, equation 2,
    https://arxiv.org/abs/1406.5298. Its guide is :class:`~aevb.guides.Conditional`; both programs take ``(x, c)``, and
    the data of ``fit`` are the two: a tuple of tensors, or ``split.labelled()``. Bounds and evidence are of log p(x|c).

    Args:
        prior: p(z) over D latents, or p(z|c), a :class:`ConditionalNormal` of c.
        decoder: a network from ``(..., D + C)``, z then c, to ``(..., likelihood.outputs(P))``.
        likelihood: p(x|z, c) over P pixels.
        classes: C, where c is a label from 0 to C - 1, ``(...)``, which is then made one-hot; None where c is real or
            one-hot already, ``(..., C)``.

    Example:
        >>> from aevb.models import Bernoulli, MLP, StandardNormal
        >>> model = ConditionalVAE(StandardNormal(20), MLP(20 + 10, 500, 64), Bernoulli(), classes=10)
        >>> model.sample(5, torch.tensor(3)).shape   # five threes
        torch.Size([5, 64])
    """

    def __init__(
        self,
        prior: Prior | ConditionalNormal,
        decoder: nn.Module,
        likelihood: Likelihood,
        *,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.condition = Condition(classes)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """The generative program of ``x``, ``(B, P)``, given c, ``(B, C)`` or ``(B,)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self._prior(c))
            pyro.sample("x", self.decode(z, c), obs=x)
        return z

    def decode(self, z: Tensor, c: Tensor) -> TorchDistribution:
        """p(x|z, c): from z ``(..., D)`` and c ``(..., C)`` or ``(...)``, event shape ``(P,)``."""
        return self.likelihood(self.decoder(beside(z, self.condition(c))))

    def reconstruct(self, x: Tensor, c: Tensor, guide: SupportsEncodeGiven) -> Tensor:
        """The mean of p(x|z, c) at the mean of the guide's q(z|x, c), ``(..., P)``."""
        return self.decode(guide.encode(x, c).mean, c).mean

    @torch.no_grad()
    def sample(self, count: int, c: Tensor) -> Tensor:
        """Draws x ~ p(x|c), each through its own z: ``(count, P)`` for one c, ``(count, B, P)`` for B of them."""
        batch = self.condition(c).shape[:-1]
        return self.decode(self._prior(c).expand(batch).sample((count,)), c).sample()

    def _prior(self, c: Tensor) -> TorchDistribution:
        return self.prior() if isinstance(self.prior, Prior) else self.prior(self.condition(c))
