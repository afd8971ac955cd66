"""Every part with every other: the tables of what goes with what, and a covering of pairs that trains."""

import runpy
from pathlib import Path

import pytest

from aevb.parts import AMORTIZED, LIKELIHOODS, PAIRED, PRIORS

ROOT = Path(__file__).parent.parent / "results"
GRID = runpy.run_path(str(ROOT / "grid.py"))
AXES, ROWS = GRID["AXES"], GRID["pairs"]()


def test_the_tables_of_combinations_are_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "combinations.py"))["page"]()
    assert made == (ROOT / "combinations.md").read_text(), "python results/combinations.py > results/combinations.md"


def test_every_part_is_in_the_grid() -> None:
    parts = {"prior": PRIORS, "guide": AMORTIZED, "likelihood": LIKELIHOODS, "network": PAIRED}
    for axis, known in parts.items():
        assert {value.partition(":")[0].partition("+")[0] for value in AXES[axis]} == known.keys()


def test_any_two_values_that_go_together_are_in_one_row() -> None:
    allowed = {frozenset((row[i], row[j])) for row in GRID["everything"]() for i in range(len(row)) for j in range(i)}
    covered = {frozenset((row[i], row[j])) for row in ROWS for i in range(len(row)) for j in range(i)}
    assert covered == allowed


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_a_combination_trains(row: tuple[str, ...]) -> None:
    """Fifty steps raise the bound of twenty data by more than three standard errors; the KL is taken as it is said."""
    outcome = GRID["trained"](row)
    assert outcome.rises, outcome
    named = dict(zip(AXES, row, strict=True))
    expected = {"L_A": "monte-carlo", "IWAE:samples=3": "none"}.get(named["estimator"], outcome.kl_path)
    assert outcome.kl_path == expected
