"""What a run is: enough to repeat it. Needs no torch, so that ``aevb --help`` is quick."""

from dataclasses import asdict, dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, kw_only=True)
class Config:
    """One combination of data, prior, guide, likelihood and estimator, and how it is trained.

    Parts are named as on the command line, ``Name:option=value``; ``parts`` is a Python file that defines more.
    """

    data: str = "digits"
    binarisation: str | None = None
    estimator: str = "L_B"
    samples: int | None = None
    beta: float = 1.0
    warm_up: int = 0
    prior: str = "StandardNormal"
    guide: str = "AmortizedNormal"
    likelihood: str = "Bernoulli"
    latents: int = 10
    parts: str | None = None
    network: str = "MLP"
    hidden: tuple[int, ...] = (500,)
    activation: str = "tanh"
    initialisation: str = "torch"
    epochs: int = 300
    batch_size: int = 100
    optimizer: str = "Adam"
    learning_rate: float | None = None
    schedule: str = "cosine"
    weight_decay: float = 0.0
    patience: int | None = None
    evidence_samples: int = 1000
    data_seed: int = 0
    seed: int = 0
    engine: str = "auto"
    device: str = "auto"
    threads: int | None = None
    keep_epochs: tuple[int, ...] = ()
    tensorboard: bool = False

    @property
    def data_name(self) -> str:
        """The data set's name, or its file's without folder and suffix."""
        return Path(self.data.partition(":")[0]).stem

    def write(self, path: Path) -> None:
        """Write as YAML."""
        lists = {"hidden": list(self.hidden), "keep_epochs": list(self.keep_epochs)}
        path.write_text(yaml.safe_dump(asdict(self) | lists, sort_keys=False))
