"""Moving parameters by their gradients."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Gradients = Sequence[Tensor | None]


class Update:
    """The step of an optimizer, as a function of gradients and a learning rate.

    A quarter of a step of torch's fused Adam on a CPU is Python that looks up the same states again. Here they are
    looked up once, and the one operation that the step ends in is called with them; every bit is the same.

    Args:
        optimizer: of the parameters.
        parameters: in the order of its groups.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> None:
        self.optimizer, self.parameters = optimizer, parameters
        self.forget()

    def forget(self) -> None:
        """Look up the optimizer's states anew: others are in their places."""
        self.moved: list[bool] | None = None
        self.adams: list[_FusedAdam] = []

    def __call__(self, gradients: Gradients, rate: float | Tensor) -> None:
        """Move the parameters; one without a gradient stays where it is, and so does its state."""
        pairs = zip(gradients, self.parameters, strict=True)
        laid_out = [None if gradient is None else _laid_out(gradient, parameter) for gradient, parameter in pairs]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        moved = [gradient is not None for gradient in laid_out]
        if moved == self.moved:
            for adam in self.adams:
                adam.step(laid_out)
        else:
            self._step(laid_out)
            if _is_fused_adam_on_a_cpu(self.optimizer):
                self.moved, self.adams = moved, list(self._look_up(moved))

    def _step(self, gradients: Gradients) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None  # the next gradients are written where these were, which caches still hold

    def _look_up(self, moved: list[bool]) -> "Iterator[_FusedAdam]":
        end = 0
        for group in self.optimizer.param_groups:
            start, end = end, end + len(group["params"])
            places = [place for place in range(start, end) if moved[place]]
            parameters = [self.parameters[place] for place in places]
            states = [self.optimizer.state[parameter] for parameter in parameters]
            if states:
                held = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
                yield _FusedAdam(group, places, parameters, *held)


class _FusedAdam(NamedTuple):
    """Adam's step for one group of parameters."""

    group: dict[str, Any]
    places: list[int]
    parameters: list[Tensor]
    first_moments: list[Tensor]
    second_moments: list[Tensor]
    steps: list[Tensor]

    @torch.no_grad()
    def step(self, gradients: Gradients) -> None:
        torch._foreach_add_(self.steps, 1)
        torch._fused_adam_(
            self.parameters,
            [gradient for place in self.places if (gradient := gradients[place]) is not None],
            self.first_moments,
            self.second_moments,
            [],  # of amsgrad
            self.steps,
            lr=self.group["lr"],
            beta1=self.group["betas"][0],
            beta2=self.group["betas"][1],
            weight_decay=self.group["weight_decay"],
            eps=self.group["eps"],
            amsgrad=False,
            maximize=self.group["maximize"],
        )


def _is_fused_adam_on_a_cpu(optimizer: torch.optim.Optimizer) -> bool:
    return type(optimizer) is torch.optim.Adam and all(
        group["fused"] and not group["amsgrad"] and all(p.device.type == "cpu" for p in group["params"])
        for group in optimizer.param_groups
    )


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """A gradient that lies in memory as its parameter does, which fused optimizers take for granted, but beside it."""
    if gradient.stride() == parameter.stride() and gradient is not parameter:
        return gradient
    return torch.empty_like(parameter).copy_(gradient)
