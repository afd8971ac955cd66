"""The model whose latents fall into groups."""

import pyro
import pyro.distributions as dist
from torch import Tensor, nn
from torch.nn.functional import embedding

from .errors import InputError
from .likelihoods import Likelihood
from .priors import NormalMixture
from .vae import VAE


class GaussianMixtureVAE(VAE):
    r"""p(y) p(z|y) p(x|z): y one of K groups, p(z|y) = N(z; mu_y, diag s_y^2).

    Jiang et al. (2017), Variational Deep Embedding, https://arxiv.org/abs/1611.05148, equations 1 to 3. A :class:`VAE`
    with the prior :class:`NormalMixture`, whose component is a latent of its own, ``y``. With the guide
    ``Responsibilities``, q(y|z) = p(y|z) and y summed over, its bound is that VAE's for every draw of z.

    Args:
        prior: p(y) and p(z|y).
        decoder: a network from ``(..., D)`` to ``(..., likelihood.outputs(P))``.
        likelihood: p(x|z) over P pixels.

    Example:
        >>> import torch
        >>> from aevb.models import Bernoulli, MLP, NormalMixture
        >>> model = GaussianMixtureVAE(NormalMixture(2, components=10), MLP(2, 50, 64), Bernoulli())
        >>> model.responsibilities(torch.zeros(5, 2)).probs.shape
        torch.Size([5, 10])
    """

    prior: NormalMixture

    def __init__(self, prior: NormalMixture, decoder: nn.Module, likelihood: Likelihood) -> None:
        if not isinstance(prior, NormalMixture):
            raise InputError(f"GaussianMixtureVAE has the prior NormalMixture; this is {type(prior).__name__}.")
        super().__init__(prior, decoder, likelihood)

    def forward(self, x: Tensor) -> Tensor:
        """The generative program of ``x``, ``(B, P)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            y = pyro.sample("y", dist.Categorical(logits=self.prior.logits))
            z = pyro.sample("z", self.group(y))
            pyro.sample("x", self.decode(z), obs=x)
        return z

    def group(self, y: Tensor) -> dist.TorchDistribution:
        """p(z|y): from y ``(...)``, event shape ``(D,)``."""
        return dist.Normal(embedding(y, self.prior.loc), embedding(y, self.prior.scale)).to_event(1)

    def responsibilities(self, z: Tensor) -> dist.Categorical:
        """p(y|z), exact: from z ``(..., D)``, batch shape ``(...)``."""
        return dist.Categorical(logits=self.prior().log_joint(z).to(z.dtype))
