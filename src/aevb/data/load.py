"""Data sets by name, from a file, or from memory."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..models.errors import InputError, check_seed
from .files import read_file
from .named import DATA_SETS
from .raw import Array, Raw, raw_from_array
from .split import DataSet, split


def load(
    data: str | Path | Tensor | Array,
    *,
    binarisation: str | Sequence[str] | None = None,
    validation: float = 0.0,
    seed: int = 0,
    labels: Tensor | None = None,
) -> DataSet:
    """A data set, split and ready for :func:`aevb.inference.fit`.

    Sets that come with a split keep it; of others, 80 % of the rows in a random order are for training and the rest
    for testing.

    Args:
        data: a name of :data:`DATA_SETS`; the path of a ``.npy`` (mapped, not read), ``.npz`` or ``.mat`` file or of a
            folder of images; or an array: rows of pixels ``(N, P)`` or images ``(N, height, width)``. Integers count
            from 0 to their maximum, floats lie in [0, 1] or are real values. Options follow a colon:
            ``frey_faces:split=random``, ``images.npz:array=train``.
        binarisation: ``dynamic``, ``fixed``, ``relaxed`` or ``none`` (:data:`BINARISATIONS`); by default ``dynamic``,
            ``fixed`` for what is binary already, and ``none`` for real values. Of several, the default if it is one of
            them, else the first.
        validation: the share of the training data to keep apart for early stopping, where the set has no such split.
        seed: of the order, and of what is binarised once.
        labels: ``(N,)``, for an array of one's own.

    Raises:
        InputError: an unknown name; a file that is not there, cut short, altered, or without an array of images; a
            pixel that is NaN or infinite, or a negative integer; an empty split.

    Example:
        >>> digits = load("digits")
        >>> len(digits.train), len(digits.test), digits.shape, digits.binarisation
        (1437, 360, (8, 8), 'dynamic')
    """
    if not 0 <= validation < 1:
        raise InputError(f"validation is a share of the training data, from 0 to below 1; it is {validation}.")
    check_seed("seed", seed)
    if isinstance(data, str | Path):
        name, raw = str(data), _read(str(data))
    else:
        name, raw = "the array", raw_from_array("the array", data, labels)
    if isinstance(binarisation, str):
        chosen = binarisation
    else:
        allowed = binarisation or (raw.binarisation,)
        chosen = raw.binarisation if raw.binarisation in allowed else allowed[0]
    return split(raw, name, chosen, validation, seed)


def _read(spec: str) -> Raw:
    from ..spec import read_options

    name, _, text = spec.partition(":")
    if name in DATA_SETS:
        return DATA_SETS[name](**read_options(name, text, DATA_SETS[name]))
    return read_file(spec)
