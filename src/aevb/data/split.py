"""A split of a data set: pixels as they are stored, until a batch is made."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from ..models.errors import InputError, check_at_least, check_name
from .raw import Raw, refuse

BINARISATIONS = {
    "dynamic": "each pixel is drawn from Bernoulli(grey value) whenever it is seen in training; held-out data once",
    "fixed": "each pixel is drawn once from Bernoulli(grey value), training data too",
    "relaxed": "grey values in [0, 1], which a Bernoulli reads as probabilities (a cross-entropy, not a density)",
    "none": "grey or real values as they are, scaled to [0, 1] where they have a maximum",
}


@dataclass(frozen=True)
class Split:
    """N data of P pixels, as :func:`aevb.inference.fit` takes them.

    Args:
        pixels: ``(rows of the whole set, P)``, of any dtype; images stay uint8, and a mapped file stays a file.
        rows: which of them belong to the split, ``(N,)``; None: all.
        maximum: what a pixel is divided by; None leaves real values as they are.
        shape: of one image.
        binarisation: one of :data:`BINARISATIONS`.
        labels: ``(N,)``, or None.
        drawn: whether the pixels have been binarised already, once and for all.
        device: where batches are made.
    """

    pixels: Tensor
    rows: Tensor | None
    maximum: float | None
    shape: tuple[int, ...]
    binarisation: str
    labels: Tensor | None = None
    drawn: bool = False
    device: torch.device | None = None

    def __len__(self) -> int:
        return len(self.pixels if self.rows is None else self.rows)

    def __repr__(self) -> str:
        """Its size and kind, and no pixels."""
        labels = "" if self.labels is None else ", labelled"
        return f"Split(n={len(self)}, shape={self.shape}, binarisation={self.binarisation!r}{labels})"

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The rows ``indices`` as floats, ``(B, P)``; dynamic binarisation draws from ``generator``."""
        indices = indices.to(self.pixels.device)
        x = self.pixels.index_select(0, indices if self.rows is None else self.rows[indices])
        x = x.to(self.device or self.pixels.device).to(torch.get_default_dtype())
        if self.drawn:
            return x
        if self.maximum is not None:
            x = x / self.maximum
        return _bernoulli(x, generator) if self.binarisation in ("dynamic", "fixed") else x

    def to(self, device: torch.device) -> Self:
        """The same split, batches being made on a device: its pixels go there once, unless they would fill it."""
        if device.type == "cuda" and 2 * len(self) * self.pixels[0].nbytes > torch.cuda.mem_get_info(device)[0]:
            return replace(self, device=device)
        if device == self.pixels.device:
            return self
        pixels = self.pixels if self.rows is None else self.pixels[self.rows]
        return replace(self, pixels=pixels.to(device), rows=None, device=device)

    def binarised_once(self, seed: int) -> Self:
        """The split with every pixel drawn now, from Bernoulli(pixel / maximum)."""
        if self.drawn or self.binarisation not in ("dynamic", "fixed"):
            return self
        generator = torch.Generator().manual_seed(seed)
        chunks = torch.arange(len(self)).split(4096)
        pixels = torch.cat([self.batch(chunk, generator).to(torch.uint8) for chunk in chunks])
        return replace(self, pixels=pixels, rows=None, drawn=True)

    def take(self, indices: Tensor) -> Self:
        """Some of the data, as a split of their own."""
        rows = indices if self.rows is None else self.rows[indices]
        return replace(self, rows=rows, labels=None if self.labels is None else self.labels[indices])

    def labelled(self, per_class: int | None = None, seed: int = 0) -> "Labelled":
        """The split with its labels, as models of p(x|label) are trained.

        Args:
            per_class: how many of each class to know; the label of all others is -1.
            seed: of which they are.

        Raises:
            InputError: it has none, or a class has fewer.

        Example:
            >>> from aevb.data import load
            >>> x, labels = load("digits").train.labelled().batch(torch.arange(3))
            >>> x.shape, labels
            (torch.Size([3, 64]), tensor([6, 6, 6]))
        """
        if self.labels is None:
            raise InputError("The data have no labels. Give those of an array: load(array, labels=...).")
        labels = self.labels.long()
        return Labelled(
            self, labels if per_class is None else _few(labels, check_at_least(0, "per_class", per_class), seed)
        )


