"""Frey Face."""

import io
from pathlib import Path
from typing import Literal

import torch

from ..raw import Raw
from ..sources import Source, read_sources

SOURCE = Source(
    "frey_rawface.mat",
    "265a83a23adb081755cd3de375509828e690324d1d60f076b8ecebc840d59c64",
    "http://www.cs.nyu.edu/~roweis/data/frey_rawface.mat",
)


def frey_faces(*, split: Literal["time", "random"] = "time") -> Raw:
    """1,965 frames of a face in a video, 28x20 (Frey and Roweis); trained on the first 80 % unless split=random.

    Neighbouring frames are near-copies: a random split measures memory, a split in time generalisation.
    """
    from scipy.io import loadmat

    (content,) = read_sources("frey_faces", [SOURCE], _download)
    frames = torch.from_numpy(loadmat(io.BytesIO(content))["ff"].T.copy()).reshape(-1, 28, 20)
    return Raw(frames, 255.0, sizes=(1572, 0, 393) if split == "time" else None)


def _download(folder: Path) -> None:
    from torchvision.datasets.utils import download_url

    download_url(SOURCE.url, str(folder))
