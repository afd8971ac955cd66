"""Replaying a step whose small operations are compiled, in runs long enough to pay for that."""

from typing import Any

import torch

from ..batches import Batch
from ..randomness import random_state, set_random_state
from .adam import check_moved
from .check import Kept, compare
from .fast import Fast
from .inductor import CannotCompile, by_inductor, flat
from .step import Outcome, Step
from .trace import CannotReplay, WrongReplay, in_a_line
from .update import Update
from .whole import Whole

COMPILED_AT = 100
"""The number of steps that are replayed as they are: the first is there at once, and a run that fails early does."""


class Compiled(Fast):
    """Replays as :class:`Fast` does, from step 100 on with what lies between matrix products compiled, and Adam's step.

    That takes two seconds where TorchInductor's cache holds the same step, and up to sixteen where this machine has
    never compiled one. What cannot be compiled is replayed as it is, by an engine that is then called ``fast``; with
    ``only``, it is not.
    """

    def __init__(self, step: Step, batch_size: int, seed: int, *, only: bool) -> None:
        super().__init__(step, batch_size, seed)
        self.only = only
        self.whole: Whole | None = None
        self.give_up(None)

    def give_up(self, reason: str | None) -> None:
        """Replay the step as it is, for a reason."""
        self.reason, self.name = reason, "fast" if reason else "compiled"

    def prepare(self, number: int, batch: Batch, rate: float, update: Update) -> None:
        """Compile a step that is not yet when it is time to, and have it compared with the pair's own again."""
        if self.module is None:
            return
        self.whole = None
        if number < COMPILED_AT:
            return
        try:
            if not self.reason:
                if not self._compile(batch, rate, update):
                    return
                self.note += f", the rest compiled from step {COMPILED_AT} on"
                self.traced_at = self.check_next = number
        except CannotCompile as reason:
            if self.only:
                raise CannotReplay(f"it cannot be compiled: {reason}") from reason
            self.give_up(str(reason))
        if self.reason:
            self.note += f"; not compiled: {self.reason}"
        self.module = None

    def replayed(self, batch: Batch, rate: float, update: Update) -> Outcome:
        """A step by its graph, or by the function that moves parameters besides; unchecked."""
        if self.whole is None:
            return super().replayed(batch, rate, update)
        adams = update.adams_of(self.whole.step.given, rate)
        try:
            return self.whole(self._beta, batch, rate, adams)
        except CannotReplay:
            raise
        except Exception as error:  # whatever it is, running the pair will say it better, or do without
            raise CannotReplay(f"the compiled step cannot be taken: {in_a_line(error)}") from error

    def compared(self, beta: float, batch: Batch, rate: float, update: Update) -> Outcome:
        """A step that the pair is seen to agree with, and torch's Adam with its own."""
        if self.whole is None:
            return super().compared(beta, batch, rate, update)
        adams = update.adams_of(self.whole.step.given, rate)
        before = [adam.copy() for adam in adams]
        outcome = self.agreed(beta, batch, lambda: self.replayed(batch, rate, update))
        check_moved(adams, before, update.laid_out(outcome.gradients), rate)
        return outcome

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to compute the same bits."""
        return super().state() | {"reason": self.reason}

    @torch.no_grad()
    def _compile(self, batch: Batch, rate: float, update: Update) -> bool:
        """Whether it was time to: a parameter that Adam has never moved, it has to move once first."""
        assert self.module is not None
        noise = random_state()
        expected = self.replay(self._beta, batch)
        set_random_state(noise)
        try:
            step = flat(self.module)
            adams = update.adams_of(step.given, rate)
            if not adams and update.by_hand and any(step.given):
                return False
            if adams and update.are_alone([*step.held, *self._keep(self.python).tensors], expected.gradients):
                whole, before = Whole(step, adams), [adam.copy() for adam in adams]
                with Kept(tensor for adam in adams for tensor in adam.tensors()):
                    outcome = whole(self._beta, batch, rate, adams)
                    compare(outcome, expected)
                    check_moved(adams, before, update.laid_out(outcome.gradients), rate)
                self.whole = whole
            else:
                graph = by_inductor(step)
                compare(graph(self._beta, *batch), expected)
                self.graph = graph
        except (CannotCompile, WrongReplay) as reason:
            raise CannotCompile(str(reason)) from reason
        except Exception as error:  # whatever it is, the graph can be replayed as it is
            raise CannotCompile(in_a_line(error)) from error
        finally:
            set_random_state(noise)
        return True
