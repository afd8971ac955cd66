"""The optional log for TensorBoard."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .inference.history import Row
from .models import InputError


@contextmanager
def tensorboard(folder: Path | None) -> Iterator[Callable[[Row], None]]:
    """A function that logs a row of the history below ``folder``; without a folder it does nothing."""
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("--tensorboard needs TensorBoard: pip install 'aevb[tensorboard]'.") from error

    def log(row: Row) -> None:
        for column, value in row.items():
            writer.add_scalar(column, value, row["images"])

    with SummaryWriter(folder / "tensorboard") as writer:
        yield log
