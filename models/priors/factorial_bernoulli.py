"""Binary latents."""

import pyro.distributions as dist
import torch
from torch import nn

from .prior import Prior


class FactorialBernoulli(Prior):
    r"""p(z) = prod_d pi_d^z_d (1 - pi_d)^(1 - z_d) on {0, 1}^D, with pi learned, 1/2 at first.

    Mnih and Gregor (2014), Neural Variational Inference and Learning, section 2, https://arxiv.org/abs/1402.0030: the
    top of a sigmoid belief network. It goes with :class:`~aevb.guides.AmortizedBernoulli`.

    Args:
        latents: D, the number of latents.

    Example:
        >>> FactorialBernoulli(3)().log_prob(torch.ones(3)).item() / 3   # log 1/2 a latent
        -0.6931471824645996
    """

    def __init__(self, latents: int) -> None:
        super().__init__(latents)
        self.logits = nn.Parameter(torch.zeros(latents))

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return dist.Bernoulli(logits=self.logits).to_event(1)