def _bernoulli(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw from Bernoulli(x): on a CPU, in half the time, the float32 or float64 that torch.bernoulli draws."""
    return torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device).lt_(x)


def _few(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """So many labels of each class, drawn; -1 for the others."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    known = torch.full_like(labels, -1)
    for kind in labels.unique().tolist():
        own = order[labels[order] == kind]
        if len(own) < per_class:
            raise InputError(f"There are {len(own)} data of class {kind}; per_class is {per_class}.")
        known[own[:per_class]] = kind
    return known


@dataclass(frozen=True)
class Labelled:
    """N data and their labels; a batch is the tuple of both, its pixels those of the split alone.

    Args:
        split: the data.
        labels: ``(N,)``, whole numbers.
    """

    split: Split
    labels: Tensor

    def __len__(self) -> int:
        return len(self.split)

    def __repr__(self) -> str:
        """The split, and how many labels are known."""
        return f"Labelled({self.split}, known={int((self.labels >= 0).sum())})"

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The rows ``indices``, ``(B, P)``, and their labels, ``(B,)``."""
        x = self.split.batch(indices, generator)
        return x, self.labels[indices.to(self.labels.device)].to(x.device)

    def to(self, device: torch.device) -> Self:
        """The same, batches being made on a device."""
        return replace(self, split=self.split.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class DataSet:
    """Train, test and (where there is one, or one was asked for) validation split, and how they were made."""

    name: str
    train: Split
    test: Split
    validation: Split | None
    how: str
    binarisation_seed: int

    def __repr__(self) -> str:
        """Its name and kind, and how it was made."""
        return f"DataSet({self.name!r}, shape={self.shape}, binarisation={self.binarisation!r}; {self.how})"

    def __iter__(self) -> Iterator[Split]:
        return iter(split for split in (self.train, self.validation, self.test) if split is not None)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image."""
        return self.train.shape

    @property
    def pixels(self) -> int:
        """P, the number of pixels of one image."""
        return self.train.pixels.shape[1]

    @property
    def binarisation(self) -> str:
        """One of :data:`BINARISATIONS`."""
        return self.train.binarisation


def split(raw: Raw, name: str, binarisation: str, validation: float, seed: int) -> DataSet:
    """Cut a whole into train, validation and test, and binarise once what is not drawn anew."""
    _check_binarisation(raw, name, check_name("binarisation", binarisation, BINARISATIONS))
    whole = Split(
        raw.pixels.flatten(1), None, raw.maximum, tuple(raw.pixels.shape[1:]), binarisation, raw.labels, raw.binary
    )
    order, sizes, how = _cut(raw, validation, seed)
    train, held, test = (whole.take(part) for part in order.split(sizes))
    if not (len(train) and len(test)):
        raise InputError(f"{name}: the {'test' if len(train) else 'train'} split is empty ({len(whole)} data in all).")
    return DataSet(
        name=name,
        train=train.binarised_once(seed + 1) if binarisation == "fixed" else train,
        validation=held.binarised_once(seed + 2) if len(held) else None,
        test=test.binarised_once(seed),
        how=how,
        binarisation_seed=seed,
    )


def _check_binarisation(raw: Raw, name: str, binarisation: str) -> None:
    if raw.binary and binarisation != "fixed":
        raise InputError(f"{name} has been binarised once and for all; it is used with --binarisation fixed.")
    if raw.maximum is None and binarisation != "none":
        outside = (raw.pixels < 0) | (raw.pixels > 1)
        remedy = "Scale them, or take them as they are: --binarisation none with --likelihood Gaussian."
        refuse(name, raw.pixels, outside, f"binarisation '{binarisation}' needs pixels in [0, 1]", remedy)


def _cut(raw: Raw, validation: float, seed: int) -> tuple[Tensor, tuple[int, int, int], str]:
    """The order of the rows, the sizes of train, validation and test in it, and both in words."""
    count, shuffle = len(raw.pixels), np.random.default_rng(seed).permutation
    if raw.sizes is None:
        order, train, held = torch.from_numpy(shuffle(count)), int(0.8 * count), 0
        how = f"random order, seed {seed}"
    else:
        order, (train, held, _) = torch.arange(count), raw.sizes
        how = "its own split"
    if validation and not held:
        held = round(validation * train)
        train -= held
        if raw.sizes is not None:
            order = torch.cat([torch.from_numpy(shuffle(train + held)), order[train + held :]])
            how += f", validation data drawn from the training data with seed {seed}"
    sizes = (train, held, count - train - held)
    return order, sizes, f"{how}: {sizes[0]:,} train, {sizes[1]:,} validation, {sizes[2]:,} test"
