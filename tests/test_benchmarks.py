"""The benchmark runs, at its smallest; nothing here depends on a time."""

import csv
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from aevb.data import load
from aevb.models import InputError

ROOT = Path(__file__).parent.parent
PEERS = ["aevb fast", "pyro", "torch eager"] + (["numpyro"] if find_spec("numpyro") else [])


def test_everybody_reaches_the_same_bound(tmp_path: Path) -> None:
    try:
        load("mnist")
    except InputError as error:
        pytest.skip(f"MNIST is not there: {error}")
    command = [sys.executable, "-m", "benchmarks.bench", "--tiny", "--rounds", "5", "--out", str(tmp_path)]
    options = ["--cases", "iwae-k5", "--to-bounds", "1", "--peers", *PEERS]
    subprocess.run([*command, *options], check=True, cwd=ROOT, capture_output=True)
    rows = read(tmp_path / "steps.csv")
    assert [row["peer"] for row in rows] == PEERS
    bounds = [float(row["test_bound"]) for row in rows]
    assert max(bounds) - min(bounds) < 2, bounds  # of some 540 nats, after 18 steps, each with noise of its own
    assert [row["peer"] for row in read(tmp_path / "to_bounds.csv")] == PEERS


def test_a_replayed_evidence_is_the_pairs(tmp_path: Path) -> None:
    path = tmp_path / "evidence.csv"
    command = [sys.executable, "-m", "benchmarks.evidence", "--out", str(path), "--rounds", "1"]
    subprocess.run([*command, "--images", "20", "--samples", "260"], check=True, cwd=ROOT, capture_output=True)
    assert [row["how"] for row in read(path)] == ["replayed", "by running the pair"]


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
