"""The form that all estimators share."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from pyro.infer import Trace_ELBO
from pyro.infer.enum import get_importance_trace
from torch import Tensor

from ...models.errors import InputError, check_at_least
from ..brief import brief
from ..draws import Draws, Latent, Link, draw
from ..randomness import forked_rng
from ..sites import Program, describe, sample_sites

KLPath = Literal["analytic", "enumerated", "monte-carlo", "none"]


@dataclass(frozen=True)
class Target:
    """What an estimator is after: its bound and its gradient are two choices.

    ``bound`` names what the value is an unbiased estimate of; ``side`` says where that lies: ``below`` log p(x), or
    ``either`` side of it. ``model`` and ``guide`` name what the gradient, for the parameters of each, is an unbiased
    estimate of the gradient of. Estimators of one target can be ranked by their noise.
    """

    bound: str
    side: Literal["below", "either"]
    model: str
    guide: str


@dataclass(frozen=True)
class Estimate:
    """What an estimator makes of a batch of B data, in nats per datum; bounds go up.

    ``bound`` ``(B,)`` is the value of the bound, to be maximised, with the weight beta on its KL. ``surrogate`` ``()``
    is what to differentiate: its gradient is the estimator's estimate of the gradient of the mean bound; its value
    means nothing. ``reconstruction`` and ``kl`` ``(B,)`` and ``kl_global`` ``()``, the KL of global latents divided by
    N, split the evidence lower bound: ``elbo`` is their difference, at beta = 1 whatever the bound. ``kl_path`` says
    for each latent site how its KL came about: ``analytic``, ``enumerated`` (a sum over the values of a discrete
    latent), ``monte-carlo`` or ``none`` (no KL in the bound).
    """

    bound: Tensor
    surrogate: Tensor
    reconstruction: Tensor
    kl: Tensor
    kl_global: Tensor
    kl_path: dict[str, KLPath]

    @classmethod
    def of(cls, draws: Draws, bound: Tensor, surrogate: Tensor, kl_path: KLPath = "none") -> Self:
        """That of one who samples everything: reconstruction and KL are means over the L draws."""
        kl, kl_global = draws.sum_latents([z.log_q - z.log_p for z in draws.latents])
        return cls(
            bound=bound,
            surrogate=surrogate,
            reconstruction=draws.log_likelihood.mean(0),
            kl=kl.mean(0),
            kl_global=kl_global.mean(),
            kl_path={z.name: sampled(z) if kl_path == "monte-carlo" else kl_path for z in draws.latents},
        )

    @property
    def elbo(self) -> Tensor:
        """The evidence lower bound at beta = 1, ``(B,)``."""
        return self.reconstruction - self.kl - self.kl_global

    def __repr__(self) -> str:
        """Means and their standard errors over the data, in nats per datum."""
        parts = ("bound", "elbo", "reconstruction", "kl")
        figures = [f"{name} {brief(getattr(self, name))}" for name in parts]
        world = [f"kl_global {self.kl_global.item():.4g}"] if self.kl_global.any() else []
        return f"Estimate({', '.join(figures + world)}; n={len(self.bound)})"


class Estimator(Trace_ELBO, ABC):
    """A bound on log p(x) and an estimate of its gradient, for any Pyro pair; usable as ``loss=`` of Pyro's ``SVI``.

    An estimator is a :attr:`target` and one method, :meth:`estimate`. As a Pyro loss it returns minus the mean bound,
    in nats per datum, where Pyro's own losses return the sum over all N data.

    Args:
        samples: L or k, the number of draws of z per datum; drawn at once, so that the encoder runs once.
        beta: the weight of the KL, of local and global latents alike; 1 makes it a bound on log p(x).
    """

    has_beta: ClassVar[bool] = True
    """Whether there is a KL to weigh."""

    def __init__(self, *, samples: int = 1, beta: float = 1.0) -> None:
        self.samples = check_at_least(1, "samples", samples)
        self.beta = check_at_least(0.0, "beta", beta)
        self._pair: tuple[Program, Program] | None = None
        super().__init__(num_particles=samples, vectorize_particles=samples > 1)

    @property
    @abstractmethod
    def target(self) -> Target:
        """What is estimated."""

    @abstractmethod
    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """Run the pair on a batch and return its bound, ``(B,)`` in nats, and the surrogate of its gradient."""

    def draw(
        self,
        model: Program,
        guide: Program,
        *args: Any,
        hold: bool = False,
        link: Link | None = None,
        twice: bool = False,
        enumerate: bool = False,
        **kwargs: Any,
    ) -> Draws:
        """L draws of the pair on a batch; for what can be asked of them see :func:`~..draws.draw`."""
        if self._pair is None or self._pair[0] is not model or self._pair[1] is not guide:
            self._pair, self.max_plate_nesting = (model, guide), float("inf")  # plates may be deeper in another pair
        return draw(self, model, guide, args, kwargs, hold=hold, link=link, twice=twice, enumerate=enumerate)

    def references(self) -> "tuple[Estimator, ...]":
        """Less noisy estimators of the same target, whose mean over many draws is the truth, where it has a new one."""
        return ()

    def fresh(self) -> Self:
        """A copy of its settings, without what it has learned."""
        other = copy.copy(self)
        other._pair = None
        return other

    def parameters(self) -> dict[str, Tensor]:
        """What the estimator itself learns, by name, once it has seen a batch; most learn nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """All that it carries from one batch to the next."""
        return self.parameters()

    def _guess_max_plate_nesting(self, model: Program, guide: Program, args: Any, kwargs: Any) -> None:
        """Pyro's, without its log line, and without advancing the random stream: L samples see the noise of one."""
        with forked_rng(), torch.no_grad():
            traces = get_importance_trace("flat", float("inf"), model, guide, args, kwargs)
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


def sampled(z: Latent) -> KLPath:
    """How the KL of a latent comes about that is not taken in closed form."""
    return "enumerated" if z.is_enumerated else "monte-carlo"


def elbo(beta: float) -> Target:
    """The evidence lower bound, and its gradient."""
    name = "ELBO" if beta == 1 else f"ELBO, beta={beta:g}"
    return Target(name, "below" if beta >= 1 else "either", name, name)


def check_reparametrised(estimator: Estimator, draws: Draws, remedy: str) -> None:
    """Check that every latent has a gradient by the guide's parameters.

    Raises:
        InputError: a site has none; it is named with its distribution.
    """
    for z in draws.latents:
        if z.score is not None:
            raise InputError(
                f"{type(estimator).__name__} needs reparametrised latents.\n"
                f"  Site '{z.name}': {describe(z.guide_site['fn'])} is not.\n"
                f"  {remedy}"
            )
