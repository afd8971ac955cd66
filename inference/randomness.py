"""Random streams: which ones a run has, and how the global ones are left alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

RandomState = tuple[Tensor, ...]


def random_streams(seed: int) -> tuple[int, int, int]:
    """Seeds of the three independent streams of a run: the order of the data, their own noise, and that of z.

    One seed for all three would correlate the pixels' noise with the latents'.
    """
    order, pixels, latents = np.random.SeedSequence(seed).generate_state(3, np.uint64) >> np.uint64(1)
    return int(order), int(pixels), int(latents)


@contextmanager
def forked_rng(seed: int | None = None) -> Iterator[None]:
    """Leave PyTorch's global random streams, of the CPU and of every GPU, as they were found."""
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def random_state() -> RandomState:
    """The state of the global random streams: the CPU's, then each GPU's."""
    return (torch.get_rng_state(), *torch.cuda.get_rng_state_all())


def set_random_state(state: RandomState) -> None:
    """Put a state back."""
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(list(state[1:]))


class Noise:
    """The noise of one run of a program, to run it on again: the streams' states; while ``taped``, what was drawn."""

    def __init__(self) -> None:
        self.tape = _Tape() if _taped.get() else None
        self.state = None if self.tape else random_state()

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Run a program here first."""
        if self.tape is None:
            yield
        else:
            with self.tape:
                yield

    @contextmanager
    def again(self) -> Iterator[None]:
        """Run it here again, on the same noise; the streams are left as they were."""
        if self.tape is not None:
            with self.tape.played():
                yield
        else:
            assert self.state is not None
            with forked_rng():
                set_random_state(self.state)
                yield


_taped: ContextVar[bool] = ContextVar("taped", default=False)


@contextmanager
def taped() -> Iterator[None]:
    """Keep noise as what was drawn: what is traced here has no other way to draw the same twice."""
    token = _taped.set(True)
    try:
        yield
    finally:
        _taped.reset(token)


class _Tape(TorchDispatchMode):
    """Records what random operations draw, and plays it back."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[tuple[Any, Any]] = []
        self.position: int | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **(kwargs or {}))
        return (self._draw if self.position is None else self._play)(func, args, kwargs or {})

    def _draw(self, func: Any, args: Any, kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        kept = result.clone() if func._schema.is_mutable else result
        self.drawn.append((func, kept))
        return result

    def _play(self, func: Any, args: Any, kwargs: Any) -> Any:
        assert self.position is not None
        recorded, result = self.drawn[self.position]
        if recorded is not func:
            raise RuntimeError(f"the second run of a program draws by {func}, the first by {recorded}")
        self.position += 1
        return args[0].copy_(result) if func._schema.is_mutable else result

    @contextmanager
    def played(self) -> Iterator[None]:
        self.position = 0
        with self:
            yield
        self.position = None
