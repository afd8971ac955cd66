"""What a reader returns: pixels as they are stored, and how the set is to be cut."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class Raw:
    """N images or rows, unsplit.

    Args:
        pixels: ``(N, ...)``, of any dtype; may be mapped from a file.
        maximum: what a pixel is divided by; None for real values.
        labels: ``(N,)``, or None.
        sizes: of train, validation and test, in this order in ``pixels``; None for a random split.
        binary: whether the pixels are 0 and 1 already, once and for all.
    """

    pixels: Tensor
    maximum: float | None
    labels: Tensor | None = None
    sizes: tuple[int, int, int] | None = None
    binary: bool = False

    @property
    def binarisation(self) -> str:
        """What is done where nothing is said: dynamic, and nothing to real values."""
        return "fixed" if self.binary else "none" if self.maximum is None else "dynamic"


def raw_from_array(name: str, array: Tensor | Array, labels: Tensor | None = None) -> Raw:
    """Check somebody's array, and find the maximum of its pixels: the largest integer; 1 for floats in [0, 1].

    Raises:
        InputError: not rows of finite numbers, or negative integers; row and pixel are named.
    """
    pixels = _tensor(name, array)
    if pixels.ndim < 2:
        raise InputError(
            f"{name} has shape {tuple(pixels.shape)}; data are rows of pixels, (N, P) or (N, height, width)."
        )
    if len(pixels) < 10 or not pixels[0].numel():
        raise InputError(
            f"{name} has shape {tuple(pixels.shape)}: too few to split into train and test, at least 10 rows."
        )
    if labels is not None and len(labels) != len(pixels):
        raise InputError(f"{name} has {len(pixels)} rows and {len(labels)} labels.")
    low, high = _extremes(name, pixels)
    if pixels.is_floating_point():
        return Raw(pixels, 1.0 if low >= 0 and high <= 1 else None, labels)
    if low < 0:
        refuse(name, pixels, pixels < 0, "whole-numbered pixels count from 0", "Save real values as floats.")
    return Raw(pixels, high or 1.0, labels)


def refuse(name: str, pixels: Tensor, wrong: Tensor, rule: str, remedy: str, first_row: int = 0) -> None:
    """Name the first wrong pixel, if there is one."""
    if wrong.any():
        row, pixel = wrong.flatten(1).nonzero()[0].tolist()
        value = pixels.flatten(1)[row, pixel].item()
        raise InputError(f"{name}: {rule}, but row {row + first_row}, pixel {pixel} is {value:g}. {remedy}")


def _tensor(name: str, array: Tensor | Array) -> Tensor:
    if not isinstance(array, Tensor):
        if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
            raise InputError(f"{name} holds {array.dtype}, not numbers. Save an array of uint8 or float.")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int32 if array.dtype.itemsize == 2 else np.int64)  # torch lacks much of unsigned
        array = torch.from_numpy(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)))
    return array.to(torch.uint8) if array.dtype == torch.bool else array


def _extremes(name: str, pixels: Tensor) -> tuple[float, float]:
    """The least and the largest pixel, a few rows at a time, so that a mapped file stays a file."""
    low, high = float("inf"), float("-inf")
    for first, rows in enumerate(pixels.split(4096)):
        if pixels.is_floating_point():
            wrong = ~torch.isfinite(rows)
            refuse(name, rows, wrong, "pixels are finite", "Remove or repair that row.", first * 4096)
        low, high = min(low, rows.min().item()), max(high, rows.max().item())
    return low, high
