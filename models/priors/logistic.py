"""A prior with tails between the Normal's and the Laplace's."""

import pyro.distributions as dist
import torch
from torch import Tensor

from .prior import Prior


class Logistic(Prior):
    r"""p(z) = prod_d sigmoid(z_d) (1 - sigmoid(z_d)).

    Of variance pi^2 / 3: the base of Dinh, Krueger and Bengio (2014), NICE, section 3.4,
    https://arxiv.org/abs/1410.8516. KL(q || p) has no closed form: use L_B_mixed or L_A. It has no parameters.

    Args:
        latents: D, the number of latents.

    Example:
        >>> Logistic(3)().log_prob(torch.zeros(3)).item() / 3   # log 1/4 a latent
        -1.3862943649291992
    """

    zero: Tensor

    def __init__(self, latents: int) -> None:
        super().__init__(latents)
        self.register_buffer("zero", torch.zeros(latents), persistent=False)

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        return dist.Logistic(self.zero, 1.0).to_event(1)
