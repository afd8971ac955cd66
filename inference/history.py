"""What a training run was, epoch by epoch."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

from .estimators import KLPath

COLUMNS = (
    "epoch",
    "step",
    "images",
    "seconds",
    "learning_rate",
    "train_bound",
    "train_elbo",
    "reconstruction",
    "kl",
    "kl_global",
    "validation_elbo",
    "test_elbo",
)
"""One row an epoch. Images and seconds are of training alone, counted from the start; bounds are in nats per datum,
averaged over the epoch while the parameters move, and go up. ``train_bound`` is what was trained, with its beta;
``train_elbo`` the evidence lower bound at beta = 1, reconstruction - kl - kl_global. A column not measured is NaN."""

Row = dict[str, float]


@dataclass
class History:
    """The rows of a run, the KL path of each latent site, how its steps were computed, and why the run stopped.

    ``engine`` is ``svi`` or ``fast``; ``engine_note`` says why it was not ``fast``, or which library multiplied.

    Example:
        >>> history = History(rows=[dict.fromkeys(COLUMNS, 0.0) | {"epoch": 1, "train_elbo": -25.0}])
        >>> history["train_elbo"]
        [-25.0]
    """

    rows: list[Row] = field(default_factory=list)
    kl_path: dict[str, KLPath] = field(default_factory=dict)
    engine: str = "svi"
    engine_note: str = ""
    stopped: str = "epochs done"
    best_epoch: int | None = None

    def __repr__(self) -> str:
        """Epochs, the figures of the last, how it was computed, and why it stopped."""
        last = self.rows[-1] if self.rows else {}
        measured = ("train_elbo", "validation_elbo", "test_elbo")
        figures = [f"{name} {last[name]:.4g}" for name in measured if not isnan(last.get(name, nan))]
        return f"History({', '.join([f'epochs {len(self)}', *figures, f'engine {self.engine}'])}; {self.stopped})"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, column: str) -> list[float]:
        """One column."""
        return [row[column] for row in self.rows]

    def state(self) -> dict[str, Any]:
        """Its fields, in a copy that does not grow with it; ``History(**state)`` is the history again."""
        return vars(self) | {"rows": list(self.rows)}

    def write_csv(self, path: str | Path) -> None:
        """Write the rows as comma-separated values."""
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
