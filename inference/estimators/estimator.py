"""The form that all estimators share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pyro.infer import Trace_ELBO
from torch import Tensor

from ...models.errors import check_at_least
from ..draws import Draws, Program, draw, sample_sites
from ..randomness import forked_rng

KLPath = Literal["analytic", "monte-carlo", "none"]


@dataclass(frozen=True)
class Estimate:
    """What an estimator makes of a batch of B data, in nats per datum; bounds go up.

    ``bound`` ``(B,)`` is the value of the bound, to be maximised, with the weight beta on its KL. ``surrogate`` ``()``
    is what to differentiate: its gradient is the estimator's estimate of the gradient of the mean bound; its value
    means nothing. ``reconstruction`` and ``kl`` ``(B,)`` and ``kl_global`` ``()``, the KL of global latents divided by
    N, split the evidence lower bound: ``elbo`` is their difference, at beta = 1 whatever the bound. ``kl_path`` says
    for each latent site how its KL came about: ``analytic``, ``monte-carlo`` or ``none`` (no KL in the bound).
    """

    bound: Tensor
    surrogate: Tensor
    reconstruction: Tensor
    kl: Tensor
    kl_global: Tensor
    kl_path: dict[str, KLPath]

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound at beta = 1, ``(B,)``."""
        return self.reconstruction - self.kl - self.kl_global


class Estimator(Trace_ELBO, ABC):
    """A bound on log p(x) and an estimate of its gradient, for any Pyro pair; usable as ``loss=`` of Pyro's ``SVI``.

    An estimator is one method, :meth:`estimate`. As a Pyro loss it returns minus the mean bound, in nats per datum,
    where Pyro's own losses return the sum over all N data.

    Args:
        samples: L, the number of draws of z per datum; drawn at once, so that the encoder runs once.
        beta: the weight of the KL, of local and global latents alike; 1 makes it a bound on log p(x).
    """

    def __init__(self, *, samples: int = 1, beta: float = 1.0) -> None:
        self.samples = check_at_least(1, "samples", samples)
        self.beta = check_at_least(0.0, "beta", beta)
        self._pair: tuple[Program, Program] | None = None
        super().__init__(num_particles=samples, vectorize_particles=samples > 1)

    @abstractmethod
    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Run the pair on a batch and return its bound, ``(B,)`` in nats, and the surrogate of its gradient."""

    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Draws:
        """L draws of the pair on a batch."""
        if self._pair is None or self._pair[0] is not model or self._pair[1] is not guide:
            self._pair, self.max_plate_nesting = (model, guide), float("inf")  # plates may be deeper in another pair
        return draw(self, model, guide, *args, **kwargs)

    def _guess_max_plate_nesting(self, model: Program, guide: Program, args: Any, kwargs: Any) -> None:
        """Pyro's, without its log line, and without advancing the random stream: L samples see the noise of one."""
        with forked_rng(), torch.no_grad():
            traces = Trace_ELBO()._get_trace(model, guide, args, kwargs)
        dims = [f.dim for t in traces for s in sample_sites(t) for f in s["cond_indep_stack"] if f.vectorized]
        self.max_plate_nesting = -min(dims, default=0) + 1

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """A scalar whose value is minus the mean bound and whose gradient is minus the estimator's."""
        estimate = self.estimate(model, guide, *args, **kwargs)
        return -(estimate.bound.detach().mean() + estimate.surrogate - estimate.surrogate.detach())

    def loss_and_grads(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        """Minus the mean bound; adds the gradients to ``.grad``. Called by ``SVI.step``."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> float:
        """Minus the mean bound. Called by ``SVI.evaluate_loss``."""
        return -self.estimate(model, guide, *args, **kwargs).bound.mean().item()
