"""A user's own parts: the classes of a Python file that the user names."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType

from .guides import Guide
from .inference import Estimator
from .models import InputError, Likelihood, Network, Prior

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


@lru_cache
def _parts(path: Path, text: str) -> Parts:
    module = _run(path, text)
    own = [part for part in vars(module).values() if isinstance(part, type) and part.__module__ == module.__name__]
    parts = {kind: {part.__name__: part for part in own if issubclass(part, base)} for kind, base in BASES.items()}
    for kind, found in parts.items():
        for name, part in found.items():
            if missing := getattr(part, "__abstractmethods__", None):
                raise InputError(f"{path}: the {kind} {name} lacks {', '.join(sorted(missing))}.")
    if not any(parts.values()):
        kinds = ", ".join(base.__name__ for base in BASES.values())
        raise InputError(f"{path} defines no part: a class that is a {kinds}.")
    return parts


def _run(path: Path, text: str) -> ModuleType:
    """The file as a module, of a name that depends on what is in it. Nothing is written beside it."""
    module = ModuleType(f"aevb_parts_{sha256(text.encode()).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where pickle, dataclasses and their kin look for a class
    try:
        with _neighbours(path.parent):
            exec(compile(text, str(path), "exec"), vars(module))
    except Exception as error:
        del sys.modules[module.__name__]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1]
        raise InputError(f"{path}, line {line}: {type(error).__name__}: {error}.") from error
    return module


@contextmanager
def _neighbours(folder: Path) -> Iterator[None]:
    """What the file imports is looked for beside it too, as of a script."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
