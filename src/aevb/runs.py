"""One run: trained, measured, written into a folder, and read back from it."""

import csv
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from .build import load_data, make_pair
from .config import Config
from .data import DataSet, Split
from .files import atomic
from .guides import Guide
from .inference import Training, active_units, evaluate, kl_per_latent, log_evidence
from .inference.history import Row
from .models import VAE, InputError
from .models.errors import check_at_least, check_name

Result = dict[str, Any]
RESULT_COLUMNS = (
    *("data", "binarisation", "estimator", "samples", "beta", "prior", "guide", "likelihood", "latents", "seed"),
    *("engine", "device", "epochs", "steps", "seconds", "images_per_second", "train_elbo", "test_elbo"),
    *("test_log_evidence", "test_log_evidence_se", "kl", "reconstruction", "active_units", "kl_path"),
)
"""What scripts may count on in ``results.csv``, in this order; more may follow."""
CHECKPOINT_SECONDS = 10.0
EVIDENCE_DATA = 1000


class DamagedCheckpoint(UserWarning):
    """A checkpoint that cannot be used, where there is one before it that can."""


def cached_data(config: Config) -> DataSet:
    """The data of a configuration; a process that trains several runs on the same reads them once."""
    names = ("data", "binarisation", "likelihood", "patience", "data_seed")
    return _cached_data(replace(Config(), **{name: getattr(config, name) for name in names}))


_cached_data = lru_cache(maxsize=4)(load_data)


