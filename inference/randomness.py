"""Random streams: which ones a run has, and how the global ones are left alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

RandomState = tuple[Tensor, ...]


def random_streams(seed: int) -> tuple[int, int, int]:
    """Seeds of the three independent streams of a run: the order of the data, their own noise, and that of z.

    One seed for all three would correlate the pixels' noise with the latents'.
    """
    order, pixels, latents = np.random.SeedSequence(seed).generate_state(3, np.uint64) >> np.uint64(1)
    return int(order), int(pixels), int(latents)


@contextmanager
def forked_rng(seed: int | None = None) -> Iterator[None]:
    """Leave PyTorch's global random streams, of the CPU and of every GPU, as they were found."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def random_state() -> RandomState:
    """The state of the global random streams: the CPU's, then each GPU's."""
    return (torch.get_rng_state(), *torch.cuda.get_rng_state_all())


def set_random_state(state: RandomState) -> None:
    """Put a state back."""
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(list(state[1:]))
