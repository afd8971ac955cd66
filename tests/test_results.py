"""The tables of results/ say what the figures of each run, kept beside them, say."""

import csv
import runpy
from pathlib import Path
from statistics import mean, stdev

import pytest

ROOT = Path(__file__).parent.parent / "results"
ELBO, EVIDENCE = "test_elbo", "test_log_evidence"
TABLES = {
    "mnist": ("estimators.md", "estimators/mnist.csv", {"ELBO": ELBO, "log p(x)": EVIDENCE}, 11),
    "digits": ("estimators.md", "estimators/digits.csv", {"ELBO, test": ELBO, "log p(x), test": EVIDENCE}, 11),
    "bounds on mnist": (
        "mnist.md",
        "mnist/results.csv",
        {
            "ELBO, train": "train_elbo",
            "ELBO, test (L_A, 10 samples)": ELBO,
            "log p(x), 1,000 test images (5,000 samples)": EVIDENCE,
            "reconstruction": "reconstruction",
            "KL": "kl",
        },
        2,
    ),
    "bounds on the digits": (
        "digits.md",
        "digits/results.csv",
        {
            "ELBO, train": "train_elbo",
            "ELBO, test (L_A, 100 samples)": ELBO,
            "log p(x), test (1,000 samples)": EVIDENCE,
            "reconstruction": "reconstruction",
            "KL": "kl",
        },
        2,
    ),
}


def rows(page: str, headings: set[str]) -> list[dict[str, str]]:
    """The rows of the one table of a page that has these headings, by heading."""
    tables = [block.splitlines() for block in (ROOT / page).read_text().split("\n\n") if block.startswith("|")]
    split = [[[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] for lines in tables]
    (found,) = [table for table in split if headings <= set(table[0])]
    return [dict(zip(found[0], line, strict=True)) for line in found[2:]]


def spread(values: list[float], like: str) -> str:
    """Mean and standard error, with the digits and the sign of what a page shows."""
    decimals = len(like.rpartition(".")[2])
    sign = "+" if like.startswith("+") else ""
    return f"{mean(values):{sign}.{decimals}f} ± {stdev(values) / len(values) ** 0.5:.{decimals}f}"


@pytest.mark.parametrize(("page", "file", "columns", "count"), TABLES.values(), ids=TABLES)
def test_a_table_is_that_of_its_runs(page: str, file: str, columns: dict[str, str], count: int) -> None:
    with (ROOT / file).open(newline="") as text:
        runs = list(csv.DictReader(text))
    figures = {
        column: {(run["estimator"], run["seed"]): float(run[column]) for run in runs} for column in columns.values()
    }
    shown = rows(page, set(columns))
    assert len(shown) == count
    for row in shown:
        for heading, column in columns.items():
            own = {seed: value for (name, seed), value in figures[column].items() if name == row[""]}
            assert row[heading] == spread(list(own.values()), row[heading]), (row[""], heading)
            gain = next((h for h in row if h.startswith(f"{heading.removesuffix(', test')} - L_A")), None)
            if gain and row[""] != "L_A":
                gains = [value - figures[column]["L_A", seed] for seed, value in own.items()]
                assert row[gain] == spread(gains, row[gain]), (row[""], gain)


@pytest.mark.parametrize(
    "study", ["priors-mnist", "posteriors-mnist", "priors-plane", "priors-fashion", "posteriors-fashion"]
)
def test_the_tables_of_priors_are_printed_from_their_runs(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)  # where it imports a neighbour
    priors = runpy.run_path(str(ROOT / "priors.py"))
    with (ROOT / "priors" / f"{study}.csv").open(newline="") as text:
        runs = [{name: number(value) for name, value in row.items()} for row in csv.DictReader(text)]
    (chosen,) = [known for known in priors["STUDIES"] if known.folder == study]
    table = "\n".join(priors["table"](chosen, priors["summaries"](runs)))
    assert table in (ROOT / "priors.md").read_text()


def number(text: str) -> float | str:
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text