class Run:
    """A configuration on its way to a result.

    Making one checks everything that can be checked before the first step, and writes nothing.
    """

    def __init__(self, config: Config, data: DataSet) -> None:
        self.data = data
        check_at_least(1, "evidence_samples", config.evidence_samples)
        check_at_least(1, "threads", 1 if config.threads is None else config.threads)
        if config.batch_size > len(data.train):
            raise InputError(
                f"batch_size is at most the number of training data, {len(data.train)}; it is {config.batch_size}."
            )
        self.config = replace(config, threads=config.threads or torch.get_num_threads())
        self.model, self.guide = make_pair(config, data.pixels)
        self.training = Training(
            self.model,
            self.guide,
            data.train,
            estimator=config.estimator,
            epochs=config.epochs,
            batch_size=config.batch_size,
            samples=config.samples,
            beta=config.beta,
            optimizer=config.optimizer,
            learning_rate=config.learning_rate,
            schedule=config.schedule,
            weight_decay=config.weight_decay,
            validation=data.validation,
            patience=config.patience,
            test=data.test,
            evaluation_samples=max(1, 3_000 // len(data.test)),
            seed=config.seed,
            device=config.device,
        )

    def train(self, folder: Path, on_epoch: Callable[[Row], None] | None = None, resume: bool = False) -> Result:
        """Train to the end, measure, and leave configuration, metrics, checkpoints and result in ``folder``.

        However it is stopped, the folder holds a good state, from which ``resume`` goes on as if nothing had happened.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self.resume(folder)
        with atomic(folder / "config.yaml") as part:
            self.config.write(part)
        with _threads(self.config.threads):
            self._train(folder, on_epoch)
            result = self.measure()
        with atomic(folder / "result.json") as part:
            write_json(part, result)
        return result

    def _train(self, folder: Path, on_epoch: Callable[[Row], None] | None) -> None:
        saved = time.monotonic()
        with _tensorboard(folder if self.config.tensorboard else None) as log:
            try:
                while not self.training.done:
                    row = self.training.epoch()
                    log(row)
                    self._keep(folder, int(row["epoch"]))
                    if on_epoch:
                        on_epoch(row)
                    if time.monotonic() - saved > CHECKPOINT_SECONDS:
                        self.save(folder)
                        saved = time.monotonic()
            finally:
                self.save(folder)

    def _keep(self, folder: Path, epoch: int) -> None:
        if epoch in self.config.keep_epochs:
            self._write(folder / f"epoch-{epoch}.pt", {})
        if epoch == self.training.history.best_epoch:
            self._write(folder / "best.pt", {})

    def save(self, folder: Path) -> None:
        """Write the metrics and the checkpoint; the checkpoint before it is kept as ``before.pt``."""
        last = folder / "checkpoint.pt"
        state = {k: v for k, v in self.training.state().items() if k != "weights"}
        if last.exists():
            os.replace(last, folder / "before.pt")
        self._write(last, {"training": state})
        with atomic(folder / "metrics.csv") as part:
            self.training.history.write_csv(part)

    def _write(self, path: Path, more: dict[str, Any]) -> None:
        programs = {"model": self.model.state_dict(), "guide": self.guide.state_dict()}
        with atomic(path) as part:
            torch.save({"pixels": self.data.pixels} | programs | more, part)

    def resume(self, folder: Path) -> None:
        """Take up the last usable checkpoint of a folder; without any, start at the beginning.

        Raises:
            InputError: there are checkpoints, and none can be used.
        """
        paths = [path for path in (folder / "checkpoint.pt", folder / "before.pt") if path.exists()]
        for path in paths:
            try:
                saved = _load(path)
                _put(saved, self.model, self.guide, path)
            except InputError as error:
                if path == paths[-1]:
                    raise
                warnings.warn(f"{error} Going on from {paths[-1]}.", DamagedCheckpoint, stacklevel=2)
            else:
                self.training.restore(self.training.state() | saved["training"])
                return

    def measure(self) -> Result:
        """The figures of a run, all in nats per datum, on the test data unless they say otherwise."""
        config, training, history = self.config, self.training, self.training.history
        return {
            **{name: getattr(config, name) for name in RESULT_COLUMNS if hasattr(config, name)},
            "binarisation": self.data.binarisation,
            "engine": "svi",
            "device": str(training.device),
            "epochs": len(history),
            "steps": training.steps,
            "seconds": round(training.seconds, 3),
            "images_per_second": round(training.images / training.seconds, 1),
            **measure(self.model, self.guide, self.data, evidence_samples=config.evidence_samples, seed=config.seed),
            "kl_path": " ".join(f"{site}:{path}" for site, path in history.kl_path.items()),
            "how": self.data.how,
            "binarisation_seed": self.data.binarisation_seed,
            "threads": config.threads,
            "stopped": history.stopped,
        }


def measure(model: VAE, guide: Guide, data: DataSet, *, evidence_samples: int, seed: int) -> Result:
    """Bounds, log evidence and what the latents carry, at the parameters that a pair has."""
    pair = model, guide
    samples = min(100, max(1, 100_000 // len(data.test)))
    test = evaluate(*pair, data.test, samples=samples, seed=seed)
    evidence = log_evidence(*pair, evidence_data(data), samples=evidence_samples, seed=seed)
    per_latent = kl_per_latent(*pair, data.test)
    return {
        "train_elbo": evaluate(*pair, data.train, seed=seed).elbo.mean().item(),
        "test_elbo": test.elbo.mean().item(),
        "test_log_evidence": evidence.mean(),
        "test_log_evidence_se": evidence.standard_error,
        "kl": test.kl.mean().item(),
        "reconstruction": test.reconstruction.mean().item(),
        "active_units": active_units(*pair, data.test)["z"],
        "test_elbo_samples": samples,
        "test_log_evidence_samples": evidence_samples,
        "test_log_evidence_data": len(evidence.values),
        "test_log_evidence_sampling_error": evidence.sampling_error,
        "median_effective_sample_size": evidence.effective_sample_sizes.median().item(),
        "kl_per_latent": per_latent["z"].tolist() if "z" in per_latent else None,
    }


def evidence_data(data: DataSet) -> Split:
    """The test data whose log evidence is measured: the first 1,000."""
    return data.test.take(torch.arange(min(EVIDENCE_DATA, len(data.test))))


class LoadedRun(NamedTuple):
    """A run read back: ``model, guide, config = load_run(folder)``."""

    model: VAE
    guide: Guide
    config: Config


def load_run(folder: str | Path, checkpoint: str = "last") -> LoadedRun:
    """The trained pair of a run's folder, on the CPU, and its configuration.

    Args:
        folder: a run's folder.
        checkpoint: ``last``; ``best``, on validation data; or ``epoch-N``, one of those that were kept.

    Raises:
        InputError: not a run's folder, no such checkpoint, or one that is damaged or of another model.
    """
    folder = Path(folder)
    config = read_config(folder)
    kept = {path.stem for path in folder.glob("*.pt")}
    known = {"last": "checkpoint"} | {name: name for name in sorted(kept - {"checkpoint", "before"})}
    path = folder / f"{known[check_name('checkpoint of the run', checkpoint, known)]}.pt"
    saved = _load(path)
    model, guide = make_pair(config, saved["pixels"])
    _put(saved, model, guide, path)
    return LoadedRun(model, guide, config)


def read_config(folder: Path) -> Config:
    """The configuration of a run's folder.

    Raises:
        InputError: not a run's folder, or a configuration with a key that is not known or a value of a wrong type.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise InputError(f"{folder} is not the folder of a run: it has no config.yaml.")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no settings.")
    defaults = {f.name: f.default for f in fields(Config)}
    for key, value in values.items():
        check_name(f"setting in {path}", key, defaults)
        kind = (list, int) if isinstance(defaults[key], tuple) else (type(defaults[key]), int, float, str)
        if defaults[key] is not None and not isinstance(value, kind[0] if isinstance(value, str | list) else kind):
            raise InputError(f"{path}: {key} is {value!r}, which is no {type(defaults[key]).__name__}.")
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Config(**settings)


def _load(path: Path) -> dict[str, Any]:
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if not {"pixels", "model", "guide"} <= saved.keys():
            raise KeyError("no model and guide")
    except Exception as error:  # a damaged archive raises almost anything
        message = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is not a checkpoint, or it is cut short: {message}.") from error
    return dict(saved)


def _put(saved: dict[str, Any], model: VAE, guide: Guide, path: Path) -> None:
    for role, program in (("model", model), ("guide", guide)):
        own = {name: tuple(value.shape) for name, value in program.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in saved[role].items()}
        if own != found:
            name = next(name for name in own | found if own.get(name) != found.get(name))
            raise InputError(
                f"{path} is of another {role}: there, {name} is {found.get(name, 'missing')}; "
                f"here, {own.get(name, 'missing')}."
            )
    for role, program in (("model", model), ("guide", guide)):
        program.load_state_dict(saved[role])


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _tensorboard(folder: Path | None) -> Iterator[Callable[[Row], None]]:
    if folder is None:
        yield lambda row: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("--tensorboard needs TensorBoard: pip install 'aevb[tensorboard]'.") from error

    def log(row: Row) -> None:
        for column, value in row.items():
            writer.add_scalar(column, value, row["images"])

    with SummaryWriter(folder / "tensorboard") as writer:
        yield log


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write as JSON, which has no NaN: what is not known is null."""
    known = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
    path.write_text(json.dumps(known, indent=2, allow_nan=False) + "\n")


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as comma-separated values, all or nothing; columns are those of the first."""
    with atomic(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_metrics(folder: Path) -> list[Row]:
    """The rows of a run's ``metrics.csv``."""
    with open(folder / "metrics.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
