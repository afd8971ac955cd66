"""Running the pair once, and replaying what it did."""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from ..batches import Batch
from ..randomness import random_state, set_random_state
from .check import Kept, compare
from .emit import emit
from .engine import Engine
from .graph import graph_of
from .products import fastest_library
from .python_state import State, changed, python_state, tensors
from .step import Outcome, Step
from .trace import CannotReplay, WrongReplay, in_a_line
from .update import Update

CHECKED_FIRST, CHECKED_EVERY = 3, 1000
CHANGES = 5
"""How often a pair may be changed between epochs before it is trained by running it."""


class Fast(Engine):
    """Runs the pair once, and then replays the tensor operations that it did.

    The graph is of one step with full minibatches; an epoch's last and smaller batch runs the pair. Parameters,
    buffers, the batch, beta and the noise enter at each replay; everything else that Python computed is in the graph
    for good. So that this is never wrong in silence: the step is traced twice; a pair that leaves Python changed is
    refused; one that somebody changes between epochs is traced anew; and the first steps, and one in a thousand at
    random, are also computed by running the pair on the same noise, and compared.
    """

    name = "fast"

    def __init__(self, step: Step, batch_size: int, seed: int) -> None:
        super().__init__(step)
        self.batch_size, self.seed = batch_size, seed
        self.products: str | None = None  # the library of matrix products, once it is chosen
        self.module: GraphModule | None = None
        self.python: State = {}
        self.changes = 0

    def begin_epoch(self) -> None:
        """Trace the pair anew if somebody has changed it since, and note the tensors that it may write to."""
        python = self._python_state()
        self.kept = self._keep(python)
        if self.graph is not None and (path := changed(self.python, python)):
            self.graph = None
            self.changes += 1
            if self.changes > CHANGES:
                raise CannotReplay(f"{path} changes between epochs, and tracing anew would cost more than it saves")

    def advance(self, number: int, beta: float, batch: Batch, rate: float, update: Update) -> Tensor:
        """Replay the step; trace it first, or look at it twice, where it is time to."""
        if len(batch[0]) != self.batch_size:
            return self.run(beta, batch, rate, update)
        if self.graph is None:
            self.graph = self._trace(beta, batch)
            self.traced_at = self.check_next = number
        if _shapes(batch) != self.shapes:
            return self.run(beta, batch, rate, update)
        self._beta.fill_(beta)
        self.prepare(number, batch, rate, update)
        if not self.is_due(number):
            return self.replayed(batch, rate, update).sums
        outcome = self.compared(beta, batch, rate, update)
        self.checked(number)
        return outcome.sums

    def prepare(self, number: int, batch: Batch, rate: float, update: Update) -> None:
        """Called before each replay: a subclass may have found a better graph."""

    def replayed(self, batch: Batch, rate: float, update: Update) -> Outcome:
        """A step by its graph, unchecked."""
        outcome = self.replay(self._beta, batch)
        update(outcome.gradients, rate)
        return outcome

    def is_due(self, number: int) -> bool:
        """Whether a step up to this number is to be compared with the pair's own."""
        return number >= self.check_next

    def checked(self, number: int) -> None:
        """The first steps, and then one in a thousand: the next is up to two thousand away."""
        super().checked(number)
        gap = 1 + random.Random(f"{self.seed} {number}").randrange(2 * CHECKED_EVERY - 1)
        self.check_next = number + (1 if self._is_first(number + 1) else gap)

    def _is_first(self, number: int) -> bool:
        return number < self.traced_at + CHECKED_FIRST

    def launches(self, number: int) -> bool:
        """Once the first steps have been compared one by one."""
        return self.graph is not None and not self._is_first(number)

    def _trace(self, beta: float, batch: Batch) -> Callable[..., Any]:
        before, noise = self._python_state(), random_state()
        with self._keep(before):
            sums = self.step(beta, *batch).sums
            set_random_state(noise)
            self.python = self._python_state()
            if path := changed(before, self.python):
                raise CannotReplay(f"running the pair changes {path}, which a graph would not")
            self._beta = torch.tensor(beta, dtype=sums.dtype, device=sums.device)
            self.products = self.products or fastest_library()
            self.module, library = graph_of(self.step, self._beta, *batch, products=self.products)
        self.shapes, self.note = _shapes(batch), f"matrix products by {library}"
        return emit(self.module)

    def _python_state(self) -> State:
        state = python_state(model=self.step.model, guide=self.step.guide, estimator=self.step.estimator)
        for what in ("", ".requires_grad", " is"):
            state.pop(f"estimator.beta{what}", None)  # an input of the graph
        return state

    def _keep(self, python: State) -> Kept:
        """The tensors that running the pair might write to: all that it reaches, but what is trained."""
        trained = {id(parameter) for parameter in self.step.parameters}
        return Kept(tensor for tensor in tensors(python) if id(tensor) not in trained)

    @torch.no_grad()
    def replay(self, beta: Tensor, batch: Batch) -> Outcome:
        """The outcome of a step by its graph, unchecked."""
        assert self.graph is not None
        try:
            return Outcome(*self.graph(beta, *batch))
        except Exception as error:  # whatever it is, running the pair will say it better, or do without
            raise CannotReplay(f"the graph cannot be replayed: {in_a_line(error)}") from error

    def compared(self, beta: float, batch: Batch, rate: float, update: Update) -> Outcome:
        """A step by its graph, which the pair is seen to agree with."""
        outcome = self.agreed(beta, batch, lambda: self.replay(self._beta, batch))
        update(outcome.gradients, rate)
        return outcome

    def agreed(self, beta: float, batch: Batch, replay: Callable[[], Outcome]) -> Outcome:
        """What a replay returns, where running the pair on the same noise returns and leaves the same.

        Raises:
            WrongReplay: it does not.
        """
        noise = random_state()
        with self._keep(self.python) as kept:
            expected = self.step(beta, *batch)
            expected_noise, expected_values = random_state(), kept.now()
        set_random_state(noise)
        outcome = replay()
        if not all(map(torch.equal, random_state(), expected_noise)):
            raise WrongReplay("a replayed step draws other random numbers than the pair")
        compare(outcome, expected)
        for one, two in zip(kept.now(), expected_values, strict=True):
            if not torch.allclose(one, two, rtol=1e-4, atol=1e-6, equal_nan=True):
                raise WrongReplay(f"a replayed step leaves another tensor of shape {tuple(one.shape)} than the pair")
        return outcome

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to compute the same bits."""
        return super().state() | {"products": self.products}


def _shapes(batch: Batch) -> list[tuple[torch.Size, torch.dtype]]:
    return [(tensor.shape, tensor.dtype) for tensor in batch]
