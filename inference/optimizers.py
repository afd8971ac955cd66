"""Optimizers and learning-rate schedules, by name."""

import math
from collections.abc import Callable
from functools import partial

import torch

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
