"""Replaying what a pair says of held-out data."""

import gc
import random
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from ..batches import Batch
from ..randomness import random_state, set_random_state
from .check import TOLERANCE, Kept
from .emit import emit
from .graph import graph_of
from .products import fastest_library
from .python_state import changed, python_state, tensors
from .shorten import writes
from .trace import CannotReplay, WrongReplay, in_a_line

TRACED_AT, CHECKED_EVERY = 3, 100
MOST = 4
"""Graphs: of batches and of the last, smaller one, by samples and by the last, fewer ones."""
Shapes = tuple[tuple[torch.Size, torch.dtype], ...]


class Replay:
    """A function of a batch that runs a pair, replayed for batches of a shape that it has often seen; no gradients.

    As in training, the pair is traced twice and refused where it leaves Python changed, and the first replay and one in
    a hundred at random are compared with running it on the same noise.

    Args:
        function: of the tensors of a batch, to a tensor.
        programs: what it runs, by name.
        seed: of which replays are compared.
    """

    def __init__(self, function: Callable[..., Tensor], programs: dict[str, object], seed: int) -> None:
        self.function, self.programs = function, programs
        self.random = random.Random(seed)
        self.seen: Counter[Shapes] = Counter()
        self.graphs: dict[Shapes, Callable[..., Tensor]] = {}

    def __call__(self, *batch: Tensor) -> Tensor:
        """The function's value.

        Raises:
            CannotReplay: it has to be computed anew, and all others before it, by running the pair.
        """
        shapes = tuple((tensor.shape, tensor.dtype) for tensor in batch)
        self.seen[shapes] += 1
        is_first = shapes not in self.graphs
        if self.seen[shapes] < TRACED_AT or (is_first and len(self.graphs) == MOST):
            return self.function(*batch)
        if is_first:
            self.graphs[shapes] = self._trace(batch)
        is_due = is_first or self.random.randrange(CHECKED_EVERY) == 0
        return (self._compared if is_due else _replayed)(self.graphs[shapes], batch)

    def _trace(self, batch: Batch) -> Callable[..., Tensor]:
        before, noise = python_state(**self.programs), random_state()
        with Kept(tensors(before)):
            self.function(*batch)
            if path := changed(before, python_state(**self.programs)):
                raise CannotReplay(f"running the pair changes {path}, which a graph would not")
            set_random_state(noise)
            graph, _ = graph_of(self.function, *batch, products=fastest_library())
        gc.collect()  # what tracing twice has left, in cycles
        if writes(graph):
            raise CannotReplay("running the pair writes to tensors")
        return emit(graph)

    def forget(self) -> None:
        """Let go of the graphs, which are in cycles, and hold what they were traced on."""
        if self.graphs:
            self.graphs.clear()
            gc.collect()

    def _compared(self, graph: Callable[..., Tensor], batch: Batch) -> Tensor:
        noise = random_state()
        expected, expected_noise = self.function(*batch), random_state()
        set_random_state(noise)
        value = _replayed(graph, batch)
        if not all(map(torch.equal, random_state(), expected_noise)):
            raise WrongReplay("a replay draws other random numbers than the pair")
        finite = expected.isfinite()  # a draw may be beyond the support
        if not torch.equal(value[~finite], expected[~finite]):
            raise WrongReplay("a replay is not infinite where the pair is")
        error = (value - expected)[finite].abs()
        if not (error <= TOLERANCE.get(expected.dtype, 1e-2) * expected[finite].abs().max()).all():
            raise WrongReplay(f"a replay differs from the pair by {error.max():.2g}")
        return value


def _replayed(graph: Callable[..., Tensor], batch: Batch) -> Tensor:
    try:
        return graph(*batch)
    except Exception as error:  # whatever it is, running the pair will say it better, or do without
        raise CannotReplay(f"the graph cannot be replayed: {in_a_line(error)}") from error
