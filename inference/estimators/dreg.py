"""The importance weighted bound with a guide gradient that does not drown."""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...models.errors import InputError
from ..draws import Draws
from ..sites import Plate, Program, Site, is_moved, no_density
from .estimator import Estimate, check_reparametrised
from .importance import ImportanceWeighted, log_mean_exp


class DReG(ImportanceWeighted):
    r"""The value of IWAE, and for the guide the gradient sum_i v_i^2 (d log w_i / d z_i) (d z_i / d phi).

    v_i = w_i / sum_j w_j. Tucker, Lawson, Gu and Maddison (2018), Doubly Reparameterized Gradient Estimators for Monte
    Carlo Objectives, https://arxiv.org/abs/1810.04152. The score of q is integrated by parts, so that the
    gradient is unbiased for E L_k, as IWAE's is, and its signal-to-noise ratio for the guide rises as k^1/2. The
    model's gradient is IWAE's. With k = 1 it is sticking the landing. With beta, w_i = p(x|z_i) (p(z_i) /
    q(z_i|x))^beta, and v_i^2 becomes v_i (1 - beta (1 - v_i)). Every latent has to be reparametrised. With several
    latent sites the guide is run twice.

    Example:
        >>> import torch
        >>> from aevb.guides import ExactPosterior
        >>> from aevb.models import LinearGaussian
        >>> model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
        >>> estimate = DReG().estimate(model, ExactPosterior(model), torch.zeros(1, 2))
        >>> torch.allclose(estimate.bound, model.log_evidence(torch.zeros(1, 2)))
        True
    """

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Their gradient on a batch.

        log p(x, z) is weighted by v for the model's sake; what it sends back to the guide is weighted once more.
        """
        link = _Weighted()
        draws = self.draw(model, guide, *args, link=link, twice=True, **kwargs)
        check_reparametrised(self, draws, "Use VIMCO or IWAE, whose gradient is then by the score function.")
        log_w = draws.log_weights(self.beta)
        v = log_w.detach().softmax(0)
        again = 1 - self.beta * _scale(draws) * (1 - v)  # v at beta = 1
        link.weigh(again, draws.plate)
        log_q, _ = draws.sum_latents([z.log_q for z in draws.latents])
        score, _ = draws.log_q_at_fixed_z()
        log_p = draws.log_likelihood + self.beta * draws.log_prior
        surrogate = (v * log_p).sum(0).mean() - self.beta * (v * again * (log_q - score)).sum(0).mean()
        return Estimate.of(draws, log_mean_exp(log_w), surrogate)


def _scale(draws: Draws) -> float:
    """The scale that a poutine has put on the latents.

    Raises:
        InputError: they differ in it, a mask hides some, or one is a Delta: the score is not to be had by parts.
    """
    for site in draws.held_sites.values():
        if torch.is_grad_enabled() and is_moved(site):
            raise no_density(site)
    sites = [s for z in draws.latents for s in (z.guide_site, z.model_site) if s is not None]
    share = draws.plate.batch / draws.plate.size
    scales = {float(s["scale"]) * share for s in sites if not isinstance(s["scale"], Tensor) or s["scale"].numel() == 1}
    if any(s["mask"] is not None for s in sites) or any(
        isinstance(s["scale"], Tensor) and s["scale"].numel() > 1 for s in sites
    ):
        scales = set()
    if len(scales) != 1:
        raise InputError(
            f"DReG needs one scale for all latents, and no mask: {[s['name'] for s in sites]} differ.\n"
            "  Use IWAE or VIMCO."
        )
    return scales.pop()


class _Weighted:
    """A link that weighs the gradient which the model sends back to each draw, by weights that come later."""

    def __init__(self) -> None:
        self.linked: list[tuple[Tensor, int]] = []

    def __call__(self, site: Site) -> Tensor:
        z = site["value"]
        if z.requires_grad:
            z = z.view_as(z)  # the guide's own use of z is not weighed
            self.linked.append((z, site["fn"].event_dim))
        return z

    def weigh(self, weights: Tensor, plate: Plate) -> None:
        for z, event_dim in self.linked:
            z.register_hook(partial(torch.mul, plate.spread(weights, event_dim)))
