"""The instrument on the checkpoints of a run: ``aevb gradients RUN``, and what a comparison reports of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .build import make_pair
from .checkpoints import load_run, read_config
from .files import read_metrics
from .guides import Guide
from .inference import Estimator, GradientNoise, gradient_noise, random_streams, refusals
from .models import VAE, BernoulliVAE, InputError
from .models.errors import check_at_least, check_name
from .runs import cached_data

COLUMNS = (
    *("checkpoint", "epoch", "estimator", "samples", "part", "target", "variance", "variance_se", "snr"),
    *("signal", "signal_se", "bias", "bias_se", "is_biased", "reference", "seconds", "cost", "relative_cost"),
)
"""Of ``gradients.csv``. Squares are in (nats per datum)^2: ``variance`` is tr Cov g, ``signal`` |E g|^2, ``bias``
|E g - truth|^2; ``cost`` is (variance + bias where ``is_biased``) times seconds, ``relative_cost`` variance / signal
times seconds."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A pair at a moment of its training."""

    name: str
    epoch: int
    model: VAE
    guide: Guide


def checkpoints(folder: Path, names: Sequence[str] = (), parts: str | None = None) -> Iterator[Checkpoint]:
    """The pair of a run at its start, at each epoch that was kept, and at its end; or at those that are named.

    Raises:
        InputError: the run has no checkpoint of that name.
    """
    last = load_run(folder, parts=parts)
    epochs = sorted(int(path.stem.removeprefix("epoch-")) for path in folder.glob("epoch-*.pt"))
    end = len(read_metrics(folder))
    known = {"start": 0} | {f"epoch-{n}": n for n in epochs if n != end} | {"last": end}
    for name in names or known:
        epoch = known[check_name("checkpoint of the run", name, known)]
        if name == "start":
            model, guide = make_pair(last.config, cached_data(last.config).shape)
        else:
            model, guide, _ = last if name == "last" else load_run(folder, name, parts=parts)
        yield Checkpoint(name, epoch, model, guide)


def minibatch(folder: Path, size: int, seed: int, parts: str | None = None) -> torch.Tensor:
    """The first data of a run's training set, their pixels drawn by the seed."""
    train = cached_data(read_config(folder, parts)).train
    check_at_least(1, "batch_size", size)
    _, pixels, _ = random_streams(seed)
    return train.batch(torch.arange(min(size, len(train))), torch.Generator().manual_seed(pixels))


ENUMERATED = 10**8
"""Pixels in all: data times values of z times pixels of each, that may be held to enumerate a bound."""


def exact_bound(model: VAE, guide: Guide, batch: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The evidence lower bound of a batch by enumeration, where the model can be enumerated in memory."""
    if not isinstance(model, BernoulliVAE) or 2**model.prior.latents * batch.numel() > ENUMERATED:
        return None
    return lambda x: model.elbo(x, guide)


def measure_noise(
    at: Checkpoint, batch: torch.Tensor, estimators: dict[str, Estimator], *, draws: int, effort: int = 4, seed: int = 0
) -> list[Row]:
    """The rows of ``gradients.csv`` at one checkpoint."""
    rows = gradient_noise(
        at.model,
        at.guide,
        batch,
        estimators,
        draws=draws,
        effort=effort,
        exact=exact_bound(at.model, at.guide, batch),
        by_parameter=True,
        seed=seed,
    )
    return [_row(at, estimators[noise.estimator].samples, noise) for noise in rows]


def _row(at: Checkpoint, samples: int, noise: GradientNoise) -> Row:
    derived = {name: getattr(noise, name) for name in ("snr", "is_biased", "cost", "relative_cost")}
    row = {"checkpoint": at.name, "epoch": at.epoch, "samples": samples} | asdict(noise) | derived
    return {column: row[column] for column in COLUMNS}


def usable(at: Checkpoint, batch: torch.Tensor, estimators: dict[str, Estimator]) -> dict[str, Estimator]:
    """Those that do not refuse the pair.

    Raises:
        InputError: all do.
    """
    refused = refusals(at.model, at.guide, batch, estimators)
    if len(refused) == len(estimators):
        raise InputError(next(iter(refused.values())))
    return {name: estimator for name, estimator in estimators.items() if name not in refused}


HEADINGS = ("noise", "signal-to-noise", "bias", "ms a step", "error² × s", "noise²/signal² × s")


def cells(row: Row) -> tuple[str, ...]:
    """What a table shows of a row, under :data:`HEADINGS`."""
    return (
        f"{row['variance'] ** 0.5:.3g}",
        f"{row['snr']:.3g}",
        f"{row['bias'] ** 0.5:.2g}" if row["is_biased"] else "none seen",
        f"{1000 * row['seconds']:.2f}",
        f"{row['cost']:.2g}",
        f"{row['relative_cost']:.2g}",
    )


def ranking(rows: list[Row], part: str) -> list[tuple[str, list[Row]]]:
    """For each target the rows of a part, the best first: by squared error times seconds of a step."""
    targets: dict[str, list[Row]] = {}
    for row in rows:
        if row["part"] == part:
            targets.setdefault(row["target"], []).append(row)
    return [(target, sorted(found, key=lambda row: row["cost"])) for target, found in targets.items()]
