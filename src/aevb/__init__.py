"""Auto-encoding variational Bayes as pairs of Pyro programs.

``aevb.models`` p(x, z) · ``aevb.guides`` q(z|x) · ``aevb.inference`` log p(x) >= ... · ``aevb.data``.
Kingma and Welling (2013), Auto-Encoding Variational Bayes, https://arxiv.org/abs/1312.6114.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checkpoints import LoadedRun

__version__ = "0.1.0"


def load_run(folder: str | Path, checkpoint: str = "last", *, parts: str | Path | None = None) -> "LoadedRun":
    """Read a run back: ``model, guide, config = aevb.load_run("runs/train-digits-1")``.

    Args:
        folder: a run's folder.
        checkpoint: ``last``; ``best``, on validation data; or ``epoch-N``, one of those that were kept.
        parts: the Python file that parts of your own are from; it is run.

    Raises:
        InputError: not a run's folder, no such checkpoint, one that is damaged or of another model, or of other parts.
    """
    from . import checkpoints  # with torch, which is slow to import

    return checkpoints.load_run(folder, checkpoint, parts=parts)
