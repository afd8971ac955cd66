"""pythae's trainer, with networks of the case given to it as its documentation shows."""

import logging
import tempfile

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import IWAE, VAE, IWAEConfig, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import Tensor

from ..cases import Case, Layers
from .ours import layers, put
from .torch_plain import mlp


class _Encoder(BaseEncoder):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.network = mlp(case.pixels, *reversed(case.hidden), 2 * case.latents)

    def forward(self, x: Tensor) -> ModelOutput:
        loc, log_variance = self.network(x).chunk(2, -1)
        return ModelOutput(embedding=loc, log_covariance=log_variance)


class _Decoder(BaseDecoder):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.network = mlp(case.latents, *case.hidden, case.pixels)

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z).sigmoid())


class _Pythae:
    def __init__(self, case: Case, images: np.ndarray) -> None:
        logging.disable(logging.WARNING)
        options = {"input_dim": (case.pixels,), "latent_dim": case.latents, "reconstruction_loss": "bce"}
        encoder, decoder = _Encoder(case), _Decoder(case)
        if case.estimator == "L_B":
            model = VAE(VAEConfig(**options), encoder, decoder)
        else:
            model = IWAE(IWAEConfig(**options, number_samples=case.samples), encoder, decoder)
        for network, start in zip((encoder.network, decoder.network), case.start(), strict=True):
            put(network, start)
        self.networks = encoder.network, decoder.network
        config = BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            learning_rate=1e-3,
            per_device_train_batch_size=case.batch,
            optimizer_cls="Adam",
            num_epochs=10**6,
            no_cuda=not torch.cuda.is_available(),
        )
        data = BaseDataset(torch.from_numpy(images), torch.zeros(len(images)))
        self.trainer = BaseTrainer(model, data, training_config=config)
        self.trainer.prepare_training()
        self.done = 0

    def load(self, images: np.ndarray) -> None:
        self.trainer.train_loader.dataset.data = torch.from_numpy(images)

    def epoch(self) -> None:
        self.done += 1
        self.trainer.train_step(self.done)

    def layers(self) -> tuple[Layers, Layers]:
        return layers(self.networks[0]), layers(self.networks[1])


trainer = _Pythae
