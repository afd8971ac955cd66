"""One step of training as a function of its batch."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..estimators import Estimator
from ..sites import Program


class Outcome(NamedTuple):
    """What a batch says.

    ``sums``, ``(5,)`` in nats, are those of bound, elbo, reconstruction, kl and kl_global over the batch;
    ``gradients`` those of minus the mean bound by each parameter, or None where the bound does not depend on it.
    """

    sums: Tensor
    gradients: tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Step:
    """The outcome of a batch, as a function of beta and the batch. It reads parameters and moves none."""

    estimator: Estimator
    model: Program
    guide: Program
    parameters: tuple[Tensor, ...]

    def __call__(self, beta: float | Tensor, *batch: Tensor) -> Outcome:
        """Run the pair and differentiate; beta is a tensor while this is traced."""
        self.estimator.beta = beta  # type: ignore[assignment]
        estimate = self.estimator.estimate(self.model, self.guide, *batch)
        gradients = torch.autograd.grad(-estimate.surrogate, self.parameters, allow_unused=True)
        kl_global = estimate.kl_global.expand_as(estimate.bound)
        per_datum = (estimate.bound, estimate.elbo, estimate.reconstruction, estimate.kl, kl_global)
        return Outcome(torch.stack(per_datum).detach().sum(1), gradients)
