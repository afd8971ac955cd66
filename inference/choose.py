"""Estimators, by name."""

from ..models.errors import InputError, check_name
from . import estimators
from .estimators import Estimator

ESTIMATORS: dict[str, type[Estimator]] = {
    name: part
    for name, part in vars(estimators).items()
    if isinstance(part, type) and issubclass(part, Estimator) and part is not Estimator
}


def make_estimator(estimator: str | Estimator, *, samples: int | None = None, beta: float | None = None) -> Estimator:
    """An estimator by name, with 1 sample and beta = 1 unless told otherwise; an instance is returned as it is."""
    if isinstance(estimator, Estimator):
        if samples is not None or beta is not None:
            raise InputError("samples and beta are the estimator's own: give them to it, or give its name.")
        return estimator
    make = ESTIMATORS[check_name("estimator", estimator, ESTIMATORS)]
    return make(samples=1 if samples is None else samples, beta=1.0 if beta is None else beta)
