"""What each latent carries."""

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from ..models.errors import InputError
from .batches import Data
from .draws import Latent
from .estimators import L_A
from .evaluate import DRAWS_AT_ONCE, held_out
from .sites import Plate, Program, describe


def kl_per_latent(model: Program, guide: Program, data: Data, *, seed: int = 0) -> dict[str, Tensor]:
    """KL(q(z_d|x) || p(z_d)) in nats, averaged over the data, for each local site whose families factorise.

    Its sum over d is the KL of the bound.

    Returns:
        For each such site ``(D,)``; a site whose posterior or prior does not factorise, or has no closed form, is
        left out.
    """
    sums: dict[str, list[Tensor]] = {}
    for z, plate in _local_latents(model, guide, data, seed):
        if (kl := _factorised_kl(z)) is not None:
            share = plate.batch / plate.size
            sums.setdefault(z.name, []).append(share * _by_datum(kl, z, plate))
    return {name: torch.cat(parts).mean(0).cpu() for name, parts in sums.items()}


def active_units(
    model: Program, guide: Program, data: Data, *, threshold: float = 0.01, seed: int = 0
) -> dict[str, int]:
    """How many latents of each local site follow the data: those with Var_x E_q(z_d|x)[z_d] > threshold.

    Burda, Grosse and Salakhutdinov (2015), Importance Weighted Autoencoders, section 5.2, whose threshold is 0.01. A
    class, which has no mean, is left out.
    """
    means: dict[str, list[Tensor]] = {}
    for z, plate in _local_latents(model, guide, data, seed):
        if not (mean := _mean(z)).isnan().all():
            means.setdefault(z.name, []).append(_by_datum(mean, z, plate))
    return {name: int((torch.cat(parts).var(0) > threshold).sum()) for name, parts in means.items()}


def _local_latents(model: Program, guide: Program, data: Data, seed: int) -> list[tuple[Latent, Plate]]:
    with held_out(model, guide, data, DRAWS_AT_ONCE, seed) as batches:
        draws = [L_A().draw(model, guide, *batch) for batch in batches]
    return [(z, draw.plate) for draw in draws for z in draw.latents if not z.is_global]


def _by_datum(value: Tensor, z: Latent, plate: Plate) -> Tensor:
    """A value of batch and event shape as rows of data, ``(B, D)``: each element of other plates is a latent too."""
    return value.movedim(plate.dim - z.guide_site["fn"].event_dim, 0).flatten(1) if value.ndim > 1 else value[:, None]


def _mean(z: Latent) -> Tensor:
    q = z.guide_site["fn"]
    try:
        return q.mean
    except NotImplementedError:
        raise InputError(f"Active units need the mean of q; {describe(q)} at site '{z.name}' has none.") from None


def _factorised_kl(z: Latent) -> Tensor | None:
    if z.model_site is None:
        return None
    q, p = _one_latent(z.guide_site["fn"]), _one_latent(z.model_site["fn"])
    if q is None or p is None:
        return None
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError:
        return None
    scale, mask = z.guide_site["scale"], z.guide_site["mask"]
    event = (1,) * z.guide_site["fn"].event_dim
    scale, mask = (v.reshape(v.shape + event) if isinstance(v, Tensor) and v.ndim else v for v in (scale, mask))
    return scale_and_mask(kl, scale, mask)


def _one_latent(fn: Distribution) -> Distribution | None:
    """A factorised distribution over D latents as D distributions over one."""
    if isinstance(fn, Independent):
        return _one_latent(fn.base_dist)
    return fn if not fn.event_shape else None
