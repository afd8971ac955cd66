"""The published tables of what goes with what are what the parts say today."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent / "results"


def test_the_tables_of_combinations_are_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "combinations.py"))["page"]()
    assert made == (ROOT / "combinations.md").read_text(), "python results/combinations.py > results/combinations.md"
