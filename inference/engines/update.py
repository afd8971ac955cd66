"""Moving parameters by their gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .adam import FusedAdam, Gradients


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
        self.by_hand = _is_fused_adam_on_a_cpu(self.optimizer)
        self.own = {parameter.untyped_storage()._cdata for parameter in self.parameters}
        self.moved: list[bool] | None = None
        self.adams: list[FusedAdam] = []

    @torch.no_grad()
    def __call__(self, gradients: Gradients, rate: float | Tensor) -> None:
        """Move the parameters; one without a gradient stays where it is, and so does its state."""
        laid_out = self.laid_out(gradients)
        if adams := self.adams_of([gradient is not None for gradient in laid_out], rate):
            for adam in adams:
                adam.step(laid_out, rate)
        else:
            self._step(laid_out)

    def adams_of(self, moved: list[bool], rate: float | Tensor) -> list[FusedAdam]:
        """What is to move these parameters next, at this rate; nothing where the optimizer is another than torch's
        fused Adam on a CPU, or has not moved them before."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if moved != self.moved and self.by_hand and self._has_states(moved):
            self.moved, self.adams = moved, self._look_up(moved)
        return self.adams if moved == self.moved else []

    def are_alone(self, held: Sequence[Tensor], gradients: Gradients) -> bool:
        """Whether no two parameters share memory, nor one with a gradient, or with something else that is held."""
        parameters = set(map(id, self.parameters))
        others = [tensor for tensor in (*held, *gradients) if tensor is not None and id(tensor) not in parameters]
        return len(self.own) == len(parameters) and not any(map(self._owns, others))

    def _owns(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.own

    def laid_out(self, gradients: Gradients) -> Gradients:
        """Gradients that lie in memory as their parameters do, which fused optimizers take for granted, and beside all
        parameters: that of 0.5 w^2 is w itself, those of v w are w and v."""

        def is_fit(gradient: Tensor, parameter: Tensor) -> bool:
            return gradient.stride() == parameter.stride() and not self._owns(gradient)

        pairs = zip(gradients, self.parameters, strict=True)
        return [g if g is None or is_fit(g, p) else torch.empty_like(p).copy_(g) for g, p in pairs]

    def _has_states(self, moved: list[bool]) -> bool:
        """Whether the optimizer has made a step of these parameters."""
        return all(self.optimizer.state.get(p) for p, is_moved in zip(self.parameters, moved, strict=True) if is_moved)

    def _step(self, gradients: Gradients) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
            if self.by_hand and "step" in (state := self.optimizer.state.get(parameter, {})):
                state["step"] = state["step"].clone()  # it may be one for all
        self.optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None  # the next gradients are written where these were, which caches still hold
        self.moved, self.adams = None, []  # the counts that they move are no longer the optimizer's

    def _look_up(self, moved: list[bool]) -> list[FusedAdam]:
        """An Adam for all parameters of the same settings that have made as many steps."""
        groups = [group for group in self.optimizer.param_groups for _ in group["params"]]
        alike: dict[tuple[Any, ...], list[int]] = {}
        for place, (group, parameter) in enumerate(zip(groups, self.parameters, strict=True)):
            if moved[place]:
                settings = (*group["betas"], group["weight_decay"], group["eps"], group["maximize"])
                steps = self.optimizer.state[parameter]["step"].item()
                alike.setdefault((parameter.dtype, steps, *settings), []).append(place)
        return [self._fused(places, *settings) for (_, _, *settings), places in alike.items()]

    def _fused(self, places: list[int], beta1: float, beta2: float, decay: float, eps: float, up: bool) -> FusedAdam:
        parameters = [self.parameters[place] for place in places]
        states = [self.optimizer.state[parameter] for parameter in parameters]
        steps = states[0]["step"].clone()
        for state in states:
            state["step"] = steps  # one for all, moved once
        first_moments, second_moments = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
        settings = {"beta1": beta1, "beta2": beta2, "weight_decay": decay, "eps": eps, "maximize": up}
        return FusedAdam(places, parameters, first_moments, second_moments, steps, settings)


def _is_fused_adam_on_a_cpu(optimizer: torch.optim.Optimizer) -> bool:
    return type(optimizer) is torch.optim.Adam and all(
        group["fused"] and not group["amsgrad"] and all(p.device.type == "cpu" for p in group["params"])
        for group in optimizer.param_groups
    )
