"""Whether a replayed step is what the pair computes."""

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from .step import Outcome
from .trace import WrongReplay

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
GRADIENT_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of a gradient's norm. Its terms cancel, so that a product's last bits are seen sooner than in a bound."""


def compare(outcome: Outcome, expected: Outcome) -> None:
    """Check a replayed step against the pair's own, on the same noise.

    Raises:
        WrongReplay: sums or gradients differ by more than the last bits of their dtype.
    """
    sums, expected_sums = outcome.sums, expected.sums
    if not torch.isfinite(expected_sums).all():
        return  # training diverges, and says so
    tolerance = TOLERANCE.get(sums.dtype, 1e-2)
    if not (sums - expected_sums).abs().max() <= tolerance * expected_sums.abs().max():
        raise WrongReplay(f"a replayed step has the sums {sums.tolist()}, the pair {expected_sums.tolist()}")
    if [g is None for g in outcome.gradients] != [g is None for g in expected.gradients]:
        raise WrongReplay("a replayed step has gradients for other parameters than the pair")
    pairs = zip(outcome.gradients, expected.gradients, strict=True)
    gradients = [(g, e) for g, e in pairs if g is not None and e is not None]
    norms = torch.stack([e.norm() for _, e in gradients])
    errors = torch.stack([(g - e).norm() for g, e in gradients])
    if not (errors <= GRADIENT_TOLERANCE.get(sums.dtype, 1e-1) * (norms + 1e-3 * norms.norm())).all():
        worst = int((errors / norms).argmax())
        raise WrongReplay(
            f"a replayed step has a gradient of shape {tuple(gradients[worst][1].shape)} that differs from the "
            f"pair's by {errors[worst] / norms[worst]:.1e} of its norm"
        )


class Kept:
    """Tensors that a program may write to, as they are now; they can be put back, and are after a ``with`` block."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        self.tensors = list(tensors)
        self.values = self.now()

    @torch.no_grad()
    def now(self) -> list[Tensor]:
        """Copies of them."""
        return [tensor.clone() for tensor in self.tensors]

    @torch.no_grad()
    def put_back(self) -> None:
        """Write what they were into those that have changed."""
        for tensor, value in zip(self.tensors, self.values, strict=True):
            if not torch.equal(tensor, value):
                tensor.copy_(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.put_back()
