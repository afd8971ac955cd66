"""Every combination of parts, trained: fifty steps on twenty data raise the bound.

    python results/grid.py --pairs          # every two parts together at least once, as CI does
    python results/grid.py runs/grid.csv    # all of them, in three hours of a core; goes on where it was stopped

A combination passes where the bound of the data rises by more than three standard errors over them. Those that do not,
or that raise an error, are printed, and the exit code is 1. They are taken in a random order, always the same, so that
what a stopped call has done is a fair sample of all.
"""

import csv
import itertools
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aevb.build import make_estimator, make_pair
from aevb.config import Config
from aevb.files import write_table
from aevb.inference import evaluate, fit
from aevb.models import Program

SIDE, LATENTS, DATA, STEPS = 4, 3, 20, 50
REAL_PRIORS = (
    *("StandardNormal", "LearnedNormal", "LearnedNormal:covariance=full", "NormalMixture:components=3"),
    *("VampPrior:components=4", "FlowPrior", "FlowPrior:transform=autoregressive", "FlowPrior:transform=spline"),
    *("Laplace", "Logistic", "StudentT"),
)
REAL_GUIDES = (
    *("AmortizedNormal", "AmortizedMultivariateNormal", "AmortizedLowRank", "AmortizedLaplace"),
    *("AmortizedStudentT:degrees=20", "AmortizedFlow", "AmortizedFlow:transform=planar"),
    "AmortizedNormal+Refined:steps=2",
)
OTHER_PAIRS = {"FactorialBernoulli": "AmortizedBernoulli", "HypersphericalUniform": "AmortizedPowerSpherical"}
AXES = {
    "prior": (*REAL_PRIORS, *OTHER_PAIRS),
    "guide": (*REAL_GUIDES, *OTHER_PAIRS.values()),
    "likelihood": (
        *("Bernoulli", "ContinuousBernoulli", "Gaussian", "Gaussian:variance=shared", "Gaussian:variance=per_pixel"),
        *("Gaussian:variance=fixed", "Categorical:levels=4", "DiscretizedLogistic:levels=4"),
    ),
    "network": ("MLP", "MLP:activation=gated", "Conv:channels=4,layers=1"),
    "estimator": ("L_A", "L_B_mixed", "IWAE:samples=3"),
    "engine": ("svi", "fast"),
}
READS_VALUES = ("FlowPrior:transform=spline",)
"""What acts on the values of tensors, and is refused by the engine ``fast``."""


@dataclass(frozen=True)
class Outcome:
    """A combination and what fifty steps did to its bound, in nats per datum."""

    prior: str
    guide: str
    likelihood: str
    network: str
    estimator: str
    engine: str
    gain: float
    standard_error: float
    kl_path: str

    @property
    def rises(self) -> bool:
        """By more than three standard errors."""
        return self.gain > 3 * self.standard_error


def fits(values: list[str]) -> bool:
    """Whether the first of the axes' values go together; the tables of combinations.md say why not."""
    row = dict(zip(AXES, values, strict=False))
    prior, guide = row.get("prior", ""), row.get("guide", "")
    if guide and (prior in OTHER_PAIRS or guide in OTHER_PAIRS.values()) and OTHER_PAIRS.get(prior) != guide:
        return False
    if prior.startswith("VampPrior") and guide.endswith("planar"):
        return False
    inverts = prior.startswith("VampPrior") and guide.startswith("AmortizedFlow")  # which reads values too
    return not (row.get("engine") == "fast" and (prior in READS_VALUES or inverts))


def everything() -> Iterator[tuple[str, ...]]:
    """The whole product, of what goes together."""
    return (row for row in itertools.product(*AXES.values()) if fits(list(row)))


