"""``aevb gradients``: the instrument on a run's checkpoints."""

import csv
from pathlib import Path

import pytest

from aevb.__main__ import main
from aevb.gradients import COLUMNS

SMALL = ["--hidden", "8", "--evidence-samples", "10", "--latents", "2", "--epochs", "3", "--keep-epochs", "1"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_it_measures_every_checkpoint_and_ranks_within_a_target(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *SMALL, "--out", "a"]) == 0
    capsys.readouterr()
    names = ["L_A", "STL", "IWAE:samples=3"]
    assert main(["gradients", "a", "--estimators", *names, "--draws", "20", "--sweep", "1", "4"]) == 0
    rows = table(folder / "a" / "gradients.csv")
    assert tuple(rows[0]) == COLUMNS
    assert [(r["checkpoint"], r["epoch"]) for r in rows if (r["estimator"], r["part"]) == ("STL", "guide")] == [
        ("start", "0"),
        ("epoch-1", "1"),
        ("last", "3"),
    ]
    assert {r["part"] for r in rows} >= {"model", "guide", "model.decoder.0.weight", "guide.encoder.2.bias"}
    assert {(r["estimator"], r["samples"]) for r in rows} == {("L_A", "1"), ("STL", "1"), ("IWAE:samples=3", "3")}
    sweep = table(folder / "a" / "gradients_sweep.csv")
    assert {(r["estimator"], r["samples"]) for r in sweep} == {(e, k) for e in ("L_A", "STL") for k in ("1", "4")}
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "checkpoint 1 of 3, start (epoch 0): 3 estimators, 20 draws each",
        "checkpoint 2 of 3, epoch-1 (epoch 1): 3 estimators, 20 draws each",
        "checkpoint 3 of 3, last (epoch 3): 3 estimators, 20 draws each",
        "last: 2 estimators with 1 samples",
        "last: 2 estimators with 4 samples",
    ]
    assert "gradient of the guide, last" in out
    assert "IWAE k=3" in out
    figures = {path.stem for path in (folder / "a" / "figures").glob("gradient*.png")}
    assert figures == {"gradient_noise", "gradient_noise_over_training", "gradient_snr"}


def test_binary_latents_are_measured_by_those_that_can(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = ["--prior", "FactorialBernoulli", "--guide", "AmortizedBernoulli"]
    assert main(["train", *SMALL, *parts, "--estimator", "VIMCO", "--out", "b"]) == 0
    assert main(["gradients", "b", "--draws", "20", "--checkpoints", "last"]) == 0
    found = {row["estimator"] for row in table(folder / "b" / "gradients.csv")}
    assert {"REINFORCE", "VIMCO", "RWS", "WakeWake", "WakeSleep", "L_A"} <= found
    assert not {"L_B", "STL", "DReG"} & found
    capsys.readouterr()
    assert main(["gradients", "b", "--estimators", "DReG"]) == 2
    assert "DReG needs reparametrised latents. Site 'z': Bernoulli is not. Use VIMCO" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone is not the folder of a run"),
        (["a", "--estimators", "LA"], "There is no estimator 'LA'. Did you mean L_A?"),
        (["a", "--estimators", "Renyi:alpha=x"], "Renyi:alpha takes float; it is 'x'"),
        (["a", "--checkpoints", "epoch-7"], "There is no checkpoint of the run 'epoch-7'. Did you mean epoch-1?"),
        (["a", "--draws", "3"], "--draws is at least 20; it is 3"),
        (["a", "--batch-size", "0"], "--batch-size is at least 1; it is 0"),
        (["a", "--seed", "-1"], "--seed is a whole number"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *SMALL, "--out", "a"]) == 0
    capsys.readouterr()
    assert main(["gradients", *arguments]) == 2
    err = capsys.readouterr().err.splitlines()
    assert message in err[-1]
    assert not (folder / "a" / "gradients.csv").exists()


def test_a_prior_and_a_guide_of_different_kinds_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--guide", "AmortizedBernoulli", "--estimator", "L_A"]) == 2
    assert (
        "Site 'z' is discrete in the guide, Bernoulli, and continuous in the model, Normal." in capsys.readouterr().err
    )
    assert main(["train", *SMALL, "--prior", "FactorialBernoulli", "--estimator", "L_A"]) == 2
    assert "Choose a prior and a guide of the same kind." in capsys.readouterr().err


def test_a_comparison_with_kept_epochs_follows_the_evidence_on_the_way(folder: Path) -> None:
    arguments = [*SMALL, "--seeds", "1", "--estimators", "L_A", "WakeSleep", "--workers", "1", "--out", "c"]
    assert main(["compare", *arguments]) == 0
    (first, *_) = sorted((folder / "c" / "runs").iterdir())
    assert [row["epoch"] for row in table(first / "evidence.csv")] == ["1", "3"]
    rows = table(folder / "c" / "results.csv")
    assert [(row["estimator"], row["samples"], row["kl_path"]) for row in rows] == [
        ("L_A", "1", "z:monte-carlo"),
        ("WakeSleep", "5", "z:none"),
    ]
    assert "WakeSleep:samples=5" in (folder / "c" / "report.html").read_text()
