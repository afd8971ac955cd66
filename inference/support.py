"""Whether observed data lie where their distribution has a density."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from ..models.errors import InputError


def check_support(name: str, value: Tensor, support: Any, first_row: int = 0) -> None:
    """Check that observed data lie in the support of their distribution; name the first row and pixel that does not."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
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


def _checks_any_batch(support: Any) -> bool:
    """Whether a support is one for all data, element by element (an interval with limits per datum is not)."""
    limits = [value for value in vars(support).values() if isinstance(value, Tensor)]
    return support.event_dim == 0 and not any(value.ndim for value in limits)


def _range(support: Any) -> str:
    if support is constraints.boolean:
        return "{0, 1}"
    if isinstance(support, constraints.interval):
        return f"[{support.lower_bound:g}, {support.upper_bound:g}]"
    return {"_Real": "the finite real numbers"}.get(type(support).__name__, f"its support, {support}")


def _remedy(support: Any) -> str:
    if support is constraints.boolean:
        return "Binarise the pixels (binarisation='dynamic' or 'fixed'), or choose a likelihood of grey pixels."
    if isinstance(support, constraints.interval):
        return "Scale the pixels, or choose a likelihood of real values such as Gaussian."
    return "Remove or repair that row."