def pairs() -> list[tuple[str, ...]]:
    """Few combinations in which any two values that go together do so at least once: each the one that adds most."""
    rows = list(everything())
    twos = [[frozenset(two) for two in itertools.combinations(row, 2)] for row in rows]
    number = {two: place for place, two in enumerate(dict.fromkeys(itertools.chain(*twos)))}
    places = np.array([[number[two] for two in row] for row in twos])
    missing, chosen = np.ones(len(number), dtype=bool), []
    while missing.any():
        best = int(missing[places].sum(1).argmax())
        chosen.append(rows[best])
        missing[places[best]] = False
    return chosen


def data(likelihood: str) -> Tensor:
    """Twenty images of 4x4 pixels of the likelihood's kind, bright at one end."""
    generator = torch.Generator().manual_seed(0)
    bright = torch.linspace(0.05, 0.95, SIDE**2) + 0.2 * torch.randn(DATA, 1, generator=generator)
    grey = (bright + 0.1 * torch.randn(DATA, SIDE**2, generator=generator)).clamp(0.01, 0.99)
    if likelihood == "Bernoulli":
        return (torch.rand(grey.shape, generator=generator) < grey).float()
    return (3 * grey).round() / 3 if "levels=4" in likelihood else grey


def bound(model: Program, guide: Program, x: Tensor, config: Config) -> Tensor:
    """What training is to raise, ``(20,)``, by fifty draws of each: that of k samples for IWAE, else the ELBO."""
    estimator = make_estimator(config)
    if estimator.samples == 1:
        return evaluate(model, guide, x, samples=50).elbo
    times = range(50 // estimator.samples + 1)
    return torch.stack([evaluate(model, guide, x, estimator=estimator, seed=n).bound for n in times]).mean(0)


def trained(row: tuple[str, ...]) -> Outcome:
    """Train a combination for fifty steps."""
    named = dict(zip(AXES, row, strict=True))
    config = replace(Config(latents=LATENTS, hidden=(8,)), **named)
    x = data(config.likelihood)
    torch.manual_seed(0)
    model, guide = make_pair(config, (SIDE, SIDE))
    before = bound(model, guide, x, config)
    history = fit(
        *(model, guide, x),
        estimator=make_estimator(config),
        epochs=STEPS,
        batch_size=DATA,
        learning_rate=0.005,
        engine=config.engine,
        device="cpu",
    )
    gain = bound(model, guide, x, config) - before
    error = gain.std().item() / DATA**0.5
    return Outcome(**named, gain=gain.mean().item(), standard_error=error, kl_path=history.kl_path["z"])


def attempted(row: tuple[str, ...]) -> Outcome:
    """Train a combination; an error is its outcome too."""
    try:
        return trained(row)
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Outcome(*row, gain=math.nan, standard_error=math.nan, kl_path=said)


def read(path: Path) -> dict[tuple[str, ...], Outcome]:
    """What an earlier call has trained."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        found = [
            Outcome(**row | {"gain": float(row["gain"]), "standard_error": float(row["standard_error"])})  # type: ignore[arg-type]
            for row in csv.DictReader(file)
        ]
    return {tuple(getattr(outcome, axis) for axis in AXES): outcome for outcome in found}


def main(path: Path | None) -> int:
    rows = list(everything()) if path else pairs()
    if path:
        rows = random.Random(0).sample(rows, len(rows))
    done = read(path) if path else {}
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows, 1):
        if row in done:
            continue
        done[row] = attempted(row)
        if path and (number % 50 == 0 or number == len(rows)):
            write_table(path, [asdict(outcome) for outcome in done.values()])
    failed = [outcome for outcome in done.values() if not outcome.rises]
    for outcome in failed:
        sys.stdout.write(f"{outcome}\n")
    gains = [outcome.gain / outcome.standard_error for outcome in done.values() if not math.isnan(outcome.gain)]
    sys.stdout.write(
        f"{len(done)} combinations, {len(failed)} failed; gains of {min(gains):.1f} to {max(gains):.0f} errors\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(None if sys.argv[1] == "--pairs" else Path(sys.argv[1])))
