"""``Name:option=value,option=value``, as the command line writes a part or a data set with its options."""

import inspect
from collections.abc import Callable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .models import InputError
from .models.errors import check_name


def read_options(name: str, text: str, made_by: Callable[..., Any]) -> dict[str, Any]:
    """The keyword arguments that ``text`` gives to a class or function, by the types of its keyword-only parameters.

    Raises:
        InputError: no such option, or a value of another type.
    """
    hints = _keywords(made_by)
    options = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        check_name(f"option of {name}", key, hints)
        if not equals:
            raise InputError(f"{name}:{text}: an option is written {key}=value.")
        if hints[key] is None:
            raise InputError(f"{name}:{key} has no type, by which to read {value!r}: annotate it in {name}.__init__.")
        options[key] = _convert(f"{name}:{key}", value, hints[key])
    return options


def _keywords(made_by: Callable[..., Any]) -> dict[str, Any]:
    hints = get_type_hints(made_by.__init__ if isinstance(made_by, type) else made_by)  # type: ignore[misc]
    parameters = inspect.signature(made_by).parameters.values()
    return {p.name: hints.get(p.name) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _convert(place: str, value: str, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        return check_name(place, value, get_args(hint))
    try:
        return {"true": True, "false": False}[value.lower()] if hint is bool else hint(value)
    except (KeyError, ValueError):
        raise InputError(f"{place} takes {hint.__name__}; it is {value!r}.") from None
