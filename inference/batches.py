"""What can be trained on, and how it becomes batches."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from ..models.errors import InputError

Batch = tuple[Tensor, ...]


@runtime_checkable
class Batches(Protocol):
    """Data that can be had in batches: anything with a length and ``batch(indices, generator)``.

    ``batch`` returns a tensor or a tuple of tensors, each with a row for each index; the generator is for noise that
    belongs to the data, such as binarisation.
    """

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor | Batch: ...


class Rows:
    """Tensors of equal length as :class:`Batches`: a batch is a tuple of their rows."""

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def batch(self, indices: Tensor, generator: torch.Generator) -> Batch:
        return tuple(tensor.index_select(0, indices) for tensor in self.tensors)

    def to(self, device: torch.device) -> Self:
        return type(self)(*(tensor.to(device) for tensor in self.tensors))


Data = Tensor | Sequence[Tensor] | Batches


class Loader:
    """Batches of one data set on one device, with the random streams that belong to them.

    Args:
        data: a tensor, tensors of equal length, or :class:`Batches`.
        device: where batches are made; data with a method ``to`` are moved there once.

    ``generator`` draws the noise that belongs to the data; seed it.
    """

    def __init__(self, data: Data, device: torch.device) -> None:
        self.data = _as_batches(data)
        if callable(move := getattr(self.data, "to", None)):
            self.data = move(device)
        self.device = device
        self.generator = torch.Generator(device)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, indices: Tensor) -> Batch:
        batch: Any = self.data.batch(indices.to(self.device), self.generator)
        return (batch,) if isinstance(batch, Tensor) else tuple(batch)

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All data once, from first to last."""
        for indices in torch.arange(len(self)).split(batch_size):
            yield self[indices]


def _as_batches(data: Data) -> Batches:
    if isinstance(data, Tensor):
        data = (data,)
    if isinstance(data, Sequence) and all(isinstance(t, Tensor) for t in data):
        if any(tensor.ndim == 0 for tensor in data):
            raise InputError("The tensors of a data set have a row for each datum; one of these is a single number.")
        lengths = {len(tensor) for tensor in data}
        if len(lengths) != 1:
            raise InputError(f"The tensors of a data set have one length; these have {sorted(lengths)}.")
        data = Rows(*data)
    if not isinstance(data, Batches):
        raise InputError(
            f"Data are a tensor, a tuple of tensors of equal length, or an object with a length and "
            f"batch(indices, generator); this is {type(data).__name__}."
        )
    if len(data) == 0:
        raise InputError("The data set is empty.")
    return data
