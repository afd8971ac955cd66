"""Estimators, by name."""

from collections.abc import Iterable, Mapping
from inspect import isabstract
from typing import Any

from ..models.errors import InputError, check_name
from . import estimators
from .estimators import Estimator

ESTIMATORS: dict[str, type[Estimator]] = {
    name: part
    for name, part in vars(estimators).items()
    if isinstance(part, type) and issubclass(part, Estimator) and not isabstract(part)
}


def make_estimator(estimator: str | Estimator, *, samples: int | None = None, beta: float | None = None) -> Estimator:
    """An estimator by name, with its own defaults unless told otherwise; an instance is returned as it is."""
    if isinstance(estimator, Estimator):
        if samples is not None or beta is not None:
            raise InputError("samples and beta are the estimator's own: give them to it, or give its name.")
        return estimator
    _check_is_name(estimator)
    make: Any = ESTIMATORS[check_name("estimator", estimator, ESTIMATORS)]
    settings = {"samples": samples, "beta": beta}
    return make(**{name: value for name, value in settings.items() if value is not None})


def make_estimators(estimators: Mapping[str, str | Estimator] | Iterable[str | Estimator]) -> dict[str, Estimator]:
    """Several estimators, each as :func:`make_estimator` takes it: under names of one's own, or under theirs.

    Raises:
        InputError: one is none, or two are of one name.
    """
    if isinstance(estimators, Mapping):
        return {name: make_estimator(estimator) for name, estimator in estimators.items()}
    several = [estimators] if isinstance(estimators, str | Estimator) else estimators
    named: dict[str, Estimator] = {}
    for estimator in map(make_estimator, several):
        name = type(estimator).__name__
        if name in named:
            raise InputError(
                f"Two of the estimators are {name}: name them, as in {{'{name} 1': {name}(samples=1), ...}}."
            )
        named[name] = estimator
    return named


def _check_is_name(estimator: Any) -> None:
    if isinstance(estimator, type) and issubclass(estimator, Estimator):
        name = estimator.__name__
        raise InputError(f"{name} is the class: make an instance, {name}(), or give its name.")
    if not isinstance(estimator, str):
        raise InputError(f"An estimator is a name or an Estimator; this is a {type(estimator).__name__}.")
