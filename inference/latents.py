"""What each latent carries."""

from collections.abc import Callable
from functools import partial

import torch
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from ..models.errors import InputError
from .batches import Batch, Data
from .draws import Latent
from .estimators import L_A
from .evaluate import DRAWS_AT_ONCE, held_out
from .pair import Pair
from .sites import Plate, Program, describe

_DRAWS = 100  # for each datum, where what is asked of one latent depends on the others


def kl_per_latent(model: Program, guide: Program, data: Data, *, seed: int = 0) -> dict[str, Tensor]:
    """KL(q(z_d|x) || p(z_d)) in nats, averaged over the data, for each local site whose families factorise.

    Its sum over d is the KL of the bound. Where q or p depends on other latents, it is the mean over their draws. A
    global latent, outside the plate ``data``, is left out: its KL is ``evaluate(...).kl_global``.

    Returns:
        For each such site ``(D,)``; left out is a site whose posterior or prior does not factorise, that has no closed
        form, or whose p depends on what the guide draws later.

    Raises:
        InputError: all latents are global.
    """

    def kl(z: Latent, plate: Plate) -> Tensor | None:
        value = _factorised_kl(z)
        return None if value is None else plate.batch / plate.size * _by_datum(value, z, plate)

    check = partial(_check_local, "kl_per_latent", "  Their KL, divided by N, is evaluate(...).kl_global.")
    found = _over_draws(kl, check, model, guide, data, seed)
    return {name: mean.mean(0).cpu() for name, (mean, _) in found.items()}


def active_units(
    model: Program, guide: Program, data: Data, *, threshold: float = 0.01, seed: int = 0
) -> dict[str, int]:
    """How many latents of each local site follow the data: those with Var_x E_q(z_d|x)[z_d] > threshold.

    Burda, Grosse and Salakhutdinov (2015), Importance Weighted Autoencoders, section 5.2, whose threshold is 0.01.
    Where q(z_d|...) depends on other latents, the expectation is a mean over draws of those, and what their noise adds
    to the variance is taken off, without bias. A class, which has no mean, is left out, and so is a global latent.

    Raises:
        InputError: all latents are global, or a posterior has no mean.
    """
    check = partial(_check_local, "active_units", "  No latent of theirs can follow a datum.")
    found = _over_draws(_mean_by_datum, check, model, guide, data, seed)
    return {name: int((mean.var(0) - noise.mean(0) > threshold).sum()) for name, (mean, noise) in found.items()}


def _check_local(what: str, remedy: str, pair: Pair) -> None:
    if pair.global_latents and not pair.local_latents:
        raise InputError(
            f"{what} is of latents per datum, but the latents {list(pair.global_latents)} are shared by all data "
            f"(outside the plate 'data').\n{remedy}"
        )


Value = Callable[[Latent, Plate], Tensor | None]


def _over_draws(
    value: Value, check: Callable[[Pair], None], model: Program, guide: Program, data: Data, seed: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """A value of each local site, ``(N, D)``: its mean over draws, and the variance of that mean; None is left out."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    with held_out(model, guide, data, DRAWS_AT_ONCE, seed, check) as batches:
        for batch in batches:
            for name, moments in _moments(partial(_values, value, model, guide, batch)).items():
                found.setdefault(name, []).append(moments)
    return {name: (torch.cat([m for m, _ in parts]), torch.cat([v for _, v in parts])) for name, parts in found.items()}


def _values(value: Value, model: Program, guide: Program, batch: Batch) -> dict[str, Tensor]:
    draws = L_A().draw(model, guide, *batch)
    values = {z.name: value(z, draws.plate) for z in draws.latents if not z.is_global}
    return {name: v for name, v in values.items() if v is not None}


def _moments(draw: Callable[[], dict[str, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean over draws and the variance of that mean; two draws where they are the same, else a hundred."""
    mean = draw()
    square = {name: torch.zeros_like(v) for name, v in mean.items()}
    for count in range(2, _DRAWS + 1):
        new = draw()
        if count == 2 and all(torch.equal(v, mean[name]) for name, v in new.items()):
            break
        for name, v in new.items():  # Welford's recursion
            off = v - mean[name]
            mean[name] = mean[name] + off / count
            square[name] = square[name] + off * (v - mean[name])
    return {name: (m, square[name] / (_DRAWS * (_DRAWS - 1))) for name, m in mean.items()}


def _by_datum(value: Tensor, z: Latent, plate: Plate) -> Tensor:
    """A value of batch and event shape as rows of data, ``(B, D)``: each element of other plates is a latent too."""
    return value.movedim(plate.dim - z.guide_site["fn"].event_dim, 0).flatten(1) if value.ndim > 1 else value[:, None]


def _mean_by_datum(z: Latent, plate: Plate) -> Tensor | None:
    mean = _mean(z)
    return None if mean.isnan().all() else _by_datum(mean, z, plate)


def _mean(z: Latent) -> Tensor:
    q = z.guide_site["fn"]
    try:
        return q.mean
    except NotImplementedError:
        raise InputError(f"Active units need the mean of q; {describe(q)} at site '{z.name}' has none.") from None


def _factorised_kl(z: Latent) -> Tensor | None:
    if z.model_site is None or not z.follows_model:
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
