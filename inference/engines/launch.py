"""Several steps of training as one launch, for a GPU that is done before Python can ask for more."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..randomness import random_state, set_random_state
from .check import Kept
from .trace import CannotReplay, WrongReplay, in_a_line

STEPS = 20
TOLERANCE = 1e-3
"""Of the sums over a launch: the steps in it follow each other's last bits."""

Advance = Callable[[Tensor, Tensor, Tensor], Tensor]
"""One step: minibatch (indices, beta, learning rate), each a tensor on the device, to the sums of its bound."""
Record = Callable[[Callable[[], None]], Callable[[], Any]]
"""What makes of some work a function that does it again."""


class Launch:
    """A number of steps, recorded once with their data and their optimizer, and launched together.

    Indices, betas and learning rates are copied to where the recorded work reads them, the sums of the bound are added
    up where it writes them: within an epoch nothing waits for the device.

    Args:
        advance: does one step by replaying its graph.
        run: does one step by running the pair.
        held: all that a step moves: parameters, what the pair may write to, the optimizer's state.
        batch_size, dtype: of a minibatch and its sums.
        generator: of the data's own noise, on their device.
        record: records work; see :func:`cuda_graph`.
        steps: in a launch.
    """

    def __init__(
        self,
        advance: Advance,
        run: Advance,
        held: Callable[[], list[Tensor]],
        batch_size: int,
        dtype: torch.dtype,
        generator: torch.Generator,
        record: Record,
        steps: int = STEPS,
    ) -> None:
        self.run, self.held, self.generator, self.steps = run, held, generator, steps
        device = generator.device
        self.indices = torch.zeros(steps, batch_size, dtype=torch.long, device=device)
        self.betas, self.rates = (torch.zeros(steps, dtype=dtype, device=device) for _ in range(2))
        self.sums = torch.zeros(5, dtype=dtype, device=device)
        with self._afterwards_as_before():
            try:
                self.replay = record(lambda: self._work(advance))
            except RuntimeError as error:
                raise CannotReplay(f"the device cannot record a step: {in_a_line(error)}") from error

    def _work(self, advance: Advance) -> None:
        self.sums.zero_()
        for step in range(self.steps):
            self.sums += advance(self.indices[step], self.betas[step], self.rates[step])

    def __call__(self, indices: Sequence[Tensor], betas: list[float], rates: list[float]) -> Tensor:
        """Do the steps; their sums."""
        torch.stack(list(indices), out=self.indices)
        self._tell(betas, rates)
        self.replay()
        return self.sums.clone()

    def checked(self, indices: Sequence[Tensor], betas: list[float], rates: list[float]) -> Tensor:
        """Do the steps, and see that running the pair does the same.

        Raises:
            WrongReplay: it does not.
        """
        self._tell(betas, rates)
        with self._afterwards_as_before():
            steps = zip(indices, self.betas, self.rates, strict=True)
            expected = torch.stack([self.run(*step) for step in steps]).sum(0)
        sums = self(indices, betas, rates)
        if torch.isfinite(expected).all() and not (sums - expected).abs().max() <= TOLERANCE * expected.abs().max():
            raise WrongReplay(f"{self.steps} launched steps sum to {sums.tolist()}, the pair's to {expected.tolist()}")
        return sums

    def _tell(self, betas: list[float], rates: list[float]) -> None:
        for tensor, values in ((self.betas, betas), (self.rates, rates)):
            tensor.copy_(torch.tensor(values, dtype=tensor.dtype), non_blocking=True)

    @contextmanager
    def _afterwards_as_before(self) -> Iterator[None]:
        """Puts back, in place, all that steps move."""
        noise, own = random_state(), self.generator.get_state()
        try:
            with Kept(self.held()):
                yield
        finally:
            set_random_state(noise)
            self.generator.set_state(own)


def cuda_graph(*generators: torch.Generator) -> Record:
    """Records work as a CUDA graph, whose replays draw on from these generators and from the default one."""

    def record(work: Callable[[], None]) -> Callable[[], Any]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            work()  # so that libraries have made their handles and workspaces
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        for generator in generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    return record
