"""MNIST, binarised once and for all."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..raw import Raw
from ..sources import Source, read_sources

URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
SOURCES = [
    Source(f"binarized_mnist_{part}.amat", digest, f"{URL}binarized_mnist_{part}.amat")
    for part, digest in (
        ("train", "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d"),
        ("valid", "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2"),
        ("test", "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c"),
    )
]
TEST_ORDER = torch.arange(10_000) * 6181 % 10_000
"""Rows of the test file in the order in which they are had: steps of the golden ratio, so that the first n are of all
digits. The file has MNIST's 980 zeros first, then its 1,135 ones, and so on."""


def binarized_mnist() -> Raw:
    """50,000 + 10,000 + 10,000 digits of MNIST, 28x28, drawn black or white once (Larochelle and Murray, 2011).

    The test digits, sorted by class in their file, are spread (:data:`TEST_ORDER`).
    """
    train, validation, test = (_amat(content) for content in read_sources("binarized_mnist", SOURCES, _download))
    pixels = torch.cat([train, validation, test[TEST_ORDER]])
    return Raw(pixels, 1.0, sizes=(50_000, 10_000, 10_000), binary=True)


def _amat(content: bytes) -> Tensor:
    """Lines of 784 characters 0 or 1, each followed by a space or the line's end."""
    digits = np.frombuffer(content, np.uint8).reshape(-1, 2 * 784)[:, ::2] - ord("0")
    return torch.from_numpy(digits.reshape(-1, 28, 28).copy())


def _download(folder: Path) -> None:
    from torchvision.datasets.utils import download_url

    for source in SOURCES:
        download_url(source.url, str(folder))
