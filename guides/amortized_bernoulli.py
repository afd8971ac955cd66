"""The guide of binary latents."""

from typing import Any

import pyro.distributions as dist
from torch import Tensor

from .guide import Amortized


class AmortizedBernoulli(Amortized):
    r"""q(z|x) = prod_d Bernoulli(z_d; pi_d(x)), the log-odds of pi(x) = encoder(x).

    Mnih and Gregor (2014), Neural Variational Inference and Learning, section 2, https://arxiv.org/abs/1402.0030.
    It goes with a prior of binary latents. Its draws have no path, which DReG, L_B and STL need. L_A, L_B_mixed, IWAE
    and Renyi follow the score function as it is, REINFORCE and VIMCO with baselines against its noise; RWS, WakeWake
    and WakeSleep need neither.

    Args:
        encoder: a network from ``(..., P)`` to ``(..., D)``.

    Example:
        >>> import torch
        >>> from aevb.models import MLP
        >>> AmortizedBernoulli(MLP(64, 20)).sample(torch.zeros(5, 64)).shape
        torch.Size([1, 5, 20])
    """

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """D: the log-odds of each latent."""
        return latents

    def family(self, numbers: Tensor) -> dist.TorchDistribution:
        """q of the encoder's numbers, ``(..., D)``."""
        return dist.Bernoulli(logits=numbers).to_event(1)
