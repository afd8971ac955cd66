"""What a program reaches beside its inputs: tensors, whose values a graph reads, and Python's own, which it freezes."""

import contextvars
import functools
import pickle
import random
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn
from torch.distributions import Transform

State = dict[str, Any]

_LIBRARIES = ("torch", "pyro", "aevb", "numpy", "builtins", "functools", "collections", "abc", "typing")
_PLAIN = (int, float, complex, str, bytes)
_CONTAINERS = (dict, list, tuple, set, frozenset)
_LONG = 1000


def python_state(**roots: Any) -> State:
    """Everything that can be reached from programs without calling them, by its path.

    Attributes, closures, defaults, the globals and modules that their code names, classes, containers and iterators,
    Pyro's parameters, and the random states of Python and NumPy. A tensor's values may change, since they are read at
    every replay; another tensor in its place may not, unless it is equal.
    """
    state: State = {"random": hash(random.getstate()), "numpy.random": _held(np.random.get_state())}  # noqa: NPY002
    named = pyro.get_param_store().named_parameters()
    bare = [(f"pyro.param {name}", value) for name, value in named if not isinstance(value, nn.Parameter)]
    state.update(_walk([*roots.items(), *bare], set()))
    return state


def changed(before: State, after: State) -> str | None:
    """The path of something that is not as it was, or None."""
    for path in before.keys() | after.keys():
        if path not in before or path not in after or not _same(before[path], after[path]):
            return path.removesuffix(_IS).removesuffix(_HOLDS)
    return None


def tensors(state: State) -> list[Tensor]:
    """The tensors in a state, each once."""
    return list({id(value): value for value in state.values() if isinstance(value, Tensor)}.values())


def _same(one: Any, two: Any) -> bool:
    if one is two:
        return True
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        small = one.shape == two.shape and one.dtype == two.dtype and one.numel() <= _LONG
        return small and not one.requires_grad and torch.equal(one, two)
    return type(one) is type(two) and isinstance(one, _PLAIN) and (one == two or (one != one and two != two))


_IS, _HOLDS = " is", " holds"


def _walk(left: list[tuple[str, Any]], seen: set[int]) -> Iterator[tuple[str, Any]]:
    kept = []  # so that no id is given twice
    while left:
        path, value = left.pop()
        if value is None or isinstance(value, _PLAIN):
            yield path, value
            continue
        yield path + _IS, _identity(value)
        if isinstance(value, Tensor):
            yield f"{path}.requires_grad", value.requires_grad
        elif id(value) not in seen:
            seen.add(id(value))
            kept.append(value)
            parts = list(_parts(value))
            left += [(path + name, part) for name, part in parts]
            if not (parts or callable(value) or isinstance(value, _CONTAINERS)) or _is_iterator(value):
                yield path + _HOLDS, _held(value)


def _identity(value: Any) -> Any:
    if isinstance(value, types.FunctionType):
        return id(value.__code__)
    if isinstance(value, _CONTAINERS):
        return f"{type(value).__qualname__}[{len(value)}]"
    return value if isinstance(value, Tensor) else f"{type(value).__module__}.{type(value).__qualname__}"


def _is_iterator(value: Any) -> bool:
    return hasattr(value, "__next__") and not isinstance(value, types.GeneratorType)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, _CONTAINERS):
        if len(value) > _LONG:
            yield "[:]", _held(value)
        yield from ((f"[{i}]", part) for i, part in enumerate(list(value)[:_LONG]))
    elif isinstance(value, types.FunctionType):
        yield from _of_function(value)
    elif isinstance(value, types.MethodType):
        yield from ((".__self__", value.__self__), (".__func__", value.__func__))
    elif isinstance(value, property):
        yield ".fget", value.fget
    elif isinstance(value, staticmethod | classmethod):
        yield ".__func__", value.__func__
    elif isinstance(value, functools.partial):
        yield from ((".func", value.func), (".args", value.args), (".keywords", value.keywords))
    elif isinstance(value, types.GeneratorType):
        frame = value.gi_frame
        yield ".at", -1 if frame is None else frame.f_lasti
        yield from ((f".{name}", part) for name, part in (frame.f_locals if frame else {}).items())
    elif isinstance(value, contextvars.ContextVar):
        yield ".get()", value.get(None)
    elif isinstance(value, type):
        yield from _of_class(value)
    elif not isinstance(value, types.ModuleType):
        yield from _of_object(value)


def _of_object(value: Any) -> Iterator[tuple[str, Any]]:
    cached = isinstance(value, Transform)  # a transform's cache is written before it is read
    for name, part in list(getattr(value, "__dict__", {}).items()):
        if not (cached and name.startswith("_cached")):
            yield f".{name}", part
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, name) and not name.startswith("__"):
                yield f".{name}", getattr(value, name)
    if not _is_library(type(value)):
        yield ".__class__", type(value)


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    for base in cls.__mro__:
        if not _is_library(base):
            skipped = (types.MemberDescriptorType, types.GetSetDescriptorType)
            for name, part in list(vars(base).items()):
                if name == "__call__" or not (name.startswith("__") or isinstance(part, skipped)):
                    yield f".{name}", part


def _of_function(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    if _is_library(function):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f".{name}", cell.cell_contents
        except ValueError:  # a name that is not bound yet
            continue
    yield ".__defaults__", function.__defaults__
    yield ".__kwdefaults__", function.__kwdefaults__
    yield from ((f".{name}", part) for name, part in vars(function).items())
    names = sorted(set(_names(function.__code__)))
    for name in names:
        if name in function.__globals__:
            part = function.__globals__[name]
            yield f":{name}", part
            if isinstance(part, types.ModuleType) and not _is_library(part):
                yield from ((f":{name}.{n}", vars(part)[n]) for n in names if n in vars(part))


def _is_library(thing: Any) -> bool:
    name = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    return name is not None and name.partition(".")[0] in _LIBRARIES


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _held(value: Any) -> Any:
    """What a thing without visible parts holds, as far as it says; an iterator that does not say may always move."""
    if _is_iterator(value) and " at 0x" not in (text := repr(value)):
        return text
    try:
        return pickle.dumps(value)
    except Exception:  # whatever cannot be pickled is known by its identity alone
        return object() if _is_iterator(value) else id(value)
