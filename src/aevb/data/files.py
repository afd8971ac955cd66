"""Somebody's own images: ``.npy``, ``.npz``, ``.mat``, a folder of pictures."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..models.errors import InputError, check_name
from .raw import Array, Raw, raw_from_array

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


def read_file(spec: str) -> Raw:
    """``path`` or ``path:array=name``, by what the path is."""
    from .named import DATA_SETS

    text, _, wanted = spec.partition(":array=")
    path = Path(text)
    if path.is_dir():
        return _folder(path)
    if path.suffix not in READERS:
        if path.exists():
            raise InputError(
                f"{path} is not a kind of file that holds images: {', '.join(READERS)}, or a folder of pictures."
            )
        check_name("data set (or file)", text.partition(":")[0], DATA_SETS)
    if not path.is_file():
        raise InputError(f"There is no file {path}.")
    try:
        return READERS[path.suffix](path, wanted)
    except InputError:
        raise
    except Exception as error:  # the readers of damaged files raise almost anything
        message = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read as an array, it may be cut short or damaged: {message}") from error


def _npy(path: Path, wanted: str) -> Raw:
    array = np.load(path, mmap_mode="c", allow_pickle=False)
    return raw_from_array(str(path), array)


def _npz(path: Path, wanted: str) -> Raw:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not an .npz archive, or it is cut short.")
    with np.load(path, allow_pickle=False) as archive:
        return raw_from_array(str(path), _choose(path, {name: archive[name] for name in archive.files}, wanted))


def _mat(path: Path, wanted: str) -> Raw:
    from scipy.io import loadmat

    arrays = {name: value for name, value in loadmat(str(path)).items() if not name.startswith("__")}
    return raw_from_array(str(path), _choose(path, arrays, wanted))


def _choose(path: Path, arrays: dict[str, Any], wanted: str) -> Array:
    """The array that was named, or the only one that can be images."""
    if wanted:
        return arrays[check_name(f"array in {path}", wanted, arrays)]
    images = [
        name for name, value in arrays.items() if value.ndim >= 2 and len(value) > 1 and value.dtype.kind in "buif"
    ]
    if len(images) == 1:
        return arrays[images[0]]
    found = ", ".join(f"{name} {value.shape} {value.dtype}" for name, value in arrays.items()) or "nothing"
    if not images:
        raise InputError(f"{path} has no array of images (rows of numbers); it holds {found}.")
    raise InputError(f"{path} holds several arrays: {found}. Choose one: {path}:array={images[0]}.")


def _folder(path: Path) -> Raw:
    """Pictures in a folder, made grey, in the order of their names; names of subfolders become labels."""
    from PIL import Image, UnidentifiedImageError

    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
    if not files:
        raise InputError(f"{path} has no pictures ({', '.join(sorted(PICTURES))}).")
    images: list[Array] = []
    for file in files:
        try:
            with Image.open(file) as picture:
                images.append(np.asarray(picture.convert("L")))
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise InputError(f"{file} is not a picture, or it is cut short: {error}") from error
        if images[-1].shape != images[0].shape:
            (h, w), (h0, w0) = images[-1].shape, images[0].shape
            raise InputError(f"Pictures have one size, but {file} is {w}x{h} and {files[0]} is {w0}x{h0}. Resize them.")
    raw = raw_from_array(str(path), np.stack(images))
    classes = sorted({file.parent for file in files})
    labels = torch.tensor([classes.index(file.parent) for file in files]) if len(classes) > 1 else None
    return Raw(raw.pixels, 255.0, labels)


READERS: dict[str, Callable[[Path, str], Raw]] = {".npy": _npy, ".npz": _npz, ".mat": _mat}
