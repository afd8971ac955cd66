"""What the wake-sleep family shares."""

from abc import ABC
from typing import Any, ClassVar

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from ...models.errors import InputError
from ..draws import Draws
from ..sites import Plate, Program, sample_sites
from .estimator import Estimate, Target
from .importance import ImportanceWeighted, iwae, log_mean_exp


class Reweighted(ImportanceWeighted, ABC):
    """Model and guide climb different objectives, neither by a path, so that any latents will do.

    The model's gradient is sum_i v_i grad log p(x, z_i), v_i = w_i / sum_j w_j: unbiased for E L_k of IWAE, and for
    log p(x) as k grows. The guide's is ``wake`` times sum_i v_i grad log q(z_i|x), which tends with k to the gradient
    of -KL(p(z|x) || q(z|x)) at the data, and for the rest grad log q(z|x) of a pair (z, x) that the model has dreamt,
    the gradient of the same at the model's own x.

    Args:
        samples: k, the number of draws of z per datum; one is dreamt for each.
    """

    wake: ClassVar[float]
    has_beta = False

    def __init__(self, *, samples: int = 5, beta: float = 1.0) -> None:
        super().__init__(samples=samples, beta=beta)
        if beta != 1:
            raise InputError(f"{type(self).__name__} has no KL to weigh: beta is 1; it is {beta:g}.")

    @property
    def target(self) -> Target:
        """The bound of IWAE for value and model; posteriors for the guide."""
        name = iwae(self.samples, 1.0)
        at = {1.0: "data", 0.0: "dreams"}.get(self.wake, "data and dreams")
        guide = f"-KL(p(z|x) || q(z|x)) at {at}"
        return Target(name, "below", name, guide)

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """The wake phase of the model, and those of the guide, on a batch."""
        draws = self.draw(model, guide, *args, hold=True, **kwargs)
        log_w = draws.log_weights().detach()
        v = log_w.softmax(0)
        surrogate = (v * (draws.log_likelihood + draws.log_prior)).sum(0).mean()
        if self.wake:
            surrogate = surrogate + self.wake * draws.score_function(v)
        if self.wake < 1:
            surrogate = surrogate + (1 - self.wake) * dreamt(model, guide, draws, args, kwargs).mean()
        return Estimate.of(draws, log_mean_exp(log_w), surrogate)


def dreamt(model: Program, guide: Program, draws: Draws, args: Any, kwargs: Any) -> Tensor:
    """log q(z|x) of pairs (z, x) ~ p(z) p(x|z), one for each of B data, ``(B,)``.

    Raises:
        InputError: what the model observes is not an argument of the pair, so that a dream cannot take its place.
    """
    with torch.no_grad():
        dream = poutine.trace(poutine.uncondition(model)).get_trace(*args, **kwargs)
    latents = {z.name for z in draws.latents}
    values = {site["name"]: site["value"] for site in sample_sites(dream)}
    if alien := sorted(latents - values.keys()):
        raise InputError(f"The model cannot dream the latents {alien}, which only the guide has. Use WakeWake.")
    inputs, inputs_by_name = list(args), dict(kwargs)
    for site in draws.observed:
        place = next((i for i, value in enumerate(args) if value is site["value"]), None)
        name = next((n for n, value in kwargs.items() if value is site["value"]), None)
        if place is not None:
            inputs[place] = values[site["name"]]
        elif name is not None:
            inputs_by_name[name] = values[site["name"]]
        else:
            raise InputError(
                f"The sleep phase replaces data by dreams, but site '{site['name']}' observes no argument of the pair "
                "as it is.\n  Give the program what it observes, or use WakeWake."
            )
    program = poutine.trace(poutine.replay(guide, trace=dream))
    guide_trace = program.get_trace(*inputs, **inputs_by_name)
    return _log_q(guide_trace, latents, Plate.of(dream))


def _log_q(trace: Trace, latents: set[str], plate: Plate) -> Tensor:
    trace.compute_log_prob(lambda name, site: name in latents)
    parts = [plate.nats(site, site["log_prob"]) for name, site in trace.nodes.items() if name in latents]
    return torch.stack([part.expand(-1, plate.batch) for part in parts]).sum(0).squeeze(0)
