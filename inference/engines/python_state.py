"""What Python knows of a program beside its tensors: numbers, switches and counters that a graph would freeze."""

import functools
import pickle
import random
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

State = dict[str, Any]

_LIBRARIES = ("torch", "pyro", "aevb", "numpy", "builtins", "functools", "collections", "abc", "typing")
_CONTAINER_LIMIT = 1000


def python_state(**roots: Any) -> State:
    """Everything that can be reached from programs without calling them, by its path.

    Attributes, closures, defaults, the globals that their code names, containers and iterators, and the random states
    of Python and NumPy. A tensor's values may change, since they are read at every replay; another tensor in its place
    may not, unless it is equal.
    """
    state: State = {"random": hash(random.getstate()), "numpy.random": _pickled(np.random.get_state())}  # noqa: NPY002
    state.update(_walk(list(roots.items()), set()))
    return state


def changed(before: State, after: State) -> str | None:
    """The path of something that is not as it was, or None."""
    for path in before.keys() | after.keys():
        if path not in before or path not in after or not _same(before[path], after[path]):
            return path
    return None


_PLAIN = (int, float, complex, str, bytes)


def _same(one: Any, two: Any) -> bool:
    if one is two:
        return True
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        small = one.shape == two.shape and one.dtype == two.dtype and one.numel() <= _CONTAINER_LIMIT
        return small and not one.requires_grad and torch.equal(one, two)
    return type(one) is type(two) and isinstance(one, _PLAIN) and (one == two or (one != one and two != two))


def _walk(left: list[tuple[str, Any]], seen: set[int]) -> Iterator[tuple[str, Any]]:
    kept = []  # so that no id is given twice
    while left:
        path, value = left.pop()
        if value is None or isinstance(value, _PLAIN):
            yield path, value
            continue
        yield f"{path} is", _identity(value)
        if isinstance(value, Tensor | types.ModuleType | type) or id(value) in seen:
            continue
        seen.add(id(value))
        kept.append(value)
        parts = list(_parts(value))
        left += [(f"{path}{name}", part) for name, part in parts]
        if not parts and not callable(value):
            yield f"{path} holds", _pickled(value)


def _identity(value: Any) -> Any:
    if isinstance(value, types.FunctionType):
        return id(value.__code__)
    return value if isinstance(value, Tensor) else f"{type(value).__module__}.{type(value).__qualname__}"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in list(value.items())[:_CONTAINER_LIMIT])
    elif isinstance(value, list | tuple | set | frozenset):
        yield ".len", len(value)
        yield from ((f"[{i}]", part) for i, part in enumerate(list(value)[:_CONTAINER_LIMIT]))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield from ((".__self__", value.__self__), (".__func__", value.__func__))
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.GeneratorType):
        yield from ((f".{name}", part) for name, part in (value.gi_frame.f_locals if value.gi_frame else {}).items())
    elif hasattr(value, "__dict__"):
        yield from ((f".{name}", part) for name, part in list(vars(value).items()))
        yield from _of_class(type(value))


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    if function.__module__ and function.__module__.partition(".")[0] in _LIBRARIES:
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # a name that is not bound yet
            continue
    yield ".__defaults__", function.__defaults__
    yield ".__kwdefaults__", function.__kwdefaults__
    names = set(_names(function.__code__))
    yield from ((f":{n}", function.__globals__[n]) for n in sorted(names) if n in function.__globals__)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] not in _LIBRARIES:
            for name, part in list(vars(base).items()):
                if isinstance(part, types.FunctionType) or (isinstance(part, _PLAIN) and not name.startswith("__")):
                    yield f".{name}", part


def _pickled(value: Any) -> bytes | int:
    try:
        return pickle.dumps(value)
    except Exception:  # whatever cannot be pickled is known by its identity alone
        return id(value)
