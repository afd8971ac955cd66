"""What is timed: networks, batches and data, the same for everybody."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Weight (out, in) and bias (out,) of each linear layer; tanh between them."""


@dataclass(frozen=True)
class Case:
    """A VAE with Bernoulli pixels, trained by Adam (0.001) on black and white images.

    ``samples`` is 1 for L_B, the bound with its KL in closed form, and else the k of IWAE, whose KL nobody has in
    closed form.
    """

    name: str
    hidden: tuple[int, ...]
    latents: int
    batch: int
    steps: int
    """Steps of an epoch, which is what is timed."""
    estimator: str = "L_B"
    samples: int = 1
    pixels: int = 784

    @property
    def images(self) -> int:
        return self.batch * self.steps

    @property
    def warm_up(self) -> int:
        """Epochs that are not timed: after 100 steps everybody has compiled."""
        return 1 + 100 // self.steps

    def tiny(self) -> "Case":
        """As small as it can be and still run."""
        return replace(self, hidden=tuple(8 for _ in self.hidden), latents=2, batch=10, steps=3)

    def start(self) -> tuple[Layers, Layers]:
        """The weights of encoder and decoder that everybody starts from."""
        random = np.random.default_rng(0)
        sizes = [self.pixels, *reversed(self.hidden), 2 * self.latents]
        encoder = _layers(random, sizes)
        return encoder, _layers(random, [self.latents, *self.hidden, self.pixels])


def _layers(random: np.random.Generator, sizes: list[int]) -> Layers:
    """Uniform within 1 / sqrt(inputs), as torch does it."""
    layers = []
    for inputs, outputs in pairwise(sizes):
        limit = inputs**-0.5
        weight = random.uniform(-limit, limit, (outputs, inputs)).astype(np.float32)
        layers.append((weight, random.uniform(-limit, limit, outputs).astype(np.float32)))
    return layers


CASES = {
    case.name: case
    for case in (
        Case("batch20", (500,), 20, 20, 500),
        Case("batch100", (500,), 20, 100, 300),
        Case("batch1000", (500,), 20, 1000, 60),
        Case("iwae-k1", (200, 200), 50, 20, 500, "IWAE", 1),
        Case("iwae-k5", (200, 200), 50, 20, 300, "IWAE", 5),
        Case("iwae-k50", (200, 200), 50, 20, 120, "IWAE", 50),
    )
}
