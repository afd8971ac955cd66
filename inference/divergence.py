"""Where a number stopped being finite."""

import torch

from .batches import Batch
from .estimators import Estimator
from .pair import Pair
from .randomness import RandomState, set_random_state
from .sites import Program


class DivergenceError(ArithmeticError):
    """Training met a number that is not finite; the pair holds the parameters of the last good epoch."""


def culprit(estimator: Estimator, model: Program, guide: Program, batch: Batch, noise: RandomState, pair: Pair) -> str:
    """The first site whose log density is not finite in a step, and the first parameter whose gradient is not.

    Args:
        estimator, model, guide, batch: the step.
        noise: the random state before it.
        pair: the parameters, as they were before it.
    """
    set_random_state(noise)
    draws = estimator.draw(model, guide, *batch)
    values = {f"log q at site '{z.name}'": z.log_q for z in draws.latents}
    values |= {f"log p at site '{z.name}'": z.log_p for z in draws.latents}
    values["log p at the observed sites"] = draws.log_likelihood
    sites = [name for name, value in values.items() if not torch.isfinite(value).all()]
    set_random_state(noise)
    estimator.loss_and_grads(model, guide, *batch)
    gradients = {name: p.grad for name, p in pair.parameters.items() if p.grad is not None}
    bad = [f"the gradient of parameter '{n}'" for n, g in gradients.items() if not torch.isfinite(g).all()]
    return ", ".join(sites[:1] + bad[:1]) or "an update of the optimizer"
