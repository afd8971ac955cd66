"""The paper's model, made of a prior, a decoder and a likelihood."""

from typing import Protocol

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from .likelihoods import Likelihood
from .priors import Prior
from .program import Program


class SupportsEncode(Protocol):
    """A guide: anything that says q(z|x)."""

    def encode(self, x: Tensor) -> TorchDistribution: ...


class VAE(Program):
    r"""p(x, z) = prod_i p(z_i) p(x_i | z_i), with p(x|z) = likelihood(decoder(z)).

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, figure 1 and section 3, https://arxiv.org/abs/1312.6114.

    Args:
        prior: p(z) over D latents.
        decoder: a network from ``(..., D)`` to ``(..., likelihood.outputs(P))``.
        likelihood: p(x|z) over P pixels.

    Example:
        >>> from aevb.models import Bernoulli, MLP, StandardNormal
        >>> model = VAE(StandardNormal(10), MLP(10, 500, 64), Bernoulli())
        >>> model.sample(5).shape
        torch.Size([5, 64])
    """

    def __init__(self, prior: Prior, decoder: nn.Module, likelihood: Likelihood) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood

    def forward(self, x: Tensor) -> Tensor:
        """The generative program of ``x``, ``(B, P)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decode(z), obs=x)
        return z

    def decode(self, z: Tensor) -> TorchDistribution:
        """p(x|z): from z ``(..., D)``, event shape ``(P,)``."""
        return self.likelihood(self.decoder(z))

    def reconstruct(self, x: Tensor, guide: SupportsEncode) -> Tensor:
        """The mean of p(x|z) at the mean of the guide's q(z|x), ``(..., P)``: x as the code remembers it."""
        return self.decode(guide.encode(x).mean).mean

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Draws x ~ p(x), ``(count, P)``, each through its own z ~ p(z)."""
        return self.decode(self.prior().sample((count,))).sample()
