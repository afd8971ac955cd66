"""The guide of binary latents."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor, nn

from .guide import Guide


class AmortizedBernoulli(Guide):
    r"""q(z|x) = prod_d Bernoulli(z_d; pi_d(x)), the log-odds of pi(x) = encoder(x).

    Mnih and Gregor (2014), Neural Variational Inference and Learning, section 2, https://arxiv.org/abs/1402.0030.
    It goes with a prior of binary latents. Its draws have no path: train with REINFORCE, VIMCO, RWS, WakeWake or
    WakeSleep.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., D)``.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> AmortizedBernoulli(MLP(64, 20)).sample(torch.zeros(5, 64)).shape
        torch.Size([1, 5, 20])
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """D: the log-odds of each latent."""
        return latents

    def encode(self, x: Tensor) -> dist.TorchDistribution:
        """q(z|x): from x ``(..., P)``, batch shape ``(...)``, event shape ``(D,)``."""
        return dist.Bernoulli(logits=self.encoder(x)).to_event(1)
