"""MNIST, and what its kin share: four files in the IDX format."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..raw import Raw
from ..sources import Source, read_sources

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)


def mnist() -> Raw:
    """60,000 + 10,000 handwritten digits, 28x28 (LeCun, Bottou, Bengio and Haffner, 1998)."""
    from torchvision.datasets import MNIST

    return read_idx("mnist", "MNIST", SHA256, MNIST)


def read_idx(name: str, folder: str, sha256: Sequence[str], dataset: type) -> Raw:
    """Four IDX files below ``folder/raw``, as torchvision lays them; its class ``dataset`` fetches them."""
    urls = (dataset.mirrors[0] + file + ".gz" for file in FILES)  # type: ignore[attr-defined]
    sources = [
        Source(f"{folder}/raw/{file}", digest, url) for file, digest, url in zip(FILES, sha256, urls, strict=True)
    ]
    train, train_labels, test, test_labels = read_sources(
        name,
        sources,
        lambda root: dataset(root, download=True),
    )
    pixels = torch.cat([_idx(content, 16).reshape(-1, 28, 28) for content in (train, test)])
    labels = torch.cat([_idx(content, 8).long() for content in (train_labels, test_labels)])
    return Raw(pixels, 255.0, labels, sizes=(60_000, 0, 10_000))


def _idx(content: bytes, header: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(content), np.uint8, offset=header))
