"""Input that cannot be used: one exception, and the checks that raise it."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TypeVar

Number = TypeVar("Number", int, float)


class InputError(ValueError):
    """Bad input. The command line prints its text and exits with code 2; everything else is a failure of ours."""


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
    """Return ``value`` if it is a number of the kind of ``least``, and not below it."""
    kinds = int if isinstance(least, int) else (int, float)
    if not isinstance(value, kinds) or not value >= least:
        raise InputError(f"{name} is at least {least}; it is {value}.")
    return value


def check_seed(name: str, value: int) -> int:
    """Return ``value`` if it can seed a random stream."""
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise InputError(f"{name} is a whole number from 0 to 2^31 - 1; it is {value}.")
    return value
