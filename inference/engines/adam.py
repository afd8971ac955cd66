"""Adam's step for parameters of the same settings, by torch's own operation and by those that a graph can hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .trace import WrongReplay

Gradients = Sequence[Tensor | None]


@dataclass(frozen=True, slots=True)
class FusedAdam:
    """Adam (Kingma and Ba, 2015, algorithm 1) by the operation that torch's fused optimizer ends in."""

    places: list[int]
    """Which of all gradients are those of its parameters."""
    parameters: list[Tensor]
    first_moments: list[Tensor]
    second_moments: list[Tensor]
    count: Tensor
    settings: dict[str, Any]

    def step(self, gradients: Gradients, rate: float | Tensor) -> None:
        self.count.add_(1)
        torch._fused_adam_(
            self.parameters,
            [gradient for place in self.places if (gradient := gradients[place]) is not None],
            self.first_moments,
            self.second_moments,
            [],  # of amsgrad
            [self.count] * len(self.places),
            lr=rate,
            amsgrad=False,
            **self.settings,
        )

    def tensors(self) -> list[Tensor]:
        """All that a step moves."""
        return [*self.parameters, *self.first_moments, *self.second_moments, self.count]

    def copy(self) -> "FusedAdam":
        """The same of other tensors."""
        moved = (self.parameters, self.first_moments, self.second_moments)
        weights, first, second = ([tensor.clone() for tensor in tensors] for tensors in moved)
        return FusedAdam(self.places, weights, first, second, self.count.clone(), self.settings)


def factors(adam: FusedAdam, rate: float) -> list[float]:
    """What a step multiplies all numbers by: the rate and the root's denominator, each with its correction of bias."""
    count, beta1, beta2 = adam.count.item(), adam.settings["beta1"], adam.settings["beta2"]
    return [rate / (1 - beta1**count), (1 - beta2**count) ** -0.5]


def move(w: Tensor, m: Tensor, v: Tensor, g: Tensor, factors: Tensor, settings: dict[str, Any]) -> None:
    """The step of a parameter and its moments, in place; one division for each number, where torch's has two."""
    if settings["maximize"]:
        g = -g
    if settings["weight_decay"]:
        g = g + settings["weight_decay"] * w
    m.lerp_(g, 1 - settings["beta1"])
    v.mul_(settings["beta2"]).add_((1 - settings["beta2"]) * g * g)
    rate, correction = factors.unbind()
    w.sub_(rate * m / (v.sqrt() * correction + settings["eps"]))


def check_moved(adams: Sequence[FusedAdam], before: Sequence[FusedAdam], gradients: Gradients, rate: float) -> None:
    """Check a step against torch's, by which what was ``before`` is moved.

    Raises:
        WrongReplay: a moment differs by more than a hundred units in the last place of its largest number, or of the
            gradient's; or a parameter by more than a thousandth of its move.
    """
    for adam, expected in zip(adams, before, strict=True):
        starts = [parameter.clone() for parameter in expected.parameters]
        expected.step(gradients, rate)
        for number, place in enumerate(expected.places):
            w, g = expected.parameters[number], gradients[place]
            if g is None or not w.numel():
                continue
            eps, move = torch.finfo(w.dtype).eps, (w - starts[number]).abs().max()
            _check(adam.first_moments[number], expected.first_moments[number], 100 * eps * g.abs().max())
            _check(adam.second_moments[number], expected.second_moments[number], 0.0)
            size = torch.maximum(w.abs().max(), starts[number].abs().max())
            _check(adam.parameters[number], w, 1e-3 * move + eps * (4 * size + 100 * rate), relative=0.0)
        _check(adam.count, expected.count, 0.0)


def _check(tensor: Tensor, expected: Tensor, tolerance: Tensor | float, relative: float = 100.0) -> None:
    numbers = torch.finfo(expected.dtype)
    allowed = tolerance + relative * numbers.eps * expected.abs().max() + numbers.tiny
    if torch.isfinite(allowed) and not (tensor - expected).abs().max() <= allowed:
        raise WrongReplay(f"a compiled step of Adam ends in another tensor of shape {tuple(expected.shape)}")
