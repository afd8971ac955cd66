"""Replaying a step whose small operations are compiled, in runs long enough to pay for that."""

from typing import Any

import torch

from ..batches import Batch
from ..randomness import forked_rng, random_state, set_random_state
from .adam import Adam, CompiledAdam, FusedAdam, Gradients
from .check import compare
from .fast import Fast
from .inductor import CannotCompile, by_inductor
from .step import Step
from .trace import CannotReplay, WrongReplay, in_a_line

COMPILED_AT = 100
"""The number of steps that are replayed as they are: the first is there at once, and a run that fails early does."""


class Compiled(Fast):
    """Replays as :class:`Fast` does, from step 100 on with Adam's step and what lies between matrix products compiled.

    That takes two seconds where TorchInductor's cache holds the same step, and up to sixteen where this machine has
    never compiled one. What cannot be compiled is replayed as it is, by an engine that is then called ``fast``; with
    ``only``, it is not.
    """

    def __init__(self, step: Step, batch_size: int, seed: int, *, only: bool) -> None:
        super().__init__(step, batch_size, seed)
        self.only = only
        self.adam_reason: str | None = None
        self.give_up(None)

    def give_up(self, reason: str | None) -> None:
        """Replay the step as it is, for a reason."""
        self.reason, self.name = reason, "fast" if reason else "compiled"

    def prepare(self, number: int, batch: Batch) -> None:
        """Compile a step that is not yet when it is time to, and have it compared with the pair's own again."""
        if self.module is None or number < COMPILED_AT:
            return
        try:
            if not self.reason:
                self._compile(batch)
                self.note += f", the rest compiled from step {COMPILED_AT} on"
                self.traced_at = self.check_next = number
        except CannotCompile as reason:
            if self.only:
                raise CannotReplay(f"it cannot be compiled: {reason}") from reason
            self.give_up(str(reason))
        if self.reason:
            self.note += f"; not compiled: {self.reason}"
        self.module = None

    def adam(self, adam: FusedAdam, gradients: Gradients) -> Adam:
        """Adam's step compiled, once the step is."""
        if self.graph is None or self.module is not None or self.reason or self.adam_reason:
            return adam
        try:
            with forked_rng():
                return CompiledAdam(adam, gradients)
        except Exception as error:  # whatever it is, torch's own is the same step
            self.adam_reason = in_a_line(error)
            self.note += f"; a step of Adam not compiled: {self.adam_reason}"
            return adam

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to compute the same bits."""
        return super().state() | {"reason": self.reason, "adam_reason": self.adam_reason}

    @torch.no_grad()
    def _compile(self, batch: Batch) -> None:
        assert self.module is not None
        noise = random_state()
        expected = self.replay(self._beta, batch)
        set_random_state(noise)
        try:
            graph = by_inductor(self.module)
            compare(graph(self._beta, *batch), expected)
        except (CannotCompile, WrongReplay) as reason:
            raise CannotCompile(str(reason)) from reason
        except Exception as error:  # whatever it is, the graph can be replayed as it is
            raise CannotCompile(in_a_line(error)) from error
        finally:
            set_random_state(noise)
        self.graph = graph
