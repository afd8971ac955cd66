"""The command line, as a person meets it: in processes of its own where that matters."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy.io import savemat

import aevb
from aevb import cli
from aevb.__main__ import main
from aevb.compare import AXES

RESULTS = [
    *("data", "binarisation", "estimator", "samples", "beta", "prior", "guide", "likelihood", "latents", "seed"),
    *("engine", "device", "epochs", "steps", "seconds", "images_per_second", "train_elbo", "test_elbo"),
    *("test_log_evidence", "test_log_evidence_se", "kl", "reconstruction", "active_units", "kl_path"),
]
SMALL = ["--epochs", "3", "--hidden", "8", "--evidence-samples", "10"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def aevb_process(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "aevb", *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["compare", "--help"], ["train", "--help"]])
def test_help_does_not_import_torch(arguments: list[str]) -> None:
    code = (
        "import sys; from aevb.__main__ import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as stop: assert not stop.code\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "aevb" in done.stdout


def test_version() -> None:
    assert aevb_process("--version").stdout == f"aevb {aevb.__version__}\n"


def test_list_names_every_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    for name in ("VAE", "StandardNormal", "AmortizedNormal", "Bernoulli", "MLP", "L_A", "L_B", "digits"):
        assert re.search(rf"^ +{name} ", printed, re.MULTILINE), name
    assert "\x1b" not in printed


def test_train_leaves_a_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--estimator", "L_A", "--latents", "2"]) == 0
    out = folder / "runs" / "train-digits-1"
    assert {p.name for p in out.iterdir()} == {"config.yaml", "metrics.csv", "result.json", "checkpoint.pt", "figures"}
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert (config["estimator"], config["latents"], config["hidden"]) == ("L_A", 2, [8])
    assert len(table(out / "metrics.csv")) == 3
    result = json.loads((out / "result.json").read_text())
    assert result["test_elbo"] < result["test_log_evidence"] < 0
    assert result["kl_path"] == "z:monte-carlo"
    checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
    assert set(checkpoint) == {"pixels", "shape", "model", "guide", "training"}
    captured = capsys.readouterr()
    assert "epoch 3/3" in captured.err
    assert "images/s" in captured.err
    assert "\x1b" not in captured.err + captured.out
    assert main(["train", *SMALL]) == 0
    assert (folder / "runs" / "train-digits-2" / "result.json").exists()


def test_compare_lays_runs_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *SMALL, "--seeds", "2", "--latents", "2", "3", "--out", "here"]) == 0
    rows = table(folder / "here" / "results.csv")
    assert list(rows[0])[: len(RESULTS)] == RESULTS
    assert all(rows[0].values())
    assert [(r["estimator"], r["latents"], r["seed"]) for r in rows] == [
        (e, d, s) for s in "01" for e in ("L_A", "L_B") for d in "23"
    ]
    curves = table(folder / "here" / "curves.csv")
    assert len(curves) == 8 * 3
    assert set(AXES) < set(curves[0])
    printed = capsys.readouterr().out
    assert re.search(r"L_B - L_A \(N_z=2\), ELBO, test: [+-]\d\.\d{3} ± \d\.\d{3} +\(", printed)
    assert re.search(r"N_z=3 - N_z=2 \(L_A\), log p\(x\), test: ", printed)
    assert printed.endswith("Open here/report.html\n")
    assert len(list((folder / "here" / "runs").iterdir())) == 8
    by_hand = [float(rows[i + 2]["test_elbo"]) - float(rows[i]["test_elbo"]) for i in (0, 4)]
    shown = re.search(r"L_B - L_A \(N_z=2\), ELBO, test: ([+-]\d\.\d{3}) ± (\d\.\d{3})", printed)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(np.mean(by_hand), abs=6e-4)
    assert float(shown[2]) == pytest.approx(np.std(by_hand, ddof=1) / np.sqrt(2), abs=6e-4)


def test_estimators_start_from_the_same_weights_and_see_the_same_pixels(folder: Path) -> None:
    """At a learning rate of 0 all that is left is the estimators' own noise: reconstructions agree to the last bit."""
    assert main(["compare", *SMALL, "--seeds", "1", "--learning-rate", "0", "--out", "here"]) == 0
    rows = table(folder / "here" / "curves.csv")
    a, b = ([row for row in rows if row["estimator"] == e] for e in ("L_A", "L_B"))
    assert [row["reconstruction"] for row in a] == [row["reconstruction"] for row in b]
    assert [row["test_elbo"] for row in a] == [row["test_elbo"] for row in b]
    assert [row["kl"] for row in a] != [row["kl"] for row in b]


