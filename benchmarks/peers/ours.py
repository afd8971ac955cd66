"""This project, by its engines."""

from functools import partial

import numpy as np
import torch

from aevb.guides import AmortizedNormal
from aevb.inference import Training
from aevb.models import MLP, VAE, Bernoulli, StandardNormal

from ..cases import Case, Layers


class _Ours:
    def __init__(self, case: Case, images: np.ndarray, engine: str) -> None:
        self.model = VAE(StandardNormal(case.latents), MLP(case.latents, *case.hidden, case.pixels), Bernoulli())
        self.guide = AmortizedNormal(MLP(case.pixels, *reversed(case.hidden), 2 * case.latents))
        for network, layers in zip((self.guide.encoder, self.model.decoder), case.start(), strict=True):
            _put(network, layers)
        self.training = Training(
            self.model,
            self.guide,
            torch.from_numpy(images).clone(),
            estimator=case.estimator,
            epochs=10**6,
            batch_size=case.batch,
            samples=case.samples if case.estimator == "IWAE" else None,
            beta=None,
            optimizer="Adam",
            learning_rate=1e-3,
            schedule="constant",
            weight_decay=0.0,
            validation=None,
            patience=None,
            test=None,
            evaluation_samples=1,
            seed=0,
            device="auto",
            engine=engine,
        )

    def load(self, images: np.ndarray) -> None:
        rows = self.training.data.data
        rows.tensors[0].copy_(torch.from_numpy(images))

    def epoch(self) -> None:
        self.training.epoch()

    def layers(self) -> tuple[Layers, Layers]:
        return _layers(self.guide.encoder), _layers(self.model.decoder)


def _put(network: torch.nn.Module, layers: Layers) -> None:
    with torch.no_grad():
        for layer, (weight, bias) in zip(_linear(network), layers, strict=True):
            layer.weight.copy_(torch.from_numpy(weight))
            layer.bias.copy_(torch.from_numpy(bias))


def _layers(network: torch.nn.Module) -> Layers:
    return [(layer.weight.detach().cpu().numpy(), layer.bias.detach().cpu().numpy()) for layer in _linear(network)]


def _linear(network: torch.nn.Module) -> list[torch.nn.Linear]:
    return [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]


compiled, fast, svi = (partial(_Ours, engine=engine) for engine in ("compiled", "fast", "svi"))
put, layers = _put, _layers
