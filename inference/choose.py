"""Choosing by name."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

from ..models.errors import InputError
from . import estimators
from .estimators import Estimator

Number = TypeVar("Number", int, float)

ESTIMATORS: dict[str, type[Estimator]] = {
    name: part
    for name, part in vars(estimators).items()
    if isinstance(part, type) and issubclass(part, Estimator) and part is not Estimator
}


def check_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return ``name`` if it is known; else say which are, the nearest first."""
    known = list(known)
    if name in known:
        return name
    by_lower = {k.lower(): k for k in known}
    near = get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    hint = f"Did you mean {by_lower[near[0]]}? " if near else ""
    raise InputError(f"There is no {kind} {name!r}. {hint}Known: {', '.join(known)}.")


def check_at_least(least: Number, name: str, value: Number) -> Number:
    """Return ``value`` if it is a number not below ``least``."""
    if not value >= least:
        raise InputError(f"{name} is at least {least}; it is {value}.")
    return value


def make_estimator(estimator: str | Estimator, *, samples: int | None = None, beta: float | None = None) -> Estimator:
    """An estimator by name, with 1 sample and beta = 1 unless told otherwise; an instance is returned as it is."""
    if isinstance(estimator, Estimator):
        if samples is not None or beta is not None:
            raise InputError("samples and beta are the estimator's own: give them to it, or give its name.")
        return estimator
    return ESTIMATORS[check_name("estimator", estimator, ESTIMATORS)](
        samples=check_at_least(1, "samples", 1 if samples is None else samples),
        beta=check_at_least(0.0, "beta", 1.0 if beta is None else beta),
    )
