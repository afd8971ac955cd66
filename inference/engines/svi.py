"""Running the pair at every step."""

from ..batches import Batch
from .engine import Engine
from .step import Outcome, Step


class SVI(Engine):
    """Runs model and guide at every step, through Pyro's handlers."""

    name = "svi"

    def __init__(self, step: Step, note: str) -> None:
        super().__init__(step)
        self.note = note

    def begin_epoch(self) -> None:
        """Nothing is kept that could have become stale."""

    def __call__(self, number: int, beta: float, batch: Batch) -> Outcome:
        """Run the pair."""
        return self.step(beta, *batch)
