"""Runs that are stopped, taken up, damaged, evaluated, read back, and trained side by side."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import aevb
from aevb.__main__ import main
from aevb.batch import write_plan
from aevb.build import load_data
from aevb.compare import RANKED, differences, summaries
from aevb.config import Config
from aevb.files import read_metrics
from aevb.models import Conv, ConvTransposed, InputError

SMALL = ["--hidden", "8", "--evidence-samples", "10", "--latents", "2"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weights(folder: Path, checkpoint: str = "last") -> dict[str, torch.Tensor]:
    model, guide, _ = aevb.load_run(folder, checkpoint)
    return {f"{role}.{k}": v for role, p in (("m", model), ("g", guide)) for k, v in p.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def rows(folder: Path) -> list[dict[str, float]]:
    """Metrics but for the clock's."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_metrics(folder)]


def train(out: str, *more: str) -> int:
    return main(["train", *SMALL, "--epochs", "6", "--schedule", "cosine", "--out", out, *more])


def interrupt_after(
    epoch: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = KeyboardInterrupt
) -> None:
    def on_epoch(self: Any, name: str, epochs: int, row: dict[str, float]) -> None:
        if row["epoch"] == epoch:
            raise error

    monkeypatch.setattr("aevb.progress.Reporter.epoch", on_epoch)


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("optimizer", ["Adam", "RMSprop"])
def test_a_resumed_run_equals_an_unbroken_one(
    threads: str, optimizer: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--threads", threads, "--optimizer", optimizer, "--patience", "4", "--samples", "2"]
    assert train("whole", *settings) == 0
    with monkeypatch.context() as patch:
        interrupt_after(2, patch)
        assert train("broken", *settings) == 130
    assert len(rows(folder / "broken")) == 2
    assert main(["train", "--out", "broken", "--resume"]) == 0
    assert same(weights(folder / "whole"), weights(folder / "broken"))
    assert same(weights(folder / "whole", "best"), weights(folder / "broken", "best"))
    assert repr(rows(folder / "whole")) == repr(rows(folder / "broken"))
    results = [json.loads((folder / name / "result.json").read_text()) for name in ("whole", "broken")]
    for result in results:
        del result["seconds"], result["images_per_second"]
    assert results[0] == results[1]


def test_a_run_killed_at_any_moment_goes_on_to_the_same_end(folder: Path) -> None:
    command = [sys.executable, "-m", "aevb", "train", *SMALL, "--epochs", "150", "--threads", "1"]
    quick = (
        "import aevb.runs, sys; aevb.runs.CHECKPOINT_SECONDS = 0.0; from aevb.__main__ import main; sys.exit(main())"
    )
    subprocess.run([*command, "--out", "whole"], check=True, capture_output=True)
    arguments = [*command[3:], "--out", "killed"]
    kills = 0
    for delay in (0.3, 0.9, 1.7):
        process = subprocess.Popen([sys.executable, "-c", quick, *arguments], stderr=subprocess.DEVNULL)
        arguments = ["train", "--out", "killed", "--resume"]
        deadline = time.monotonic() + 60
        while not (folder / "killed" / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(delay if kills == 0 else delay + 2)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills
    subprocess.run([sys.executable, "-m", "aevb", *arguments], check=True, capture_output=True)
    assert same(weights(folder / "whole"), weights(folder / "killed"))
    assert repr(rows(folder / "whole")) == repr(rows(folder / "killed"))


def broken_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Interrupted after epoch 4, with the checkpoints of epochs 3 and 4."""
    with monkeypatch.context() as patch:
        patch.setattr("aevb.runs.CHECKPOINT_SECONDS", 0.0)
        interrupt_after(4, patch)
        assert train("broken") == 130
    assert (folder / "broken" / "before.pt").exists()
    return folder / "broken"


def test_a_checkpoint_that_is_cut_short_is_named_and_the_one_before_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("whole") == 0
    run = broken_run(folder, monkeypatch)
    whole = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert main(["train", "--out", "broken", "--resume"]) == 0
    assert "broken/checkpoint.pt is not a checkpoint, or it is cut short" in capsys.readouterr().err
    assert same(weights(folder / "whole"), weights(folder / "broken"))


def test_a_checkpoint_of_another_model_is_named_and_the_one_before_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("whole") == 0
    assert main(["train", "--hidden", "9", "--epochs", "1", "--evidence-samples", "10", "--out", "other"]) == 0
    run = broken_run(folder, monkeypatch)
    (run / "checkpoint.pt").write_bytes((folder / "other" / "checkpoint.pt").read_bytes())
    capsys.readouterr()
    assert main(["train", "--out", "broken", "--resume"]) == 0
    error = capsys.readouterr().err
    assert "broken/checkpoint.pt is of another model: there, decoder.0.weight is (9, 10); here, (8, 2)." in error
    assert same(weights(folder / "whole"), weights(folder / "broken"))


def test_without_a_usable_checkpoint_nothing_is_begun_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = broken_run(folder, monkeypatch)
    for name in ("checkpoint.pt", "before.pt"):
        (run / name).write_bytes(b"")
    capsys.readouterr()
    assert main(["train", "--out", "broken", "--resume"]) == 2
    assert "before.pt is not a checkpoint" in capsys.readouterr().err


def test_a_finished_run_is_not_trained_again_and_another_setting_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("done") == 0
    stamp = (folder / "done" / "checkpoint.pt").stat().st_mtime_ns
    assert main(["train", "--out", "done", "--resume"]) == 0
    assert (folder / "done" / "checkpoint.pt").stat().st_mtime_ns == stamp
    assert main(["train", "--out", "done", "--resume", "--epochs", "9"]) == 2
    error = capsys.readouterr().err
    assert "done was started with --epochs 6, not 9. The learning rate's schedule is over all of them" in error
    assert "Leave out --epochs to go on with what it was started with, or name a new folder." in error


def test_checkpoints_of_chosen_epochs_and_the_best_are_kept(folder: Path) -> None:
    assert train("run", "--keep-epochs", "1", "3", "--patience", "5") == 0
    assert {p.stem for p in (folder / "run").glob("*.pt")} == {"checkpoint", "best", "epoch-1", "epoch-3"}
    assert not same(weights(folder / "run", "epoch-1"), weights(folder / "run", "epoch-3"))
    with pytest.raises(InputError, match=r"There is no checkpoint of the run 'epoch-2'\. Did you mean epoch-3"):
        aevb.load_run(folder / "run", "epoch-2")


def test_load_run_gives_model_guide_and_configuration(folder: Path) -> None:
    assert train("run", "--likelihood", "Gaussian:variance=shared") == 0
    model, guide, config = aevb.load_run("run")
    assert (config.latents, config.hidden, config.likelihood) == (2, (8,), "Gaussian:variance=shared")
    x = model.sample(3)
    assert guide.encode(x).batch_shape == (3,)
    result = json.loads(Path("run/result.json").read_text())
    from aevb.build import load_data
    from aevb.inference import evaluate

    elbo = evaluate(model, guide, load_data(config).test, samples=result["test_elbo_samples"], seed=config.seed).elbo
    assert elbo.mean().item() == result["test_elbo"]


def test_a_run_with_a_variance_for_each_pixel_is_read_back_and_goes_on(folder: Path) -> None:
    arguments = ["--likelihood", "Gaussian:variance=per_pixel", "--keep-epochs", "3"]
    assert train("run", *arguments) == 0
    model, _, _ = aevb.load_run("run")
    (s,) = model.likelihood.parameters()
    assert s.shape == (64,)
    assert len(s.unique()) > 1
    assert not torch.equal(s, next(aevb.load_run("run", "epoch-3").model.likelihood.parameters()))


def test_a_convolutional_run_is_read_back_and_a_resumed_one_equals_an_unbroken_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["--network", "Conv:channels=3,layers=3", "--epochs", "2", "--keep-epochs", "1"]
    assert train("whole", *settings) == 0
    model, guide, config = aevb.load_run("whole")
    assert config.network == "Conv:channels=3,layers=3"
    assert (type(model.decoder), type(guide.encoder)) == (ConvTransposed, Conv)
    assert guide.encoder.shapes == [(1, 8, 8), (3, 4, 4), (6, 2, 2), (12, 1, 1)]
    x = load_data(config).test.batch(torch.arange(5), torch.Generator())
    assert model.reconstruct(x, guide).shape == (5, 64)
    assert len(Path("whole/evidence.csv").read_text().splitlines()) == 3
    with monkeypatch.context() as patch:
        interrupt_after(1, patch)
        assert train("broken", *settings) == 130
    assert main(["train", "--out", "broken", "--resume"]) == 0
    assert same(weights(folder / "whole"), weights(folder / "broken"))
    assert main(["gradients", "whole", "--estimators", "L_A", "--draws", "20"]) == 0


def test_a_run_from_before_networks_had_names_is_read_and_taken_up(folder: Path) -> None:
    assert train("run") == 0
    before = weights(folder / "run")
    settings = yaml.safe_load(Path("run/config.yaml").read_text())
    assert settings.pop("network") == "MLP"
    Path("run/config.yaml").write_text(yaml.safe_dump(settings))
    saved = torch.load("run/checkpoint.pt", weights_only=True)
    assert saved.pop("shape") == (8, 8)
    torch.save(saved, "run/checkpoint.pt")
    assert same(weights(folder / "run"), before)
    assert aevb.load_run("run").config.network == "MLP"
    assert main(["train", "--out", "run", "--resume"]) == 0
    Path("run/result.json").unlink()
    assert main(["train", "--out", "run", "--resume"]) == 0
    assert same(weights(folder / "run"), before)


def test_a_comparison_with_convolutions(folder: Path) -> None:
    arguments = ["--network", "Conv:channels=2", "--epochs", "2", "--seeds", "1", "--workers", "1", "--out", "here"]
    assert main(["compare", "--hidden", "8", "--evidence-samples", "10", "--latents", "2", *arguments]) == 0
    assert "Conv:channels=2" in Path("here/report.html").read_text()


def test_evaluate_measures_a_run_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("run", "--keep-epochs", "1") == 0
    result = json.loads((folder / "run" / "result.json").read_text())
    assert main(["evaluate", "run", "--evidence-samples", "10"]) == 0
    again = json.loads((folder / "run" / "evaluation-last.json").read_text())
    assert again.pop("checkpoint") == "last"
    assert again == {key: result[key] for key in again}
    assert main(["evaluate", "run", "--evidence-samples", "100", "--checkpoint", "epoch-1"]) == 0
    first = json.loads((folder / "run" / "evaluation-epoch-1.json").read_text())
    assert first["test_elbo"] < again["test_elbo"]
    assert first["test_log_evidence_samples"] == 100
    printed = capsys.readouterr().out
    assert "KL per latent" in printed
    assert "active units" in printed
    assert main(["evaluate", "run", "--checkpoint", "epoch-7"]) == 2


def test_evaluate_reads_the_gaps_of_a_bound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an encoder trained for two epochs, most is lost to it; what log p(x) is above the bound is the sum of both."""
    assert train("run") == 0
    capsys.readouterr()
    assert main(["evaluate", "run", "--evidence-samples", "200", "--refine"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "100 steps on q(z|x) of each of 360 test data, for the bound",
        "the same for log p(x), 200 samples of each datum",
        "bounds, and log p(x) by 200 samples of each datum",
    ]
    found = json.loads((folder / "run" / "evaluation-last.json").read_text())
    assert found["refined_steps"] == 100
    assert found["amortisation_gap"] > 10 * found["amortisation_gap_se"] > 0
    whole = found["test_log_evidence"] - found["test_elbo"]
    assert found["amortisation_gap"] + found["approximation_gap"] == pytest.approx(whole, abs=0.2)  # of other draws
    printed = " ".join(captured.out.split())
    assert "what 100 steps on each test datum's q(z|x) add to its ELBO" in printed
    assert (
        train("binary", "--prior", "FactorialBernoulli", "--guide", "AmortizedBernoulli", "--estimator", "VIMCO") == 0
    )
    assert main(["evaluate", "binary", "--refine", "2"]) == 2
    assert "draws without one" in capsys.readouterr().err


def test_every_run_leaves_its_pictures(folder: Path) -> None:
    assert train("run") == 0
    expected = {
        *("learning_curves_images", "learning_curves_seconds", "reconstructions", "samples", "interpolations"),
        *("latent_space", "kl_per_latent", "bubbles", "manifold", "prior_density"),
    }
    files = list((folder / "run" / "figures").iterdir())
    assert {f.name for f in files} == {f"{name}.{suffix}" for name in expected for suffix in ("png", "svg")}
    assert all(f.stat().st_size > 1000 for f in files)


def test_tensorboard_is_written_where_it_is_asked_for(folder: Path) -> None:
    pytest.importorskip("tensorboard")
    assert train("run", "--tensorboard") == 0
    assert list((folder / "run" / "tensorboard").glob("events.*"))


# --- many runs -------------------------------------------------------------------------------------------------------


def compare(out: str, *more: str) -> int:
    return main(["compare", *SMALL, "--epochs", "4", "--seeds", "2", "--out", out, *more])


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        clock = ("seconds", "images_per_second")
        return [{k: v for k, v in row.items() if k not in clock} for row in csv.DictReader(file)]


def test_workers_give_the_same_results_as_a_series(folder: Path) -> None:
    assert compare("series", "--workers", "1") == 0
    assert compare("parallel", "--workers", "2") == 0
    for name in ("results.csv", "curves.csv"):
        assert table(folder / "series" / name) == table(folder / "parallel" / name)
    for run in (folder / "series" / "runs").iterdir():
        assert same(weights(run), weights(folder / "parallel" / "runs" / run.name))


def test_a_comparison_goes_on_without_repeating_what_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare("all", "--workers", "1") == 0
    assert main(["compare", *SMALL, "--epochs", "4", "--seeds", "1", "--out", "half", "--workers", "1"]) == 0
    done = {p: p.stat().st_mtime_ns for p in (folder / "half" / "runs").rglob("checkpoint.pt")}
    assert len(done) == 2
    assert compare("half", "--workers", "1") == 2
    assert "Go on with it by --resume" in capsys.readouterr().err
    assert compare("half", "--workers", "1", "--resume") == 0
    assert {p: p.stat().st_mtime_ns for p in done} == done
    assert table(folder / "half" / "results.csv") == table(folder / "all" / "results.csv")
    assert compare("half", "--resume", "--epochs", "5", "--hidden", "8", "9") == 2
    assert "was started with --hidden 8, not 8 9. Leave out --hidden to go on" in capsys.readouterr().err


def test_fewer_parts_keep_the_runs_that_are_finished_and_none_named_goes_on_with_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = ["compare", "--workers", "1", "--out", "here"]
    assert main([*compare, *SMALL, "--epochs", "2", "--seeds", "2"]) == 0
    results = table(folder / "here" / "results.csv")
    resume = [*compare, "--resume"]
    assert main([*resume, "--estimators", "L_B", "--seeds", "1"]) == 0
    assert table(folder / "here" / "results.csv") == results
    assert "L_B - L_A, " in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr("aevb.progress.Reporter.epoch", lambda *_: signal.raise_signal(signal.SIGINT))
        assert main([*resume, "--estimators", "STL", "DReG"]) == 130
    assert table(folder / "here" / "results.csv") == results
    capsys.readouterr()
    assert main([*resume, "--estimators", "STL", "--latents", "2"]) == 0
    assert (
        "not gone on with here: DReG-StandardNormal-AmortizedNormal-Bernoulli-2-seed0, DReG" in capsys.readouterr().err
    )
    found = table(folder / "here" / "results.csv")
    assert [(row["estimator"], row["seed"]) for row in found] == [(e, s) for s in "01" for e in ("L_A", "L_B", "STL")]
    assert [row for row in found if row["estimator"] != "STL"] == results
    assert main(resume) == 0
    found = table(folder / "here" / "results.csv")
    assert [row["estimator"] for row in found] == ["L_A", "L_B", "STL", "DReG"] * 2
    assert {row["epochs"] for row in found} == {"2"}
    assert len(table(folder / "here" / "curves.csv")) == 8 * 2
    assert main([*resume, "--seed", "1"]) == 2
    assert "was started with --seed 0, not 1. Leave out --seed" in capsys.readouterr().err
    Path("here/plan.json").write_text("{")
    assert main(resume) == 2
    assert "plan.json is damaged. Remove it to go on" in capsys.readouterr().err
    Path("here/plan.json").unlink()
    assert main(resume) == 0
    assert [row["estimator"] for row in table(folder / "here" / "results.csv")] == ["DReG", "L_A", "L_B", "STL"] * 2


def test_what_has_no_seed_in_common_is_not_paired() -> None:
    point = {"prior": "P", "guide": "G", "likelihood": "B", "latents": 2, "samples": 1}
    rows = [point | {"estimator": e, "seed": s} | dict.fromkeys(RANKED, 0.0) for e, s in (("L_A", 0), ("L_B", 1))]
    assert differences(summaries(rows)) == []


def test_of_a_comparison_whose_runs_have_not_begun_nothing_is_known(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_plan([Config()], folder / "here")
    assert main(["compare", "--out", "here", "--resume"]) == 2
    assert "No run of here has begun" in capsys.readouterr().err


def test_a_run_that_fails_is_reported_and_the_others_go_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from aevb.runs import Run

    original = Run.measure

    def measure(self: Run) -> dict[str, Any]:
        if self.config.estimator == "L_A" and self.config.seed == 1:
            raise ArithmeticError("out of luck")
        return original(self)

    monkeypatch.setattr(Run, "measure", measure)
    assert compare("here", "--workers", "1") == 1
    captured = capsys.readouterr()
    assert "L_A-StandardNormal-AmortizedNormal-Bernoulli-2-seed1 failed" in captured.err
    assert "out of luck" in captured.err
    assert len(table(folder / "here" / "results.csv")) == 3
    assert "Open here/report.html" in captured.out
    monkeypatch.undo()
    os.chdir(folder)
    assert compare("here", "--workers", "1", "--resume") == 0
    assert len(table(folder / "here" / "results.csv")) == 4


def test_the_readmes_comparison_of_other_likelihoods(folder: Path) -> None:
    arguments = ["--latents", "2", "5", "--likelihoods", "Gaussian:variance=shared", "--epochs", "2", "--seeds", "1"]
    assert main(["compare", *arguments, "--hidden", "8", "--evidence-samples", "10"]) == 0
    assert (folder / "runs" / "compare-digits-1" / "report.html").exists()
