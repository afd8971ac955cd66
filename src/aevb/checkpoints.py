"""Reading runs back: configurations and checkpoints, as data and never as code."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from .build import make_pair
from .config import Config
from .guides import Guide
from .models import VAE, InputError
from .models.errors import check_name
from .own_parts import extends, source

PARTS = "parts.py"
"""In a run's folder: a copy of the file that its own parts are from."""


class DamagedCheckpoint(UserWarning):
    """A checkpoint that cannot be used, where there is one before it that can."""


class LoadedRun(NamedTuple):
    """A run read back: ``model, guide, config = load_run(folder)``."""

    model: VAE
    guide: Guide
    config: Config


def load_run(folder: str | Path, checkpoint: str = "last", *, parts: str | Path | None = None) -> LoadedRun:
    """The trained pair of a run's folder, on the CPU, and its configuration.

    Args:
        folder: a run's folder.
        checkpoint: ``last``; ``best``, on validation data; or ``epoch-N``, one of those that were kept.
        parts: the Python file that parts of your own are from; it is run.

    Raises:
        InputError: not a run's folder, no such checkpoint, one that is damaged or of another model, or of other parts.
    """
    folder = Path(folder)
    config = read_config(folder, parts)
    kept = {path.stem for path in folder.glob("*.pt")}
    known = {"last": "checkpoint"} | {name: name for name in sorted(kept - {"checkpoint", "before"})}
    path = folder / f"{known[check_name('checkpoint of the run', checkpoint, known)]}.pt"
    saved = read_checkpoint(path)
    model, guide = make_pair(config, saved.get("shape", saved["pixels"]))
    put(saved, model, guide, path)
    return LoadedRun(model, guide, config)


def read_config(folder: Path, parts: str | Path | None = None) -> Config:
    """The configuration of a run's folder, with the file of parts that is given here.

    The file that the folder names, and the copy that it holds, are code from elsewhere: neither is run unasked.

    Raises:
        InputError: not a run's folder; a configuration with a key that is not known or a value of a wrong type; a run
            with parts of its own, and no file of them given, or one that differs from the copy.
    """
    config, copy = _read_config(folder), folder / PARTS
    if config.parts and not parts:
        raise InputError(
            f"{folder} was trained with parts of {config.parts}. That is code, and not run unasked: give it, "
            f"--parts {copy} on the command line, parts={str(copy)!r} in Python."
        )
    if config.parts and parts and not extends(source(parts), source(copy)):
        raise InputError(f"{parts} is not what {folder} was trained with, or that with more parts: that is {copy}.")
    return replace(config, parts=str(parts) if parts else None)


def _read_config(folder: Path) -> Config:
    path = folder / "config.yaml"
    if not path.is_file():
        raise InputError(f"{folder} is not the folder of a run: it has no config.yaml.")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings.")
    defaults = {f.name: f.default for f in fields(Config)}
    for key, value in values.items():
        check_name(f"setting in {path}", key, defaults)
        kind = (list, int) if isinstance(defaults[key], tuple) else (type(defaults[key]), int, float, str)
        if defaults[key] is not None and not isinstance(value, kind[0] if isinstance(value, str | list) else kind):
            raise InputError(f"{path}: {key} is {value!r}, which is no {type(defaults[key]).__name__}.")
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Config(**settings)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint holds: the number of pixels, the weights of model and guide, maybe the shape of an image, which
    older ones lack, and a state of training.

    Raises:
        InputError: it is damaged, or something else.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if not {"pixels", "model", "guide"} <= saved.keys():
            raise KeyError("no model and guide")
    except Exception as error:  # a damaged archive raises almost anything
        message = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not a checkpoint, or it is cut short: {message}.") from error
    return dict(saved)


def put(saved: dict[str, Any], model: VAE, guide: Guide, path: Path) -> None:
    """Put the weights of a checkpoint into a pair.

    Raises:
        InputError: they are of another model or guide.
    """
    for role, program in (("model", model), ("guide", guide)):
        own = {name: tuple(value.shape) for name, value in program.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in saved[role].items()}
        if own != found:
            name = next(name for name in own | found if own.get(name) != found.get(name))
            raise InputError(
                f"{path} is of another {role}: there, {name} is {found.get(name, 'missing')}; "
                f"here, {own.get(name, 'missing')}."
            )
    for role, program in (("model", model), ("guide", guide)):
        program.load_state_dict(saved[role])
