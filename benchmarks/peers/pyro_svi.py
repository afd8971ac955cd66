"""Pyro's SVI, as its VAE tutorial writes it: pyro.module, Adam, svi.step on each minibatch."""

from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, RenyiELBO, TraceMeanField_ELBO
from torch import Tensor

from ..cases import Case, Layers
from .ours import layers, put
from .torch_plain import mlp


class _Pyro:
    def __init__(self, case: Case, images: np.ndarray, validate: bool) -> None:
        pyro.enable_validation(validate)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.load(images)
        self.case = case
        self.encoder = mlp(case.pixels, *reversed(case.hidden), 2 * case.latents).to(self.device)
        self.decoder = mlp(case.latents, *case.hidden, case.pixels).to(self.device)
        for network, start in zip((self.encoder, self.decoder), case.start(), strict=True):
            put(network, start)
        if case.estimator == "L_B":
            loss = TraceMeanField_ELBO()
        else:
            loss = RenyiELBO(alpha=0.0, num_particles=case.samples, vectorize_particles=True, max_plate_nesting=1)
        self.svi = SVI(self.model, self.guide, pyro.optim.Adam({"lr": 1e-3}), loss)

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", len(x)):
            zeros = x.new_zeros(len(x), self.case.latents)
            z = pyro.sample("z", dist.Normal(zeros, torch.ones_like(zeros)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", len(x)):
            loc, log_variance = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, (0.5 * log_variance).exp()).to_event(1))

    def load(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).to(self.device)

    def epoch(self) -> None:
        for indices in torch.randperm(len(self.images), device=self.device).split(self.case.batch):
            self.svi.step(self.images[indices])

    def layers(self) -> tuple[Layers, Layers]:
        return layers(self.encoder), layers(self.decoder)


validated, unvalidated = partial(_Pyro, validate=True), partial(_Pyro, validate=False)
