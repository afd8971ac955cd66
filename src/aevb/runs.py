"""One run: trained, measured, and written into a folder."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from .build import load_data, make_estimator, make_pair
from .checkpoints import PARTS, DamagedCheckpoint, put, read_checkpoint
from .config import Config
from .data import DataSet, Split
from .files import atomic, write_json, write_table
from .guides import Guide, Refined
from .inference import Training, active_units, evaluate, kl_per_latent, log_evidence
from .inference.history import Row
from .models import VAE, InputError
from .models.errors import check_at_least
from .own_parts import source
from .tensorboard import tensorboard

Result = dict[str, Any]
RESULT_COLUMNS = (
    *("data", "binarisation", "estimator", "samples", "beta", "prior", "guide", "likelihood", "latents", "seed"),
    *("engine", "device", "epochs", "steps", "seconds", "images_per_second", "train_elbo", "test_elbo"),
    *("test_log_evidence", "test_log_evidence_se", "kl", "reconstruction", "active_units", "kl_path"),
)
"""What scripts may count on in ``results.csv``, in this order; more may follow."""
CHECKPOINT_SECONDS = 10.0
EVIDENCE_DATA = 1000


def cached_data(config: Config) -> DataSet:
    """The data of a configuration; a process that trains several runs on the same reads them once."""
    names = ("data", "binarisation", "likelihood", "parts", "patience", "data_seed")
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
                f"--batch-size is at most the number of training data, {len(data.train)}; it is {config.batch_size}. "
                f"Use --batch-size {len(data.train)} or less."
            )
        self.config = replace(config, threads=config.threads or torch.get_num_threads())
        self.model, self.guide = make_pair(config, data.shape, data.train)
        self.training = Training(
            self.model,
            self.guide,
            data.train,
            estimator=make_estimator(config),
            epochs=config.epochs,
            batch_size=config.batch_size,
            samples=None,
            beta=None,
            warm_up=config.warm_up,
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
            engine=config.engine,
        )

    def train(self, folder: Path, on_epoch: Callable[[Row], None] | None = None, resume: bool = False) -> Result:
        """Train to the end, measure, and leave configuration, metrics, checkpoints and result in ``folder``.

        However it is stopped, the folder holds a good state, from which ``resume`` goes on as if nothing had happened.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if resume:
            self.resume(folder)
        if self.config.parts:
            with atomic(folder / PARTS) as part:
                part.write_text(source(self.config.parts))
        with atomic(folder / "config.yaml") as part:
            self.config.write(part)
        with _threads(self.config.threads):
            self._train(folder, on_epoch)
            result = self.measure()
            self._measure_kept(folder, result)
        with atomic(folder / "result.json") as part:
            write_json(part, result)
        return result

    def _train(self, folder: Path, on_epoch: Callable[[Row], None] | None) -> None:
        saved = time.monotonic()
        with tensorboard(folder if self.config.tensorboard else None) as log:
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

    def _measure_kept(self, folder: Path, result: Result) -> None:
        """Log evidence of the test data on the way, at the kept epochs and at the end, in ``evidence.csv``."""
        rows = []
        pair = make_pair(self.config, self.data.shape)
        for row in self.training.history:
            path = folder / f"epoch-{int(row['epoch'])}.pt"
            if path.exists() and int(row["epoch"]) < len(self.training.history):
                put(read_checkpoint(path), *pair, path)
                data, samples = evidence_data(self.data), self.config.evidence_samples
                evidence = log_evidence(*pair, data, samples=samples, seed=self.config.seed)
                rows.append(row | {"test_log_evidence": evidence.mean()})
        if rows:
            last = self.training.history.rows[-1] | {"test_log_evidence": result["test_log_evidence"]}
            columns = ("epoch", "images", "seconds", "test_elbo", "test_log_evidence")
            write_table(folder / "evidence.csv", [{c: row[c] for c in columns} for row in (*rows, last)])

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
            torch.save({"pixels": self.data.pixels, "shape": self.data.shape} | programs | more, part)

    def resume(self, folder: Path) -> None:
        """Take up the last usable checkpoint of a folder; without any, start at the beginning.

        Raises:
            InputError: there are checkpoints, and none can be used.
        """
        paths = [path for path in (folder / "checkpoint.pt", folder / "before.pt") if path.exists()]
        for path in paths:
            try:
                saved = read_checkpoint(path)
                put(saved, self.model, self.guide, path)
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
            "samples": training.estimator.samples,
            "beta": training.beta,
            "binarisation": self.data.binarisation,
            "engine": history.engine,
            "device": str(training.device),
            "epochs": len(history),
            "steps": training.steps,
            "seconds": round(training.seconds, 3),
            "images_per_second": round(training.images / training.seconds, 1),
            **measure(self.model, self.guide, self.data, evidence_samples=config.evidence_samples, seed=config.seed),
            "kl_path": " ".join(f"{site}:{path}" for site, path in history.kl_path.items()),
            "how": self.data.how,
            "binarisation_seed": self.data.binarisation_seed,
            "engine_note": history.engine_note,
            "threads": config.threads,
            "stopped": history.stopped,
        }


def measure(model: VAE, guide: Guide, data: DataSet, *, evidence_samples: int, seed: int) -> Result:
    """Bounds, log evidence and what the latents carry, at the parameters that a pair has."""
    pair = model, guide
    samples = min(100, max(1, 100_000 // len(data.test)))
    test = evaluate(*pair, data.test, samples=samples, seed=seed)
    with guide.remembering() if isinstance(guide, Refined) else nullcontext():
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


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
