"""Data sets with a name: one file and one line here each."""

from collections.abc import Callable

from ..raw import Raw
from .binarized_mnist import binarized_mnist as binarized_mnist
from .digits import digits as digits
from .fashion_mnist import fashion_mnist as fashion_mnist
from .frey_faces import frey_faces as frey_faces
from .mnist import mnist as mnist

DATA_SETS: dict[str, Callable[..., Raw]] = {
    name: reader
    for name, reader in list(globals().items())
    if getattr(reader, "__module__", "").startswith(__name__ + ".")
}
"""Reader of each data set; its first line says what the data are."""
