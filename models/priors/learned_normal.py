"""A Normal that moves to where the posteriors are."""

from typing import Literal

import pyro.distributions as dist
import torch
from torch import nn

from ..errors import check_name
from .prior import Prior


class LearnedNormal(Prior):
    r"""p(z) = N(z; mu, S), with mu and S learned: diagonal, or full by its Cholesky factor; standard at first.

    Hoffman and Johnson (2016), ELBO surgery: yet another way to carve up the variational evidence lower bound, show
    what a prior that moves to where the posteriors are would gain. With a decoder whose first layer is linear it can
    do no more than N(0, I), since that layer can undo it: it shows how much of a gain is a prior's shape, and how
    much a rescaled code. KL(q || p) has a closed form for Normal q.

    Args:
        latents: D, the number of latents.
        covariance: ``diagonal``: S = diag(floor + exp(s)); ``full``: S = L L' with the diagonal of L positive.
        floor: the smallest variance of the diagonal one, and of the squared diagonal of L, in squared units of z.

    Example:
        >>> prior = LearnedNormal(3, covariance="full")
        >>> torch.allclose(prior().log_prob(torch.zeros(3)), torch.tensor(-2.7568156))   # that of N(0, I)
        True
    """

    def __init__(
        self, latents: int, *, covariance: Literal["diagonal", "full"] = "diagonal", floor: float = 1e-8
    ) -> None:
        super().__init__(latents)
        self.covariance = check_name("covariance of LearnedNormal", covariance, ("diagonal", "full"))
        self.floor = floor
        self.loc = nn.Parameter(torch.zeros(latents))
        self.log_excess_variance = nn.Parameter(torch.full((latents,), 1 - floor).log())
        if covariance == "full":
            self.below_diagonal = nn.Parameter(torch.zeros(latents, latents))  # what is above is not used

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        scale = (self.floor + self.log_excess_variance.exp()).sqrt()
        if self.covariance == "diagonal":
            return dist.Normal(self.loc, scale).to_event(1)
        return dist.MultivariateNormal(self.loc, scale_tril=scale.diag() + self.below_diagonal.tril(-1))
