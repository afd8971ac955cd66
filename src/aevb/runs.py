"""One run: trained, measured, and written into a folder."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .build import make_pair
from .config import Config
from .data import DataSet
from .files import atomic
from .inference import Training, active_units, evaluate, kl_per_latent, log_evidence
from .inference.choose import check_at_least
from .inference.history import Row

Result = dict[str, Any]
CHECKPOINT_SECONDS = 10.0


class Run:
    """A configuration on its way to a result.

    Making one checks everything that can be checked before the first step, and writes nothing.
    """

    def __init__(self, config: Config, data: DataSet) -> None:
        self.config, self.data = config, data
        check_at_least(1, "evidence_samples", config.evidence_samples)
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

    def train(self, folder: Path, on_epoch: Callable[[Row], None] | None = None) -> Result:
        """Train to the end, measure, and leave configuration, metrics, checkpoint and result in ``folder``.

        However it is stopped, the folder holds the last good state.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / "config.yaml") as part:
            self.config.write(part)
        saved = time.monotonic()
        try:
            while not self.training.done:
                row = self.training.epoch()
                if on_epoch:
                    on_epoch(row)
                if time.monotonic() - saved > CHECKPOINT_SECONDS:
                    self.save(folder)
                    saved = time.monotonic()
        finally:
            self.save(folder)
        result = self.measure()
        with atomic(folder / "result.json") as part:
            part.write_text(json.dumps(result, indent=2) + "\n")
        return result

    def save(self, folder: Path) -> None:
        """Write the checkpoint and the metrics of the epochs that are done."""
        with atomic(folder / "checkpoint.pt") as part:
            programs = {"model": self.model.state_dict(), "guide": self.guide.state_dict()}
            torch.save(programs | {"training": self.training.state()}, part)
        with atomic(folder / "metrics.csv") as part:
            self.training.history.write_csv(part)

    @property
    def evidence_data(self) -> Any:
        """The test data whose log evidence is measured: the first 1,000."""
        return self.data.test.take(torch.arange(min(1000, len(self.data.test))))

    def measure(self) -> Result:
        """The figures of a run, all in nats per datum, on the test data unless they say otherwise."""
        config, history = self.config, self.training.history
        pair = self.model, self.guide
        samples = min(100, max(1, 100_000 // len(self.data.test)))
        test = evaluate(*pair, self.data.test, samples=samples, seed=config.seed)
        evidence = log_evidence(*pair, self.evidence_data, samples=config.evidence_samples, seed=config.seed)
        per_latent = kl_per_latent(*pair, self.data.test)
        return {
            "data": config.data,
            "binarisation": self.data.binarisation,
            "estimator": config.estimator,
            "samples": config.samples,
            "beta": config.beta,
            "prior": config.prior,
            "guide": config.guide,
            "likelihood": config.likelihood,
            "latents": config.latents,
            "seed": config.seed,
            "engine": "svi",
            "device": str(self.training.device),
            "epochs": len(history),
            "steps": self.training.steps,
            "seconds": round(self.training.seconds, 3),
            "images_per_second": round(self.training.images / self.training.seconds, 1),
            "train_elbo": evaluate(*pair, self.data.train, seed=config.seed).elbo.mean().item(),
            "test_elbo": test.elbo.mean().item(),
            "test_log_evidence": evidence.mean(),
            "test_log_evidence_se": evidence.standard_error,
            "kl": test.kl.mean().item(),
            "reconstruction": test.reconstruction.mean().item(),
            "active_units": active_units(*pair, self.data.test)["z"],
            "kl_path": " ".join(f"{site}:{path}" for site, path in history.kl_path.items()),
            "test_elbo_samples": samples,
            "test_log_evidence_samples": config.evidence_samples,
            "test_log_evidence_sampling_error": evidence.sampling_error,
            "median_effective_sample_size": evidence.effective_sample_sizes.median().item(),
            "binarisation_seed": self.data.binarisation_seed,
            "kl_per_latent": per_latent["z"].tolist() if "z" in per_latent else None,
            "threads": torch.get_num_threads(),
            "stopped": history.stopped,
        }


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with the same keys as comma-separated values, all or nothing."""
    with atomic(path) as part, open(part, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
