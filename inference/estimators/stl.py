"""The bound whose gradient vanishes at the exact posterior."""

from typing import Any

from ..sites import Program
from .estimator import Estimate, Estimator, Target, check_reparametrised, elbo


class STL(Estimator):
    r"""Sticking the landing: the value of L^A, and grad 1/L sum_l log p(x, z_l) - log q(z_l|x; stop(phi)).

    Roeder, Wu and Duvenaud (2017), Sticking the Landing, https://arxiv.org/abs/1703.09194.
    The gradient of log q by its parameters at a fixed z, the score, has mean 0 and is left out: what is left is
    unbiased for the evidence lower bound, and 0 for the guide, without noise, where q(z|x) = p(z|x). Far from there it
    may be noisier than L_A. With beta, the bound is E log p(x|z) - beta KL(q(z|x) || p(z)). Every latent has to be
    reparametrised. With several latent sites the guide is run twice.

    Example:
        >>> import torch
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import LinearGaussian, MLP
        >>> model, guide = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0), AmortizedNormal(MLP(2, 4))
        >>> with torch.no_grad():   # p(z|x) = N(x / 2, 1 / 2)
        ...     _ = guide.encoder[0].weight.copy_(torch.tensor([[0.5, 0], [0, 0.5], [0, 0], [0, 0]]))
        ...     _ = guide.encoder[0].bias.copy_(torch.tensor([0.0, 0.0, -0.6931, -0.6931]))
        >>> gradient = torch.autograd.grad(STL().estimate(model, guide, torch.ones(1, 2)).surrogate, guide.parameters())
        >>> max(g.abs().max().item() for g in gradient) < 1e-3
        True
    """

    @property
    def target(self) -> Target:
        """The evidence lower bound."""
        return elbo(self.beta)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Kingma and Welling's equation 6 on a batch, and its gradient without the score."""
        draws = self.draw(model, guide, *args, twice=True, **kwargs)
        check_reparametrised(self, draws, "Use L_A or REINFORCE, whose gradient is then by the score function.")
        bound = draws.log_weights(self.beta)
        score, score_global = draws.log_q_at_fixed_z()
        surrogate = bound.mean() + self.beta * (score.mean() + score_global.mean())
        return Estimate.of(draws, bound.mean(0), surrogate, "monte-carlo")
