"""Classification error on MNIST with 100 labels: the runs of semi_supervised.md.

    python results/semi_supervised.py M2 0         # the model of pixels, seed 0
    python results/semi_supervised.py M1+M2 0      # of the codes of runs/mnist (see mnist.md), seed 0
    python results/semi_supervised.py              # the table

A run adds a row for every tenth of its epochs to results/semi_supervised/errors.csv; one that is there is not repeated.
"""

import csv
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aevb import load_run
from aevb.data import load
from aevb.data.split import Labelled
from aevb.files import write_table
from aevb.guides import AmortizedNormal, SemiSupervised
from aevb.inference import fit
from aevb.models import MLP, Bernoulli, Gaussian, Likelihood, SemiSupervisedVAE, StandardNormal

OUT = Path(__file__).parent / "semi_supervised" / "errors.csv"
M1 = "runs/mnist/runs/L_B-StandardNormal-AmortizedNormal-Bernoulli-20-seed{}"
PER_CLASS, REPEATED = 10, 20


@dataclass(frozen=True)
class Setting:
    """What is trained, and for how long."""

    latents: int
    hidden: int
    activation: str
    batch_size: int
    epochs: int
    alpha: float
    """Of equation 9: label_weight is alpha N / n for each of n known labels."""


SETTINGS = {
    "M2": Setting(latents=50, hidden=500, activation="relu", batch_size=200, epochs=30, alpha=1.0),
    "M1+M2": Setting(latents=10, hidden=300, activation="softplus", batch_size=500, epochs=100, alpha=1.0),
}


@dataclass(frozen=True)
class Repeated:
    """Labelled and unlabelled data, the labelled ones twenty times, so that most batches hold some."""

    batches: Callable[[Tensor, torch.Generator | None], tuple[Tensor, Tensor]]
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        return self.batches(self.rows[indices.cpu()], generator)


def repeated(labelled: Labelled, batches: Callable[..., tuple[Tensor, Tensor]]) -> Repeated:
    known = (labelled.labels >= 0).nonzero()[:, 0]
    return Repeated(batches, torch.cat([torch.arange(len(labelled)), known.repeat(REPEATED - 1)]))


def pixels(labelled: Labelled, test: Any) -> tuple[Repeated, Tensor, int, Likelihood]:
    """M2: images, binarised anew each time, and those of the test set."""
    x = test.batch(torch.arange(len(test)))
    return repeated(labelled, labelled.batch), x, x.shape[1], Bernoulli()


@torch.no_grad()
def codes(labelled: Labelled, test: Any, seed: int) -> tuple[Repeated, Tensor, int, Likelihood]:
    """M1+M2: draws of a trained q(z|x) in the place of x, and the means of the test set."""
    _, guide, _ = load_run(M1.format(seed))
    once = torch.Generator().manual_seed(seed)
    q = [guide.encode(labelled.split.batch(rows, once)) for rows in torch.arange(len(labelled)).split(5000)]
    loc, scale = torch.cat([part.mean for part in q]), torch.cat([part.stddev for part in q])

    def batches(rows: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        noise = torch.randn(len(rows), loc.shape[1], generator=generator)
        return loc[rows] + scale[rows] * noise, labelled.labels[rows]

    means = guide.encode(test.batch(torch.arange(len(test)))).mean
    return repeated(labelled, batches), means, loc.shape[1], Gaussian(floor=1e-2)


def run(name: str, seed: int) -> list[dict[str, Any]]:
    """Train, and measure the error of q(y|x) on the 10,000 test images at every tenth of the epochs."""
    setting, mnist = SETTINGS[name], load("mnist")
    labelled = mnist.train.labelled(per_class=PER_CLASS, seed=seed)
    data, x, size, likelihood = pixels(labelled, mnist.test) if name == "M2" else codes(labelled, mnist.test, seed)
    model, guide = pair(setting, size, likelihood, seed)
    model.attach(guide, setting.alpha * len(labelled) / (10 * PER_CLASS * REPEATED))
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()

    @torch.no_grad()
    def measure(row: dict[str, float]) -> None:
        if row["epoch"] % (setting.epochs // 10) == 0 or row["epoch"] == 1:
            wrong = guide.classify(x).logits.argmax(-1) != mnist.test.labels
            rows.append(
                {"model": name, "seed": seed, "epoch": int(row["epoch"]), "error": 100 * wrong.float().mean().item()}
            )
            sys.stdout.write(f"{rows[-1]} {time.perf_counter() - started:.0f} s\n")
            sys.stdout.flush()

    settings: dict[str, Any] = {"epochs": setting.epochs, "batch_size": setting.batch_size, "schedule": "cosine"}
    fit(model, guide, data, estimator="L_B", seed=seed, on_epoch=measure, **settings)
    return rows


def pair(setting: Setting, size: int, likelihood: Likelihood, seed: int) -> tuple[SemiSupervisedVAE, SemiSupervised]:
    """A pair that starts without a view on y: at first weights that see it are 0, so that known labels speak first."""
    torch.manual_seed(seed)
    latents, hidden, how = setting.latents, setting.hidden, setting.activation
    decoder = MLP(latents + 10, hidden, likelihood.outputs(size), activation=how)  # type: ignore[arg-type]
    encoder = MLP(size + 10, hidden, 2 * latents, activation=how)  # type: ignore[arg-type]
    classifier = MLP(size, hidden, 10, activation=how)  # type: ignore[arg-type]
    with torch.no_grad():
        for network in (decoder, encoder):
            network[0].weight[:, -10:] = 0  # type: ignore[index]
    model = SemiSupervisedVAE(StandardNormal(latents), decoder, likelihood, classes=10)
    return model, SemiSupervised(classifier, AmortizedNormal(encoder), classes=10)


def read() -> list[dict[str, Any]]:
    if not OUT.exists():
        return []
    with OUT.open(newline="") as file:
        return [
            r | {"seed": int(r["seed"]), "epoch": int(r["epoch"]), "error": float(r["error"])}
            for r in csv.DictReader(file)
        ]


def table(rows: list[dict[str, Any]]) -> str:
    """Error at the first epoch and at the end, mean and standard error over the seeds."""
    lines = ["| | seeds | after 1 epoch | at the end | epochs |", "|---|---|---|---|---|"]
    for name, setting in SETTINGS.items():
        own = [row for row in rows if row["model"] == name]
        ends = [[r["error"] for r in own if r["epoch"] == epoch] for epoch in (1, setting.epochs)]
        if ends[1]:
            cells = [
                f"{np.mean(e):.1f}" + (f" ± {np.std(e, ddof=1) / len(e) ** 0.5:.1f}" if len(e) > 1 else "")
                for e in ends
            ]
            lines.append(f"| {name} | {len(ends[1])} | {' | '.join(cells)} | {setting.epochs} |")
    return "\n".join(lines) + "\n"


def main(name: str, seed: int) -> None:
    if not any(row["model"] == name and row["seed"] == seed for row in read()):
        made = run(name, seed)
        OUT.parent.mkdir(exist_ok=True)
        write_table(OUT, sorted([*read(), *made], key=lambda row: (row["model"], row["seed"], row["epoch"])))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        main(sys.argv[1], int(sys.argv[2]))
    sys.stdout.write(table(read()))
