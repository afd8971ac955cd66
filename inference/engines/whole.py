"""A step and Adam's after it, compiled as one function."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..batches import Batch
from .adam import FusedAdam, factors, move
from .inductor import Flat, compile_graph, example_inputs
from .step import Outcome
from .trace import CannotReplay


class Whole:
    """The outcome of a batch, by which parameters and Adam's moments have moved when it is returned.

    Args:
        step: whose gradients lie in no parameter's memory.
        adams: of all parameters that have a gradient, each in memory of its own.

    Raises:
        Exception: whatever Inductor raises.
    """

    def __init__(self, step: Flat, adams: Sequence[FusedAdam]) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

        self.step = step
        self.settings = self._bind(adams)
        entering = example_inputs(step.graph)[: -len(step.held)]
        tensors = [tensor.detach() for tensor in self.tensors]
        with torch.no_grad():
            graph = make_fx(self._moving, tracing_mode="fake")(self._factors(adams, 0.1), *entering, *tensors)
        self.function = compile_graph(graph)

    @torch.no_grad()
    def __call__(self, beta: Tensor, batch: Batch, rate: float, adams: Sequence[FusedAdam]) -> Outcome:
        """Take a step, by the states that Adam has now.

        Raises:
            CannotReplay: its settings are others than those that were compiled.
        """
        if adams is not self.adams and self._bind(adams) != self.settings:
            raise CannotReplay("the optimizer's settings have changed")
        for adam in adams:
            adam.count.add_(1)
        results = self.function(self._factors(adams, rate), beta, *batch, *self.step.draw(), *self.tensors)
        return self.step.outcome(*results)

    def _bind(self, adams: Sequence[FusedAdam]) -> list[dict[str, Any]]:
        """Take the tensors of a step, besides those that enter, from these; their settings, by parameter."""
        self.adams = adams
        states, settings = {}, {}
        for adam in adams:
            moments = adam.first_moments, adam.second_moments
            for place, *state in zip(adam.places, adam.parameters, *moments, strict=True):
                states[place], settings[place] = state, adam.settings
        self.places = sorted(states)
        self.states = [states[place] for place in self.places]
        moved = (tensor for state in self.states for tensor in state)
        self.tensors = list({id(tensor): tensor for tensor in (*self.step.held, *moved)}.values())
        return [settings[place] for place in self.places]

    def _factors(self, adams: Sequence[FusedAdam], rate: float) -> Tensor:
        rows = {place: row for adam in adams for row in (factors(adam, rate),) for place in adam.places}
        return torch.tensor([rows[place] for place in self.places], dtype=torch.float64)

    def _moving(self, factors: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What is compiled."""
        tensors = dict(zip(map(id, self.tensors), inputs[-len(self.tensors) :], strict=True))
        states = [[tensors[id(tensor)] for tensor in state] for state in self.states]
        outcome = self.step.graph(*inputs[: len(inputs) - len(self.tensors) + len(self.step.held)])
        for (w, m, v), g, own, settings in zip(states, outcome[1:], factors.unbind(), self.settings, strict=True):
            move(w, m, v, g, own, settings)
        return outcome
