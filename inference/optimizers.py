"""Optimizers and learning-rate schedules, by name."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from ..models.errors import InputError

Schedule = Callable[[float], float]

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": partial(torch.optim.SGD, fused=True),
    "Adagrad": torch.optim.Adagrad,
    "RMSprop": torch.optim.RMSprop,
    "Adam": partial(torch.optim.Adam, fused=True),
}
"""PyTorch's optimizers, with its defaults (Adagrad is the paper's)."""

LEARNING_RATES = {"SGD": 1e-2, "Adagrad": 2e-2, "RMSprop": 1e-3, "Adam": 1e-3}
"""Used where none is given; the paper tried 0.01, 0.02 and 0.1 for Adagrad."""

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda t: 1.0,
    "linear": lambda t: 1 - t,
    "cosine": lambda t: (1 + math.cos(math.pi * t)) / 2,
}
"""The learning rate's factor at the share t of all steps done, from 0 to 1."""


def check_is_name(optimizer: Any) -> None:
    """Check that an optimizer is given by name, which its parameters are then given to.

    Raises:
        InputError: it is one of PyTorch's, or anything else.
    """
    if not isinstance(optimizer, str):
        own = optimizer.__name__ if isinstance(optimizer, type) else f"an instance of {type(optimizer).__name__}"
        raise InputError(
            f"An optimizer is given by name, and its learning rate beside it; this is {own}.\n"
            f"  Known: {', '.join(OPTIMIZERS)}."
        )
