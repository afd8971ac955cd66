"""The bound with nothing in closed form."""

from typing import Any

from ..sites import Program
from .estimator import Estimate, Estimator, Target, elbo


class L_A(Estimator):
    r"""L^A(x) = 1/L sum_l log p(x, z_l) - log q(z_l|x), z_l ~ q(z|x): Pyro's ``Trace_ELBO``.

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, equation 6, https://arxiv.org/abs/1312.6114.
    An unbiased estimate of the evidence lower bound, hence below log p(x) in expectation (a draw may lie above), for
    any pair. Its gradient is unbiased: pathwise where z is reparametrised, by the score function where it is not.
    With beta, the bound is E log p(x|z) - beta KL(q(z|x) || p(z)).

    Example:
        >>> import torch
        >>> from aevb.guides import ExactPosterior
        >>> from aevb.models import LinearGaussian
        >>> model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
        >>> x = torch.zeros(1, 2)
        >>> estimate = L_A().estimate(model, ExactPosterior(model), x)
        >>> torch.allclose(estimate.bound, model.log_evidence(x))   # no noise at the exact posterior
        True
    """

    @property
    def target(self) -> Target:
        """The evidence lower bound."""
        return elbo(self.beta)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Equation 6 on a batch."""
        draws = self.draw(model, guide, *args, enumerate=True, **kwargs)
        kl, kl_global = draws.sum_latents([z.path_log_q - z.log_p for z in draws.latents])
        bound = draws.log_likelihood - self.beta * (kl + kl_global)  # equation 6, draw by draw: (L, B)
        surrogate = bound.mean() + draws.score_function(bound / self.samples)
        return Estimate.of(draws, bound.mean(0), surrogate, "monte-carlo")