def test_likelihoods_are_not_ranked_against_each_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *SMALL, "--seeds", "1", "--estimators", "L_B", "--likelihoods", "Bernoulli", "Gaussian"]
    assert main([*command, "--out", "here"]) == 0
    printed = capsys.readouterr().out
    assert "Gaussian - Bernoulli" not in printed
    assert "do not rank them" in printed
    page = (folder / "here" / "report.html").read_text()
    assert "not to be ranked" in page


def no_network(*_: Any, **__: Any) -> None:
    raise OSError("Name or service not known")


OF_ROWS = ["--data", "ROWS", "--batch-size", "8"]


def bad_npy(path: Path, value: float) -> str:
    array = np.full((20, 6), 0.5)
    array[7, 3] = value
    np.save(path, array)
    return str(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], None),
        (["trian"], "invalid choice: 'trian'"),
        (["train", "--epoch", "x"], "invalid int value: 'x'"),
        (["train", "--estimator", "LA"], "There is no estimator 'LA'. Did you mean L_A? Known: DReG,"),
        (["train", "--prior", "GreatPrior"], "There is no prior 'GreatPrior'. "),
        (["train", "--likelihood", "Bernouli"], "There is no likelihood 'Bernouli'. Did you mean Bernoulli?"),
        (["compare", "--priors", "StandardNormal:latents=3"], "StandardNormal has no options; here 'latents'"),
        (["train", "--data", "minst"], "There is no data set (or file) 'minst'. Did you mean mnist?"),
        (["train", "--data", "gone.npy"], "There is no file gone.npy."),
        (
            ["train", "--binarisation", "none"],
            "Choose one of these, or --likelihood Categorical or ContinuousBernoulli or",
        ),
        (["train", "--data", "NAN"], "pixels are finite, but row 7, pixel 3 is nan. Remove or repair that row."),
        (
            ["compare", "--likelihoods", "Categorical"],
            "row 0, pixel 2: 0.0625. The likelihood has 256 levels: give it as many as the pixels have by levels=V, "
            "as in Categorical:levels=17 for the digits",
        ),
        (["train", "--data", "INF"], "pixels are finite, but row 7, pixel 3 is inf."),
        (
            ["train", "--data", "WIDE", "--binarisation", "dynamic"],
            "but row 7, pixel 3 is 1.5. Scale them, or take them as they are: --binarisation none",
        ),
        (["train", "--data", "TEXT"], "holds <U5, not numbers."),
        (["train", "--data", "FLAT"], "has shape (20,); data are rows of pixels"),
        (["train", "--data", "EMPTY"], "has shape (0, 6): too few to split into train and test, at least 10 rows."),
        (["train", "--device", "cuda"], "There is no CUDA device here. Use --device cpu, or auto."),
        (["train", "--out", "OTHER"], "holds another run. Go on with it by --resume, or name a new folder."),
        (["compare", "--out", "OTHER"], "holds another run. Go on with it by --resume, or name a new folder."),
        (["train", "--out", "FULL"], "is not an empty folder. Name a new one."),
        (["train", "--latents", "0"], "--latents is at least 1; it is 0."),
        (["train", "--epochs", "0"], "--epochs is at least 1; it is 0."),
        (["train", "--batch-size", "0"], "--batch-size is at least 1; it is 0."),
        (["train", "--learning-rate", "-1"], "--learning-rate is at least 0.0; it is -1.0."),
        (["train", "--optimizer", "adam"], "There is no optimizer 'adam'. Did you mean Adam?"),
        (["train", "--schedule", "cosinus"], "There is no schedule 'cosinus'. Did you mean cosine?"),
        (["train", "--evidence-samples", "0"], "--evidence-samples is at least 1; it is 0."),
        (["train", "--beta", "-1"], "--beta is at least 0.0; it is -1.0."),
        (["compare", "--seeds", "0"], "at least 1, is needed, not 0: --seeds is how many, --seed the first"),
        (["compare", "--seeds", "0", "1"], "at least 1, is needed, not 0: --seeds is how many, --seed the first"),
        (["compare", "--seeds", "1", "2"], "aevb compare: 2 is one argument too many: --seeds is how many, --seed the"),
        (["compare", "--seeds", "few"], "at least 1, is needed, not few: --seeds is how many, --seed the first"),
        (["train", "here"], "aevb train: here is one argument too many (see aevb train --help)"),
        (
            ["train", "--priors", "Laplace"],
            "aevb train: there is no option --priors here; aevb compare has it. Did you mean --prior?",
        ),
        (
            ["train", "--seeds=3"],
            "aevb train: there is no option --seeds here; aevb compare has it. Did you mean --seed?",
        ),
        (["evaluate", "a", "--epochs", "3"], "there is no option --epochs here; aevb compare and aevb train have it"),
        (["compare", "--learning-rates", "1"], "no option --learning-rates here. Did you mean --learning-rate?"),
        (["--prior=Laplace"], "aevb: there is no option --prior here; aevb train has it"),
        (["compare", "--estimators", "L_A", "L_A"], "--estimators L_A is named twice"),
        (["compare", "--latents", "2", "3", "2"], "--latents 2 is named twice"),
        (["compare", "--workers", "0"], "a whole number, at least 1, is needed, not 0"),
        (
            ["train", "--batch-size", "10000"],
            "--batch-size is at most the number of training data, 1437; it is 10000. Use --batch-size 1437",
        ),
        (
            ["train", "--data", "ROWS"],
            "--batch-size is at most the number of training data, 16; it is 100. Use --batch",
        ),
        (["train", "--estimator", "IWAE:samples=0"], "aevb train: samples is at least 1; it is 0."),
        (["train", "--hidden", "8", "0"], "aevb train: --hidden is at least 1; it is 0."),
        (["train", "--patience", "0"], "--patience is at least 1; it is 0."),
        (["train", "--weight-decay", "-1"], "--weight-decay is at least 0.0; it is -1.0."),
        (["train", "--seed", "99999999999999"], "--seed is a whole number from 0 to 2^31 - 1; it is 99999999999999."),
        (["train", "--threads", "0"], "--threads is at least 1; it is 0."),
        (["train", "--out", "full/thesis.tex/sub"], "--out full/thesis.tex/sub cannot be made: Not a directory."),
        (["train", "--network", "Con"], "There is no network 'Con'. Did you mean Conv? Known: Conv, MLP."),
        (["train", "--network", "ConvTransposed"], "There is no network 'ConvTransposed'. Known: Conv, MLP."),
        (["train", "--network", "Conv:layer=2"], "There is no option of Conv 'layer'. Did you mean layers?"),
        (["train", "--network", "Conv:layers=4"], "channels first, allow 3 times; layers is 4. Use layers=3 or fewer."),
        (["train", *OF_ROWS, "--network", "Conv"], "these are (6,). Use --network MLP for what is no image."),
        (["compare", *OF_ROWS, "--network", "Conv"], "these are (6,). Use --network MLP for what is no image."),
        (["train", "--likelihood", "Gaussian:variance=fixed,scale=-1"], "The scale of Gaussian is a positive standard"),
        (["train", "--likelihood", "Gaussian:floor=-1"], "The floor of Gaussian is a positive variance; it is -1.0."),
        (["train", "--data", "CUT"], "cannot be read as an array, it may be cut short or damaged"),
        (["train", "--data", "OBJECTS"], "cannot be read as an array, it may be cut short or damaged"),
        (["train", "--data", "TWO"], "holds several arrays: a (20, 6) float64, b (20, 3) float64. Choose one:"),
        (["train", "--data", "NOIMAGES"], "has no array of images (rows of numbers); it holds"),
        (["train", "--data", "SIZES"], "Pictures have one size, but"),
        (["train", "--data", "mnist"], "They come from http"),
        (["train", "--resume"], "--resume needs the folder to go on with: --out DIR --resume."),
        (["train", "--out", "gone", "--resume"], "There is no folder gone to go on with."),
        (["compare", "--out", "FULL", "--resume"], "full is not the folder of a comparison: it has no runs. Leave out"),
        (["compare", "--out", "OTHER", "--resume"], "other is not the folder of a comparison: it has no runs. Leave"),
        (["train", "--out", "FULL", "--resume"], "full is not the folder of a run: it has no config.yaml."),
        (
            ["train", "--out", "ODD", "--resume"],
            "There is no setting in odd/config.yaml 'estimtor'. Did you mean estimator?",
        ),
        (["evaluate", "--refine", "gone"], "a number of steps is needed, not gone; a run is named before it"),
        (["evaluate", "gone"], "gone is not the folder of a run: it has no config.yaml."),
        (["evaluate", "ODD"], "There is no setting in odd/config.yaml 'estimtor'. Did you mean estimator?"),
        (["evaluate", "TORN"], "torn/config.yaml is not YAML"),
        (["evaluate", "WRONG"], "wrong/config.yaml: epochs is 'many', which is no int."),
    ],
)
def test_bad_input_is_one_line_with_the_remedy_and_nothing_is_written(
    arguments: list[str],
    message: str | None,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("AEVB_DATA", str(folder / "nothing"))
    (folder / "other").mkdir()
    (folder / "other" / "config.yaml").touch()
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").touch()
    np.save(folder / "text.npy", np.array([["hello"]] * 20))
    np.save(folder / "flat.npy", np.zeros(20))
    np.save(folder / "empty.npy", np.zeros((0, 6)))
    for name, text in {
        "odd": "estimtor: L_A\n",
        "torn": "estimator: [L_A\n",
        "wrong": "epochs: many\n",
    }.items():
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text(text)
    np.save(folder / "whole.npy", np.zeros((20, 6)))
    (folder / "cut.npy").write_bytes((folder / "whole.npy").read_bytes()[:-100])
    np.save(folder / "objects.npy", np.array([object()]), allow_pickle=True)
    np.savez(folder / "two.npz", a=np.zeros((20, 6)), b=np.zeros((20, 3)))
    savemat(folder / "none.mat", {"name": "face"})
    (folder / "sizes").mkdir()
    for size in (3, 4):
        Image.new("L", (size, size)).save(folder / "sizes" / f"{size}.png")
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    stands_for = {
        "ODD": "odd",
        "TORN": "torn",
        "WRONG": "wrong",
        "CUT": "cut.npy",
        "OBJECTS": "objects.npy",
        "TWO": "two.npz",
        "NOIMAGES": "none.mat",
        "SIZES": "sizes",
        "NAN": bad_npy(folder / "nan.npy", np.nan),
        "INF": bad_npy(folder / "inf.npy", np.inf),
        "WIDE": bad_npy(folder / "wide.npy", 1.5),
        "TEXT": "text.npy",
        "FLAT": "flat.npy",
        "ROWS": "whole.npy",
        "EMPTY": "empty.npy",
        "OTHER": "other",
        "FULL": "full",
    }
    before = sorted(folder.rglob("*"))
    code: Any
    try:
        code = main([stands_for.get(argument, argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    if message is None:
        assert code == 0
        assert "COMMAND" in captured.out
        return
    assert code == 2
    assert message in captured.err
    assert captured.err.startswith("aevb")
    assert captured.err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_the_remedy_for_other_levels_is_one(folder: Path) -> None:
    assert main(["train", *SMALL, "--likelihood", "Categorical:levels=17", "--out", "here"]) == 0


def test_a_divergence_is_one_line_and_code_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--optimizer", "SGD", "--learning-rate", "1e30", "--out", "here"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"aevb train: Step \d+ met a number that is not finite: .*Try a learning rate below 1e\+30", error)
    state = torch.load(folder / "here" / "checkpoint.pt", weights_only=True)
    assert all(p.isfinite().all() for part in ("model", "guide") for p in state[part].values())


def test_a_failure_of_our_own_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aevb.cli.catalogue", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["list"])


@pytest.mark.parametrize("command", ["train", "compare", "compare --workers 1"])
def test_ctrl_c_ends_with_130_and_keeps_the_last_good_state(command: str, folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "aevb", *command.split(), "--epochs", "100000", "--hidden", "8", "--out", "here"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        start_new_session=True,
    )
    run = folder / "here"
    deadline = time.monotonic() + 60
    while not list(folder.rglob("config.yaml")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2.0)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error.splitlines()[-1].startswith("aevb: interrupted")
    assert "Traceback" not in error
    checkpoints = list(run.rglob("checkpoint.pt"))
    assert checkpoints
    for checkpoint in checkpoints:
        state = torch.load(checkpoint, weights_only=True)
        metrics = table(checkpoint.parent / "metrics.csv")
        assert len(state["training"]["history"]["rows"]) == len(metrics) >= 1
    assert not list(folder.rglob("*.part*"))


def test_into_a_pipe_there_are_no_escape_codes(folder: Path) -> None:
    done = aevb_process("compare", *SMALL, "--seeds", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert done.stdout.endswith(f"Open {os.path.join('runs', 'compare-digits-1', 'report.html')}\n")


def test_a_reader_that_goes_away_is_no_traceback(folder: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m aevb list | head -1", shell=True, capture_output=True, text=True, cwd=folder
    )
    assert "Traceback" not in done.stderr


def test_curves_are_of_the_seeds_that_all_have(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are paired by their place: a run that failed must not shift the others."""
    all_runs, pictures = cli.run_all, cli.pictures
    seen: dict[str, int] = {}

    def first_fails(*args: Any) -> list[Any]:
        outcomes = all_runs(*args)
        return [replace(outcomes[0], result=None, failure="ran out of luck"), *outcomes[1:]]

    def look(shown: Any, curves: Any, pairs: Any) -> Any:
        seen.update({label: len(seeds) for label, seeds in curves.items()})
        return pictures(shown, curves, pairs)

    monkeypatch.setattr(cli, "run_all", first_fails)
    monkeypatch.setattr(cli, "pictures", look)
    assert main(["compare", *SMALL, "--seeds", "2", "--workers", "1", "--out", "c"]) == 1
    assert seen == {"L_A": 1, "L_B": 1}
