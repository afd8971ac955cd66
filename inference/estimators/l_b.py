"""The bound with its KL in closed form."""

from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.infer.util import is_validation_enabled
from torch import Tensor
from torch.distributions import kl_divergence

from ...models.errors import InputError
from ..draws import Draws, Latent
from ..sites import Program, describe
from .estimator import Estimate, Estimator, Target, check_reparametrised, elbo


class L_B(Estimator):
    r"""L^B(x) = 1/L sum_l log p(x|z_l) - KL(q(z|x) || p(z)), z_l ~ q(z|x): Pyro's ``TraceMeanField_ELBO``.

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, equation 7, https://arxiv.org/abs/1312.6114.
    An unbiased estimate of the evidence lower bound for pairs whose KL has a closed form at every latent site (Pyro's
    silent fallback on a sample is an error here) and whose latents are all reparametrised; its gradient is unbiased.
    With beta, the bound is E log p(x|z) - beta KL(q(z|x) || p(z)).

    Raises:
        InputError: a site has no closed form, or is not reparametrised; it is named with both distributions.

    Example:
        >>> import torch
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import Gaussian, MLP, StandardNormal, VAE
        >>> model = VAE(StandardNormal(2), MLP(2, 4), Gaussian(variance="shared"))
        >>> L_B().estimate(model, AmortizedNormal(MLP(4, 4)), torch.zeros(3, 4)).kl_path
        {'z': 'analytic'}
    """

    @property
    def target(self) -> Target:
        """The evidence lower bound."""
        return elbo(self.beta)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Equation 7 on a batch."""
        draws = self.draw(model, guide, *args, enumerate=True, **kwargs)
        check_reparametrised(self, draws, "Use L_A or L_B_mixed, whose gradient is then by the score function.")
        kl, kl_global = draws.sum_latents([_analytic(z, draws) for z in draws.latents])
        bound = draws.log_likelihood - self.beta * (kl + kl_global)  # equation 7, draw by draw: (L, B)
        return Estimate(
            bound=bound.mean(0),
            surrogate=bound.mean(),
            reconstruction=draws.log_likelihood.mean(0),
            kl=kl.mean(0),
            kl_global=kl_global.mean(),
            kl_path={z.name: "analytic" for z in draws.latents},
        )


def _analytic(z: Latent, draws: Draws) -> Tensor:
    kl = closed_form_kl(z, draws)
    if kl is not None:
        return kl
    q, p = describe(z.guide_site["fn"]), describe(z.model_site and z.model_site["fn"])
    what = f"KL({q} || {p}) has none" if z.follows_model else f"p({z.name}|...) depends on what the guide draws later"
    raise InputError(
        f"L_B needs a closed-form KL at every latent site.\n"
        f"  Site '{z.name}': {what}.\n"
        f"  Use L_B_mixed, which samples the KL of such sites, or L_A, which samples all."
    )


def closed_form_kl(z: Latent, draws: Draws) -> Tensor | None:
    """KL(q || p) of one site in closed form, nats per datum, ``(L, B)`` or ``(L, 1)``; None where there is none.

    Raises:
        InputError: it is infinite, or its scale or mask are one program's alone.
    """
    q, p = z.guide_site["fn"], z.model_site and z.model_site["fn"]
    if p is None or describe(q) == "Delta" or not z.follows_model:
        return None  # a Delta's value comes from an auxiliary site: its KL is that value's log p
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError:
        return None
    if is_validation_enabled():
        _check(z, kl)
    return draws.plate.nats(z.guide_site, scale_and_mask(kl, z.guide_site["scale"], z.guide_site["mask"]))


def _check(z: Latent, kl: Tensor) -> None:
    """What would be wrong in silence: an infinite KL, and a scale or mask of one program that the other lacks."""
    q, p = describe(z.guide_site["fn"]), describe(z.model_site and z.model_site["fn"])
    if not torch.isfinite(kl).all():
        raise InputError(
            f"A closed-form KL has to be finite.\n"
            f"  Site '{z.name}': KL({q} || {p}) is infinite: the guide reaches where the prior has no mass.\n"
            f"  Choose a guide within the prior's support."
        )
    for what in ("scale", "mask"):
        own, other = z.guide_site[what], z.model_site and z.model_site[what]
        if not _same(own, other):
            raise InputError(
                f"Scale and mask of a closed-form KL are the guide's, which must agree with the model's.\n"
                f"  Site '{z.name}': the {what} is {own} in the guide and {other} in the model.\n"
                f"  Put the same poutine.{what} around the site in both programs, or use L_A."
            )


def _same(own: Tensor | float | None, other: Tensor | float | None) -> bool:
    if own is None or other is None:
        return own is other
    return torch.equal(*torch.broadcast_tensors(torch.as_tensor(own), torch.as_tensor(other)))
