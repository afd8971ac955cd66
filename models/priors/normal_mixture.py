"""A prior with several places to be."""

import pyro.distributions as dist
import torch
from torch import nn

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

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        scale = (self.floor + self.log_excess_variance.exp()).sqrt()
        components = dist.Normal(self.loc, scale).to_event(1)
        return dist.MixtureSameFamily(dist.Categorical(logits=self.logits), components)
