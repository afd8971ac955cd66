"""One file for each library: a VAE of the case, trained as the library's own documentation says."""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import numpy as np

from ..cases import Case, Layers


class Peer(Protocol):
    """A library in training on ``images``, (N, P), float32, black and white."""

    def load(self, images: np.ndarray) -> None:
        """Go on with other images, as many: the next epoch's binarisation."""

    def epoch(self) -> None:
        """Train on every image once, in random order; return when that is done."""

    def layers(self) -> tuple[Layers, Layers]:
        """The weights of encoder and decoder as they are now."""


PEERS = {
    "aevb compiled": ("ours", "compiled"),
    "aevb fast": ("ours", "fast"),
    "aevb svi": ("ours", "svi"),
    "pyro": ("pyro_svi", "validated"),
    "pyro, validation off": ("pyro_svi", "unvalidated"),
    "pythae": ("pythae_trainer", "trainer"),
    "torch eager": ("torch_plain", "eager"),
    "torch.compile": ("torch_plain", "compiled"),
    "numpyro": ("numpyro_scan", "scan"),
}


def load(name: str) -> Callable[[Case, np.ndarray], Peer]:
    """The maker of a peer; only its own library is imported."""
    module, maker = PEERS[name]
    return getattr(import_module(f"{__package__}.{module}"), maker)
