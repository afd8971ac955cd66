"""SGD, Adagrad, RMSprop and Adam on the first 20 epochs of MNIST, side by side: the table and picture of optimizers.md.

``python results/optimizers.py [RUNS]`` trains into a folder (``runs/optimizers``) and goes on where it was stopped.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
from joblib import Parallel, delayed
from matplotlib.figure import Figure

from aevb.files import read_metrics
from aevb.inference.history import Row
from aevb.plots.style import STYLE, line

EPOCHS = 20
GRID = {
    "SGD": (0.001, 0.01, 0.1),
    "Adagrad": (0.01, 0.02, 0.1),
    "RMSprop": (0.0001, 0.001, 0.01),
    "Adam": (0.0001, 0.001, 0.01),
}
SETTING = [
    "--data",
    "mnist",
    "--latents",
    "20",
    "--schedule",
    "constant",
    "--evidence-samples",
    "100",
    "--threads",
    "1",
]


def train(out: Path, optimizer: str, rate: float) -> tuple[list[Row], str]:
    """One run: its metrics, and what the command said if it failed."""
    folder = out / f"{optimizer}-{rate:g}"
    if not (folder / "result.json").exists():
        command = [sys.executable, "-m", "aevb", "train", *SETTING, "--epochs", str(EPOCHS), "--out", str(folder)]
        command += ["--optimizer", optimizer, "--learning-rate", str(rate)]
        command += ["--resume"] if (folder / "config.yaml").exists() else []
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return read_metrics(folder), done.stderr.strip().splitlines()[-1]
    return read_metrics(folder), ""


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/optimizers")
    jobs = [(optimizer, rate) for optimizer, rates in GRID.items() for rate in rates]
    found = dict(zip(jobs, Parallel(n_jobs=2)(delayed(train)(out, *job) for job in jobs), strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.4))
        for axis, (optimizer, rates) in zip(figure.subplots(1, 4, sharey=True), GRID.items(), strict=True):
            for number, rate in enumerate(rates):
                rows, _ = found[optimizer, rate]
                epochs, bounds = [row["epoch"] for row in rows], [row["test_elbo"] for row in rows]
                axis.plot(epochs, bounds, label=f"{rate:g}", **line(number))
            axis.set_title(optimizer, loc="left")
            axis.set_xlabel("epoch")
            axis.set_ylim(-210, -95)
            axis.legend(title="learning rate", fontsize=8)
        figure.axes[0].set_ylabel("test ELBO, nats per datum")
        (Path(__file__).parent / "mnist").mkdir(exist_ok=True)
        figure.savefig(Path(__file__).parent / "mnist" / "optimizers.png", dpi=150)
    for (optimizer, rate), (rows, failure) in found.items():
        bounds = [row["test_elbo"] for row in rows]
        drop = max((max(bounds[:i]) - bounds[i] for i in range(1, len(bounds))), default=0.0)
        at = [f"{bounds[epoch - 1]:.1f}" if epoch <= len(bounds) else "-" for epoch in (1, 5, 20)]
        sys.stdout.write(f"| {optimizer} | {rate:g} | {' | '.join(at)} | {max(drop, 0.0):.1f} | {failure or 'no'} |\n")


if __name__ == "__main__":
    main()
