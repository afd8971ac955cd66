"""Whether values lie where a distribution has a density: observed data, and what a guide draws."""

from typing import Any

import torch
from pyro.distributions.constraints import corr_cholesky, corr_matrix, simplex, sphere
from torch import Tensor
from torch.distributions import constraints

from ..models.errors import InputError
from .sites import Site, is_point

_SURFACES = tuple(type(surface) for surface in (sphere, simplex, corr_cholesky, corr_matrix))
"""Supports of fewer dimensions than their values have coordinates."""


def check_support(name: str, value: Tensor, support: Any, first_row: int = 0) -> None:
    """Check that observed data lie in the support of their distribution; name the first row and pixel that does not."""
    support = _innermost(support)
    inside = support.check(value) if _checks_any_batch(support) else torch.ones_like(value, dtype=torch.bool)
    inside = inside & value.isfinite()
    if inside.all():
        return
    place = (~inside).nonzero()[0].tolist()[: value.ndim]
    row, *pixel = place
    where = f"row {row + first_row}" + (f", pixel {pixel[0] if len(pixel) == 1 else tuple(pixel)}" if pixel else "")
    raise InputError(
        f"Site '{name}' observes values in {_range(support)}.\n"
        f"  {where}: {value[tuple(place)].item():.6g}.\n"
        f"  {_remedy(support)}"
    )


def beyond(guide_site: Site, model_site: Site) -> str | None:
    """Why a latent's posterior does not go with its prior: it draws where that has no density, or only lives on a
    surface where the other has a volume. None where it does go, or where a support is not known."""
    if is_point(guide_site):
        return None
    try:
        q, p = _innermost(guide_site["fn"].support), _innermost(model_site["fn"].support)
        inside = model_site["fn"].support.check(guide_site["value"]).all()
    except NotImplementedError:
        return None
    if q is not p and isinstance(q, _SURFACES) | isinstance(p, _SURFACES):
        surface = q if isinstance(q, _SURFACES) else p
        return f"The density of one is by the area of a surface, {surface}, that of the other by another measure."
    if _is_line(q) and not _is_line(p):
        return f"The posterior draws any real numbers; the prior has a density on {_range(p)} alone."
    return None if inside else f"The posterior has drawn a value outside {_range(p)}, where the prior has its density."


def _innermost(support: Any) -> Any:
    while hasattr(support, "base_constraint"):  # of several dimensions, or of a mixture
        support = support.base_constraint
    return support


def _is_line(support: Any) -> bool:
    return type(support).__name__ in ("_Real", "_RealVector")


def _checks_any_batch(support: Any) -> bool:
    """Whether a support is one for all data, element by element (an interval with limits per datum is not)."""
    limits = [value for value in vars(support).values() if isinstance(value, Tensor)]
    return support.event_dim == 0 and not any(value.ndim for value in limits)


def _range(support: Any) -> str:
    if support is constraints.boolean:
        return "{0, 1}"
    if isinstance(support, constraints.interval) and not getattr(support.lower_bound, "ndim", 0):
        return f"[{support.lower_bound:g}, {support.upper_bound:g}]"
    return {"_Real": "the finite real numbers"}.get(type(support).__name__, f"its support, {support}")


def _remedy(support: Any) -> str:
    if support is constraints.boolean:
        return "Binarise the pixels (binarisation='dynamic' or 'fixed'), or choose a likelihood of grey pixels."
    if isinstance(support, constraints.interval):
        return "Scale the pixels, or choose a likelihood of real values such as Gaussian."
    return getattr(support, "remedy", "Remove or repair that row.")
