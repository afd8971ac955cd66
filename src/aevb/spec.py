"""``Name:option=value,option=value``, as the command line writes a part or a data set with its options."""

import inspect
from collections.abc import Callable
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .models import InputError
from .models.errors import check_name

OWN = "aevb_parts_"
"""How the modules of users' own parts are called."""


def read_options(name: str, text: str, made_by: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments that ``text`` gives to a class or function, by the types of its keyword-only parameters.

    Raises:
        InputError: no such option, a value of another type, or an option that has to be given and is not.
    """
    keywords = _keywords(made_by)
    options = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        _check_option(name, key, made_by, keywords)
        if not equals:
            raise InputError(f"{name}:{text}: an option is written {key}=value.")
        if keywords[key].annotation is None:
            raise InputError(f"{name}:{key} has no type, by which to read {value!r}: annotate it in {name}.__init__.")
        options[key] = _convert(f"{name}:{key}", value, keywords[key].annotation)
    for key, parameter in keywords.items():
        if parameter.default is parameter.empty and key not in options:
            raise InputError(f"{name} needs its option {key}: {name}:{key}=value.")
    return options


def options_of(made_by: Callable[..., Any]) -> list[str]:
    """Each option as it is written, with its default, or all of its choices, the default first."""
    return [_written(key, parameter) for key, parameter in _keywords(made_by).items()]


def _written(key: str, parameter: inspect.Parameter) -> str:
    default = None if parameter.default is parameter.empty else parameter.default
    if get_origin(parameter.annotation) is Literal:
        return f"{key}={'|'.join(sorted(get_args(parameter.annotation), key=lambda choice: choice != default))}"
    if parameter.annotation is bool:
        return f"{key}={'true|false' if default else 'false|true'}"
    number = f"{default:g}" if isinstance(default, int | float) else default
    return f"{key}={'...' if number is None else number}"


def _keywords(made_by: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The keyword-only parameters by name, each with its type, or None where it has none."""
    hints = get_type_hints(made_by.__init__ if isinstance(made_by, type) else made_by)  # type: ignore[misc]
    parameters = inspect.signature(made_by).parameters.values()
    return {p.name: p.replace(annotation=hints.get(p.name)) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _check_option(name: str, key: str, made_by: Callable[..., Any], keywords: dict[str, Any]) -> None:
    if key not in keywords and key in inspect.signature(made_by).parameters and made_by.__module__.startswith(OWN):
        raise InputError(
            f"{name}: {key} is no option, since it is not keyword-only: put *, before it in {name}.__init__."
        )
    if not keywords:
        raise InputError(f"{name} has no options; here {key!r}.")
    check_name(f"option of {name}", key, keywords)


def _convert(place: str, value: str, hint: Any) -> Any:
    """A value of the type, or of one of its types, that is annotated."""
    if get_origin(hint) is Literal:
        return check_name(place, value, get_args(hint))
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        if kind in _READERS:
            with suppress(KeyError, ValueError):
                return _READERS[kind](value)
    names = {bool: "true or false", NoneType: "none"}
    takes = " or ".join(names.get(kind, getattr(kind, "__name__", str(kind))) for kind in kinds)
    raise InputError(f"{place} takes {takes}; it is {value!r}.")


_READERS: dict[Any, Callable[[str], Any]] = {
    bool: lambda value: {"true": True, "false": False}[value.lower()],
    int: int,
    float: float,
    str: str,
    NoneType: lambda value: {"none": None}[value.lower()],
}
