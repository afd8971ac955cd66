"""How the steps of a run are computed."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..batches import Batch
from .check import Kept
from .step import Outcome, Step
from .update import Update


class Engine(ABC):
    """Takes the steps of one run.

    Attributes:
        name: ``svi``, ``fast`` or ``compiled``.
        note: why it is not ``fast``, or how it is.
        checks: how often its steps have been compared with the pair's own.
        graph: what it replays, where it does.
        kept: the tensors that the pair may write to, as they were before the epoch.
    """

    name: str
    note: str = ""
    checks: int = 0
    graph: Callable[..., Any] | None = None
    kept: Kept | None = None

    def __init__(self, step: Step) -> None:
        self.step = step

    @abstractmethod
    def begin_epoch(self) -> None:
        """Called before the first step of each epoch: in between anybody may have changed the pair."""

    @abstractmethod
    def advance(self, number: int, beta: float, batch: Batch, rate: float, update: Update) -> Tensor:
        """Step ``number`` of the run: the sums of its :class:`Outcome`, by whose gradients parameters have moved.

        Raises:
            CannotReplay: the epoch has to be done anew, by running the pair.
        """

    def run(self, beta: float, batch: Batch, rate: float, update: Update) -> Tensor:
        """A step by running the pair."""
        outcome = self.step(beta, *batch)
        update(outcome.gradients, rate)
        return outcome.sums

    def launches(self, number: int) -> bool:
        """Whether the steps from this number on may be replayed without asking for each."""
        return False

    def replay(self, beta: Tensor, batch: Batch) -> Outcome:
        """The outcome of a step by its graph, unchecked."""
        raise NotImplementedError

    def is_due(self, number: int) -> bool:
        """Whether a step up to this number is to be compared with the pair's own."""
        return False

    def checked(self, number: int) -> None:
        """The steps up to this number have been compared."""
        self.checks += 1

    def state(self) -> dict[str, Any]:
        """What a resumed run needs to compute the same bits."""
        return {"name": self.name, "note": self.note}
