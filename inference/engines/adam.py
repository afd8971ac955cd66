"""Adam's step for parameters of the same settings: torch's own operation, or a compiled one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from .inductor import compile_graph

Gradients = Sequence[Tensor | None]


class Adam(Protocol):
    """Moves its parameters by the gradients of all."""

    def step(self, gradients: Gradients, rate: float | Tensor) -> None: ...


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
            self.own(gradients),
            self.first_moments,
            self.second_moments,
            [],  # of amsgrad
            [self.count] * len(self.places),
            lr=rate,
            amsgrad=False,
            **self.settings,
        )

    def own(self, gradients: Gradients) -> list[Tensor]:
        """The gradients of its parameters."""
        return [gradient for place in self.places if (gradient := gradients[place]) is not None]

    def like(self) -> "FusedAdam":
        """The same step for other numbers of the same shapes: moves are a tenth, and no two are the same."""
        weights = [_spread(w, -1.0, 1.0) for w in self.parameters]
        first = [_spread(m, -0.1, 0.1) for m in self.first_moments]
        second = [_spread(v, 0.0, 1.0) for v in self.second_moments]
        return FusedAdam(self.places, weights, first, second, self.count.clone(), self.settings)


def _spread(tensor: Tensor, start: float, end: float) -> Tensor:
    numbers = torch.linspace(start, end, tensor.numel(), dtype=tensor.dtype)
    return torch.empty_like(tensor, requires_grad=False).copy_(numbers.view(tensor.shape))


MakeAdam = Callable[[FusedAdam, Gradients], Adam]


class CompiledAdam:
    """The same step by TorchInductor, in six tenths of the time: one division for each number, where torch's has two.

    Raises:
        ArithmeticError: what comes out is another step than torch's.
        Exception: whatever Inductor raises.
    """

    def __init__(self, adam: FusedAdam, gradients: Gradients) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

        gradients = [None if gradient is None else _spread(gradient, 1.0, -1.0) for gradient in gradients]
        graph = make_fx(partial(_adam, **adam.settings))(*_inputs(adam.like(), gradients, 0.1))
        self.adam, self.function = adam.like(), compile_graph(graph, calls_by_cpp=False)
        self.step(gradients, 0.1)
        expected = adam.like()
        expected.step(gradients, 0.1)
        _check(self.adam, expected)
        self.adam = adam

    def step(self, gradients: Gradients, rate: float | Tensor) -> None:
        self.adam.count.add_(1)
        self.function(*_inputs(self.adam, gradients, rate))


def _inputs(adam: FusedAdam, gradients: Gradients, rate: float | Tensor) -> list[Tensor]:
    """What is the same for all numbers, in float64; then parameters, gradients and moments."""
    count, beta1, beta2 = adam.count.item(), adam.settings["beta1"], adam.settings["beta2"]
    factors = torch.tensor([rate / (1 - beta1**count), (1 - beta2**count) ** -0.5], dtype=torch.float64)
    return [factors, *adam.parameters, *adam.own(gradients), *adam.first_moments, *adam.second_moments]


def _adam(
    factors: Tensor,
    *tensors: Tensor,
    beta1: float,
    beta2: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> None:
    rate, correction = factors.unbind()
    number = len(tensors) // 4
    for place in range(number):
        w, g, m, v = tensors[place::number]
        if maximize:
            g = -g
        if weight_decay:
            g = g + weight_decay * w
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).add_((1 - beta2) * g * g)
        w.sub_(rate * m / (v.sqrt() * correction + eps))


def _check(adam: FusedAdam, expected: FusedAdam) -> None:
    """Check that two steps end in the same numbers, to a hundred units in the last place of 1, the largest."""
    for name in ("parameters", "first_moments", "second_moments"):
        for tensor, other in zip(getattr(adam, name), getattr(expected, name), strict=True):
            tolerance = 100 * torch.finfo(other.dtype).eps
            if not torch.allclose(tensor, other, rtol=0.0, atol=tolerance):
                raise ArithmeticError(f"it ends in other {name.replace('_', ' ')} than torch's")
