"""The bound with its KL in closed form where there is one."""

from typing import Any

from ..sites import Program
from .estimator import Estimate, Estimator, Target, elbo, sampled
from .l_b import closed_form_kl


class L_B_mixed(Estimator):
    r"""1/L sum_l log p(x|z_l) - sum_i KL_i, each latent site's KL_i in closed form where it has one, else sampled.

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, equations 6 and 7, site by site: what Pyro's
    ``TraceMeanField_ELBO`` does in silence. ``kl_path`` says which site took which way. An unbiased estimate of the
    evidence lower bound for any pair, with an unbiased gradient: pathwise where z is reparametrised, by the score
    function where it is not. With beta, the bound is E log p(x|z) - beta KL(q(z|x) || p(z)).

    Example:
        >>> import torch
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import Bernoulli, MLP, NormalMixture, VAE
        >>> model = VAE(NormalMixture(2), MLP(2, 4), Bernoulli())
        >>> L_B_mixed().estimate(model, AmortizedNormal(MLP(4, 4)), torch.zeros(3, 4)).kl_path
        {'z': 'monte-carlo'}
    """

    @property
    def target(self) -> Target:
        """The evidence lower bound."""
        return elbo(self.beta)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Equation 7 where it can be, equation 6 elsewhere."""
        draws = self.draw(model, guide, *args, enumerate=True, **kwargs)
        closed = {z.name: closed_form_kl(z, draws) for z in draws.latents}
        parts = [z.path_log_q - z.log_p if (kl := closed[z.name]) is None else kl for z in draws.latents]
        kl, kl_global = draws.sum_latents(parts)
        bound = draws.log_likelihood - self.beta * (kl + kl_global)  # (L, B)
        return Estimate(
            bound=bound.mean(0),
            surrogate=bound.mean() + draws.score_function(bound / self.samples),
            reconstruction=draws.log_likelihood.mean(0),
            kl=kl.mean(0),
            kl_global=kl_global.mean(),
            kl_path={z.name: sampled(z) if closed[z.name] is None else "analytic" for z in draws.latents},
        )
