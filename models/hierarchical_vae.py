"""The model with several layers of latents."""

from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from .conditional_normal import ConditionalNormal
from .likelihoods import Likelihood
from .priors import Prior
from .program import Program
from .vae import SupportsEncode


class HierarchicalVAE(Program):
    r"""p(x, z) = p(z_S) p(z_{S-1}|z_S) ... p(z_1|z_2) p(x|z_1), each p(z_s|z_{s+1}) a Normal of diagonal covariance.

    Burda, Grosse and Salakhutdinov (2015), Importance Weighted Autoencoders, section 5 (two layers, of 100 and 50
    latents, and networks of two hidden tanh layers), https://arxiv.org/abs/1509.00519. The sites are ``z1``, nearest
    to x, to ``zS``; with one layer it is the :class:`VAE`. Its guide is :class:`~aevb.guides.Hierarchical`, which draws
    z_1 first and z_S last.

    The guide's order decides what is analytic. KL(q(z_S|z_{S-1}) || p(z_S)) may be, at the z_{S-1} that was drawn. The
    other layers' cannot: p(z_s|z_{s+1}) depends on a z_{s+1} that is drawn after z_s and depends on it. L_B_mixed
    samples those, and L_B refuses them. Pyro's ``TraceMeanField_ELBO`` warns of the order and takes their closed form
    as if z_s and z_{s+1} were independent, which is not the evidence lower bound: use ``Trace_ELBO``.

    Args:
        prior: p(z_S), over the latents of the top layer.
        conditionals: networks from the top down, from ``(..., D_{s+1})`` to ``(..., 2 D_s)``: the mean of z_s, then s,
            its variance being floor + exp(s).
        decoder: a network from ``(..., D_1)`` to ``(..., likelihood.outputs(P))``.
        likelihood: p(x|z_1) over P pixels.
        floor: the smallest variance of a conditional, in squared units of z.

    Example:
        >>> from aevb.models import Bernoulli, MLP, StandardNormal
        >>> model = HierarchicalVAE(StandardNormal(10), [MLP(10, 50, 2 * 20)], MLP(20, 100, 64), Bernoulli())
        >>> model.sample(5).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        prior: Prior,
        conditionals: Sequence[nn.Module],
        decoder: nn.Module,
        likelihood: Likelihood,
        *,
        floor: float = 1e-4,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.conditionals = nn.ModuleList(ConditionalNormal(network, floor=floor) for network in conditionals)
        self.decoder = decoder
        self.likelihood = likelihood

    @property
    def layers(self) -> int:
        """S, the number of layers of latents."""
        return len(self.conditionals) + 1

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The generative program of ``x``, ``(B, P)``; returns z_1 to z_S, ``(B, D_s)`` each."""
        with pyro.plate("data", len(x)):
            z = [pyro.sample(f"z{self.layers}", self.prior())]
            for conditional in self.conditionals:
                z.append(pyro.sample(f"z{self.layers - len(z)}", conditional(z[-1])))
            pyro.sample("x", self.decode(z[-1]), obs=x)
        return tuple(reversed(z))

    def decode(self, z: Tensor) -> TorchDistribution:
        """p(x|z_1), from the layer nearest to x: z ``(..., D_1)``, event shape ``(P,)``."""
        return self.likelihood(self.decoder(z))

    def reconstruct(self, x: Tensor, guide: SupportsEncode) -> Tensor:
        """The mean of p(x|z_1) at the mean of the guide's q(z_1|x), ``(..., P)``: the layers above have no part."""
        return self.decode(guide.encode(x).mean).mean

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Draws x ~ p(x), ``(count, P)``, each through its own z_S, ..., z_1."""
        z = self.prior().sample((count,))
        for conditional in self.conditionals:
            z = conditional(z).sample()
        return self.decode(z).sample()
