"""A user's own parts: the classes of a Python file that the user names."""

import ast
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from .guides import Guide
from .inference import Estimator
from .models import InputError, Likelihood, Network, Prior
from .spec import OWN

Parts = dict[str, dict[str, type]]
"""Classes by kind and name."""

BASES: dict[str, type] = {
    "prior": Prior,
    "likelihood": Likelihood,
    "guide": Guide,
    "network": Network,
    "estimator": Estimator,
}
"""What makes a class a part of a kind."""


def own_parts(file: str | Path) -> Parts:
    """The parts that a Python file defines, by kind. The file is run.

    Raises:
        InputError: there is no such file, it cannot be run, or it defines no part.
    """
    return _parts(Path(file).resolve(), source(file))


def source(file: str | Path) -> str:
    """What is in a file of parts.

    Raises:
        InputError: there is no such file.
    """
    if not Path(file).is_file():
        raise InputError(f"There is no file {file} of parts.")
    return Path(file).read_text()


@contextmanager
def making(part: type) -> Iterator[None]:
    """While a part is made: what is wrong with a user's own is said with the line of the file.

    Raises:
        InputError: the code of a user's part has raised anything.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        file = getattr(sys.modules.get(part.__module__), "__file__", None)
        if not part.__module__.startswith(OWN) or file is None:
            raise
        raise InputError(_said(Path(file), error, f" {part.__name__} cannot be made:")) from error


def extends(text: str, before: str) -> bool:
    """Whether a file of parts is another one, or that one with more classes, functions, imports or constants in it,
    none of a name that was there before."""
    try:
        new, old = (list(map(ast.dump, ast.parse(source).body)) for source in (text, before))
        added = [node for node in ast.parse(text).body if ast.dump(node) not in old]
    except SyntaxError:
        return text == before
    kept = [statement for statement in new if statement in old]
    names = {name for node in ast.parse(before).body for name in _bound(node)}
    return kept == old and all(_bound(node) and not names & _bound(node) for node in added)


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement of a file binds; none where it does anything else."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
            return {name}
        case ast.Import(names=names) | ast.ImportFrom(names=names) if names[0].name != "*":
            return {(alias.asname or alias.name).partition(".")[0] for alias in names}
        case ast.Assign(targets=targets) if all(isinstance(target, ast.Name) for target in targets):
            return {target.id for target in targets if isinstance(target, ast.Name)}
    return set()


FORMS: dict[str, tuple[str, ...] | None] = {
    "prior": ("latents",),
    "likelihood": (),
    "guide": ("encoder",),
    "network": None,
    "estimator": (),
}
"""The positional arguments that a part of a kind is made with; a network says itself how."""


def _wrong(kind: str, part: Any) -> str | None:
    """What a class lacks to be a part of its kind."""
    if missing := getattr(part, "__abstractmethods__", None):
        return f"lacks {', '.join(sorted(missing))}"
    if kind == "likelihood" and not getattr(part, "binarisations", None):
        return "lacks binarisations, the treatments of pixels that it is for: binarisations = ('dynamic', 'fixed')"
    for method in {"guide": ("outputs",), "network": ("encoder", "decoder")}.get(kind, ()):
        if not isinstance(inspect.getattr_static(part, method), staticmethod | classmethod):
            return f"has {method} as a method of an object: it is asked before there is one, so make it a staticmethod"
    form = FORMS[kind]
    if form is not None:
        written = f"{part.__name__}({', '.join((*form, '*', 'option=value'))})"
        try:
            inspect.signature(part).bind_partial(*form)
        except TypeError as error:
            return f"is made as {written}: {error}"
        if kind == "guide" and "encoder" not in inspect.signature(part).parameters:
            return f"is made as {written}: its first argument is called encoder"
    return None


@lru_cache
def _parts(path: Path, text: str) -> Parts:
    module = _run(path, text)
    own = [part for part in vars(module).values() if isinstance(part, type) and part.__module__ == module.__name__]
    parts = {kind: {part.__name__: part for part in own if issubclass(part, base)} for kind, base in BASES.items()}
    for kind, found in parts.items():
        for name, part in found.items():
            if wrong := _wrong(kind, part):
                raise InputError(f"{path}: the {kind} {name} {wrong}.")
    if not any(parts.values()):
        kinds = ", ".join(base.__name__ for base in BASES.values())
        raise InputError(f"{path} defines no part: a class that is a {kinds}.")
    return parts


def _run(path: Path, text: str) -> ModuleType:
    """The file as a module, of a name that depends on what is in it. Nothing is written beside it."""
    module = ModuleType(f"{OWN}{sha256(text.encode()).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pickle, dataclasses and their kin look for a class
    try:
        with _neighbours(path.parent):
            exec(compile(text, str(path), "exec"), vars(module))
    except Exception as error:
        del sys.modules[module.__name__]
        raise InputError(_said(path, error)) from error
    return module


def _said(path: Path, error: Exception, what: str = "") -> str:
    """An error with the file's last line on the way to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    if isinstance(error, SyntaxError):
        lines.append(error.lineno)
    place = f"{path}, line {lines[-1]}:" if lines else f"{path}:"
    return f"{place}{what} {type(error).__name__}: {error}."


@contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """What the file imports is looked for beside it too, as of a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
