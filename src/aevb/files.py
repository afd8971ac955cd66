"""Files that are whole or not there."""

import csv
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .inference.history import Row
from .models import InputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, which takes its place if the block ends well and vanishes if not."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def fresh_folder(out: str | None, stem: str) -> Path:
    """The folder to write into: ``out``, which must not hold anything, or the next free ``runs/stem-1``, ``-2``, ..."""
    if out is None:
        taken = [
            int(p.name.rpartition("-")[2])
            for p in Path("runs").glob(f"{stem}-*")
            if p.name.rpartition("-")[2].isdigit()
        ]
        return Path("runs", f"{stem}-{max(taken, default=0) + 1}")
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        if (path / "config.yaml").exists() or (path / "runs").is_dir():
            raise InputError(f"--out {out} holds another run. Go on with it by --resume, or name a new folder.")
        raise InputError(f"--out {out} is not an empty folder. Name a new one.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out} cannot be made: {error.strerror}. Name another folder.") from error
    return path


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write as JSON, which has no NaN: what is not known is null."""
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    path.write_text(json.dumps(known, indent=2, allow_nan=False) + "\n")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as comma-separated values, all or nothing; columns are those of the first."""
    with atomic(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_metrics(folder: Path, name: str = "metrics.csv") -> list[Row]:
    """The rows of a run's ``metrics.csv``, or of another of its tables of numbers."""
    with open(folder / name, newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
