"""The steps of an epoch, algorithm 1 of Kingma and Welling (2013): a minibatch, its outcome, the optimizer."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..batches import Batch, Loader
from .engine import Engine
from .launch import STEPS, Launch, Record, cuda_graph
from .step import Outcome
from .trace import CannotReplay
from .update import Update

RECORDABLE = (torch.optim.Adam, torch.optim.SGD)
"""Optimizers whose step leaves nothing to Python that a recorded one would miss."""


class Loop:
    """Takes a run's steps, one after the other or, on a GPU, some to a launch.

    Args:
        engine: computes their outcomes.
        data: the minibatches, by their indices.
        optimizer: of all parameters of the step.
        batch_size: of a minibatch; an epoch's last one may be smaller.
        beta_at, rate_at: the weight of the KL and the learning rate, by a step's number.
    """

    def __init__(
        self,
        engine: Engine,
        data: Loader,
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        beta_at: Callable[[int], float],
        rate_at: Callable[[int], float],
    ) -> None:
        self.engine, self.data, self.optimizer, self.batch_size = engine, data, optimizer, batch_size
        self.beta_at, self.rate_at = beta_at, rate_at
        self.update = Update(optimizer, engine.step.parameters)
        on_gpu = data.device.type == "cuda" and isinstance(optimizer, RECORDABLE)
        self.record: Record | None = cuda_graph(data.generator) if on_gpu else None
        self.forget()

    def forget(self) -> None:
        """Record launches anew: the optimizer's state lives elsewhere now."""
        self.update.forget()
        self.launch: Launch | None = None
        self.launched: object = None
        for group in self.optimizer.param_groups:
            if self.record is not None and "capturable" in group:
                group["capturable"] = True

    def run(self, number: int, order: Tensor) -> Tensor:
        """The steps of an epoch, from this number on; the sums of bound, elbo, reconstruction, kl and kl_global."""
        totals = torch.zeros(5, device=self.data.device)
        minibatches = order.split(self.batch_size)
        done = 0
        while done < len(minibatches):
            several = minibatches[done : done + STEPS]
            if self._launches(number + done, several):
                totals += self._launch(number + done, several)
                done += STEPS
            else:
                totals += self.step(number + done, self.data[minibatches[done]])
                done += 1
        return totals

    def step(self, number: int, batch: Batch) -> Tensor:
        """One step; its sums."""
        return self.engine.advance(number, self.beta_at(number), batch, self.rate_at(number), self.update)

    def _update(self, outcome: Outcome, rate: Tensor) -> Tensor:
        self.update(outcome.gradients, rate)
        return outcome.sums

    def _launches(self, number: int, minibatches: tuple[Tensor, ...]) -> bool:
        """Whether so many steps can be done by one launch, which is recorded the first time."""
        if self.record is None:
            return False
        whole = len(minibatches) == STEPS and len(minibatches[-1]) == self.batch_size
        if not whole or not self.engine.launches(number):
            return False
        if self.launched is not self.engine.graph:
            try:
                self.launch, self.launched = self._recorded(self.record), self.engine.graph
            except CannotReplay as reason:
                self.record = None
                self.engine.note += f"; {reason}"
        return self.launch is not None

    def _recorded(self, record: Record) -> Launch:
        def advance(indices: Tensor, beta: Tensor, rate: Tensor) -> Tensor:
            return self._update(self.engine.replay(beta, self.data[indices]), rate)

        def run(indices: Tensor, beta: Tensor, rate: Tensor) -> Tensor:
            return self._update(self.engine.step(beta, *self.data[indices]), rate)

        dtype = self.engine.step.parameters[0].dtype
        return Launch(advance, run, self._held, self.batch_size, dtype, self.data.generator, record)

    def _launch(self, number: int, minibatches: tuple[Tensor, ...]) -> Tensor:
        assert self.launch is not None
        numbers = range(number, number + STEPS)
        betas, rates = [self.beta_at(n) for n in numbers], [self.rate_at(n) for n in numbers]
        if not self.engine.is_due(numbers[-1]):
            return self.launch(minibatches, betas, rates)
        sums = self.launch.checked(minibatches, betas, rates)
        self.engine.checked(numbers[-1])
        return sums

    def _held(self) -> list[Tensor]:
        """All that a step moves."""
        written = self.engine.kept.tensors if self.engine.kept else []
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*self.engine.step.parameters, *written, *(value for value in states if isinstance(value, Tensor))]
