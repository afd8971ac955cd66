"""Data sets by name or from a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..inference.choose import check_name
from ..models.errors import InputError
from .split import DataSet, Split, make_data_set

Array = NDArray[np.generic]


def load(
    data: str | Path | Tensor | Array,
    *,
    binarisation: str | None = None,
    validation: float = 0.0,
    seed: int = 0,
    labels: Tensor | None = None,
) -> DataSet:
    """A data set, split and ready for :func:`aevb.inference.fit`.

    80 % of the rows, in a random order, are for training, the rest for testing.

    Args:
        data: a name of :data:`DATA_SETS`, the path of a ``.npy`` file, or an array: rows of pixels ``(N, P)`` or
            images ``(N, height, width)``. Integers count from 0 to their maximum, floats lie in [0, 1] or are real
            values.
        binarisation: ``dynamic``, ``fixed``, ``relaxed`` or ``none`` (:data:`BINARISATIONS`); by default ``dynamic``,
            and ``none`` for real values.
        validation: the share of the training data to keep apart for early stopping.
        seed: of the order, and of what is binarised once.
        labels: ``(N,)``, for an array of one's own.

    Raises:
        InputError: an unknown name, a file that is not there or not an array of numbers, a pixel that is NaN, infinite
            or negative, an empty split.

    Example:
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.test), digits.shape, digits.binarisation
        (1437, 360, (8, 8), 'dynamic')
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation is a share of the training data, from 0 to below 1; it is {validation}.")
    array: Tensor | Array
    if isinstance(data, str | Path):
        name = str(data)
        array, labels = _read(name)
    else:
        name, array = "the array", data
    pixels = _numbers(name, array)
    maximum = _maximum(name, pixels, binarisation)
    shape = tuple(pixels.shape[1:])
    default = "none" if maximum is None else "dynamic"
    whole = Split(pixels.flatten(1), maximum, shape, binarisation or default, labels)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(whole)))
    test = len(whole) - int(0.8 * len(whole))
    held = round(validation * (len(whole) - test))
    sizes = (len(whole) - test - held, held, test)
    how = f"random order, seed {seed}: {sizes[0]:,} train, {sizes[1]:,} validation, {sizes[2]:,} test"
    return make_data_set(name, whole, order, sizes, how, seed)


def _digits() -> tuple[Array, Tensor]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.uint8), torch.from_numpy(bunch.target)


DATA_SETS: dict[str, tuple[Callable[[], tuple[Array, Tensor]], str]] = {
    "digits": (_digits, "1,797 handwritten digits, 8x8, 17 grey levels (scikit-learn; UCI, Alpaydin and Kaynak 1998)"),
}
"""Reader and description of each named data set."""


def _read(name: str) -> tuple[Array, Tensor | None]:
    if name in DATA_SETS:
        return DATA_SETS[name][0]()
    path = Path(name)
    if path.suffix != ".npy":
        known = ", ".join(DATA_SETS)
        if path.exists():
            raise InputError(f"{name} is not a .npy file. Data are one of {known}, or the path of a .npy file.")
        check_name("data set (or .npy file)", name, DATA_SETS)
    if not path.is_file():
        raise InputError(f"There is no file {name}.")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False), None
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{name} cannot be read as an array: {error}") from error


def _numbers(name: str, array: Tensor | Array) -> Tensor:
    if not isinstance(array, Tensor):
        if array.dtype.kind not in "buif":
            raise InputError(f"{name} holds {array.dtype}, not numbers. Save an array of uint8 or float.")
        array = torch.from_numpy(np.array(array))
    if array.ndim < 2:
        raise InputError(
            f"{name} has shape {tuple(array.shape)}; data are rows of pixels, (N, P) or (N, height, width)."
        )
    if len(array) < 2:
        raise InputError(f"{name} has {len(array)} rows, too few to split into train and test.")
    return array.to(torch.uint8) if array.dtype == torch.bool else array


def _maximum(name: str, pixels: Tensor, binarisation: str | None) -> float | None:
    """What to divide by: the largest integer, 1 for floats in [0, 1], None for real values."""
    flat = pixels.flatten(1)
    if pixels.is_floating_point():
        _refuse(name, flat, ~torch.isfinite(flat), "pixels are finite")
        outside = (flat < 0) | (flat > 1)
        if not outside.any():
            return 1.0
        if binarisation not in (None, "none"):
            _refuse(name, flat, outside, f"binarisation '{binarisation}' needs pixels in [0, 1]")
        return None
    _refuse(name, flat, flat < 0, "whole-numbered pixels count from 0")
    return float(flat.max()) or 1.0


def _refuse(name: str, flat: Tensor, wrong: Tensor, rule: str) -> None:
    if wrong.any():
        row, pixel = wrong.nonzero()[0].tolist()
        raise InputError(f"{name}: {rule}, but row {row}, pixel {pixel} is {flat[row, pixel].item():g}.")
