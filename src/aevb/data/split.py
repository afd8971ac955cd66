"""A split of a data set: pixels as they are stored, until a batch is made."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from ..models.errors import InputError

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
        pixels: ``(N, P)``, of any dtype; images stay uint8.
        maximum: what a pixel is divided by; None leaves real values as they are.
        shape: of one image.
        binarisation: one of :data:`BINARISATIONS`.
        labels: ``(N,)``, or None.
        drawn: whether the pixels have been binarised already, once and for all.
    """

    pixels: Tensor
    maximum: float | None
    shape: tuple[int, ...]
    binarisation: str
    labels: Tensor | None = None
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The rows ``indices`` as floats, ``(B, P)``; dynamic binarisation draws from ``generator``."""
        x = self.pixels[indices].to(torch.get_default_dtype())
        if self.drawn:
            return x
        if self.maximum is not None:
            x = x / self.maximum
        return torch.bernoulli(x, generator=generator) if self.binarisation in ("dynamic", "fixed") else x

    def to(self, device: torch.device) -> Self:
        """The same split with its pixels on a device."""
        return replace(self, pixels=self.pixels.to(device))

    def binarised_once(self, seed: int) -> Self:
        """The split with every pixel drawn now, from Bernoulli(pixel / maximum)."""
        if self.binarisation not in ("dynamic", "fixed"):
            return self
        generator = torch.Generator().manual_seed(seed)
        chunks = torch.arange(len(self)).split(4096)
        pixels = torch.cat([self.batch(chunk, generator).to(torch.uint8) for chunk in chunks])
        return replace(self, pixels=pixels, drawn=True)

    def take(self, indices: Tensor) -> Self:
        """Some of the data, as a split of their own."""
        return replace(self, pixels=self.pixels[indices], labels=None if self.labels is None else self.labels[indices])


@dataclass(frozen=True)
class DataSet:
    """Train, test and (where asked for) validation split, and how they were made."""

    name: str
    train: Split
    test: Split
    validation: Split | None
    how: str
    binarisation_seed: int

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


def make_data_set(
    name: str,
    whole: Split,
    order: Tensor,
    sizes: tuple[int, int, int],
    how: str,
    seed: int,
) -> DataSet:
    """Cut a whole into train, validation and test, in an order, and binarise once what is not drawn anew."""
    if whole.binarisation not in BINARISATIONS:
        raise InputError(f"There is no binarisation {whole.binarisation!r}. Known: {', '.join(BINARISATIONS)}.")
    train, validation, test = (whole.take(part) for part in order.split(sizes))
    if min(sizes[0], sizes[2]) == 0:
        raise InputError(
            f"{name}: the {'train' if sizes[0] == 0 else 'test'} split is empty ({len(whole)} data in all)."
        )
    return DataSet(
        name=name,
        train=train.binarised_once(seed + 1) if whole.binarisation == "fixed" else train,
        validation=validation.binarised_once(seed + 2) if sizes[1] else None,
        test=test.binarised_once(seed),
        how=how,
        binarisation_seed=seed,
    )
