"""Running the pair at every step."""

from torch import Tensor

from ..batches import Batch
from .engine import Engine
from .step import Step
from .update import Update


class SVI(Engine):
    """Runs model and guide at every step, through Pyro's handlers."""

    name = "svi"

    def __init__(self, step: Step, note: str) -> None:
        super().__init__(step)
        self.note = note

    def begin_epoch(self) -> None:
        """Nothing is kept that could have become stale."""

    def advance(self, number: int, beta: float, batch: Batch, rate: float, update: Update) -> Tensor:
        """Run the pair."""
        return self.run(beta, batch, rate, update)
