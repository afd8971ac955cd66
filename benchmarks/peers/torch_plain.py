"""PyTorch alone: the loop that one would write by hand, with the fused optimizer; eager, and compiled."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..cases import Case, Layers
from .ours import layers, put


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers with tanh between them."""
    stack: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        stack += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*stack[:-1])


class _VAE(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        self.encoder = mlp(case.pixels, *reversed(case.hidden), 2 * case.latents)
        self.decoder = mlp(case.latents, *case.hidden, case.pixels)
        self.samples = case.samples if case.estimator == "IWAE" else None

    def forward(self, x: Tensor) -> Tensor:
        """Minus the mean bound."""
        loc, log_variance = self.encoder(x).chunk(2, -1)
        if self.samples is None:
            z = loc + (0.5 * log_variance).exp() * torch.randn_like(loc)
            reconstruction = -functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
            kl = 0.5 * (loc.square() + log_variance.exp() - 1 - log_variance).sum()
            return (kl - reconstruction) / len(x)
        noise = torch.randn(self.samples, *loc.shape, device=x.device)
        z = loc + (0.5 * log_variance).exp() * noise
        target = x.expand(self.samples, *x.shape)
        log_p = -functional.binary_cross_entropy_with_logits(self.decoder(z), target, reduction="none").sum(-1)
        log_w = log_p + 0.5 * (noise.square() + log_variance - z.square()).sum(-1)
        return -(torch.logsumexp(log_w, 0) - math.log(self.samples)).mean()


class _Plain:
    def __init__(self, case: Case, images: np.ndarray, compiled: bool) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.load(images)
        self.batch = case.batch
        self.vae = _VAE(case).to(self.device)
        for network, start in zip((self.vae.encoder, self.vae.decoder), case.start(), strict=True):
            put(network, start)
        self.loss = torch.compile(self.vae) if compiled else self.vae
        self.optimizer = torch.optim.Adam(self.vae.parameters(), lr=1e-3, fused=True)

    def load(self, images: np.ndarray) -> None:
        self.images = torch.from_numpy(images).to(self.device)

    def epoch(self) -> None:
        for indices in torch.randperm(len(self.images), device=self.device).split(self.batch):
            self.optimizer.zero_grad()
            self.loss(self.images[indices]).backward()
            self.optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def layers(self) -> tuple[Layers, Layers]:
        return layers(self.vae.encoder), layers(self.vae.decoder)


eager, compiled = partial(_Plain, compiled=False), partial(_Plain, compiled=True)
