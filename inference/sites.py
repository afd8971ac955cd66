"""The sites of a trace: which are drawn and which are data, and what a log density of theirs is worth per datum."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Independent

from ..models.errors import InputError

Program = Any  # a callable that contains Pyro primitives; the batch goes in as its positional arguments
Site = Any  # a sample site of a Pyro trace: its message, a dictionary


@dataclass(frozen=True)
class Plate:
    """The plate ``data``: its dimension, the B data of this batch, the N that they stand for.

    ``sample_dim`` is the dimension of the L samples, to the left of every plate, or None where one is drawn. Both
    dimensions are negative. Where a guide's discrete latents are enumerated, ``choices`` is the probability q of each
    combination of their values, to the left of all plates.
    """

    dim: int
    batch: int
    size: int
    sample_dim: int | None = None
    choices: Tensor | None = None

    @classmethod
    def of(cls, model_trace: Trace, sample_dim: int | None = None, choices: Tensor | None = None) -> "Plate":
        """Find the plate in a trace of the model."""
        for site in sample_sites(model_trace):
            for frame in site["cond_indep_stack"]:
                if frame.name == "data" and frame.vectorized:
                    return cls(frame.dim, frame.size, frame.full_size or frame.size, sample_dim, choices)
        raise InputError(
            'The model has no plate named "data", so nats per datum are not defined. '
            'Observe x inside `with pyro.plate("data", len(x)):` or `pyro.plate("data", N, subsample=x)`.'
        )

    def sum_to(self, site: Site, value: Tensor) -> Tensor:
        """Sum a site's value over every plate but this one: ``(L, B)``, or ``(L, 1)`` for a global site.

        Where it depends on what is enumerated, that is its mean over the choices.
        """
        value = self._mean_over_choices(value) if in_plate(site) else value
        kept = {self.sample_dim, self.dim if in_plate(site) else None}
        summed = [dim for dim in range(-value.ndim, 0) if dim not in kept]
        value = value.sum(summed) if summed else value
        value = value if self.sample_dim else value.unsqueeze(0)
        return value if in_plate(site) else value.unsqueeze(-1)

    def _mean_over_choices(self, value: Tensor) -> Tensor:
        plates = max(-self.dim, -(self.sample_dim or 0))
        if self.choices is None or value.ndim <= plates:
            return value
        value = value * self.choices
        return value.sum(list(range(value.ndim - plates)))

    def nats(self, site: Site, log_density: Tensor) -> Tensor:
        """A site's log density per datum: undo the plate's N / B where it is local, divide by N where it is global."""
        share = self.batch / self.size if in_plate(site) else 1 / self.size
        value = self.sum_to(site, log_density)
        return value if share == 1 else value * share

    def spread(self, value: Tensor, event_dim: int) -> Tensor:
        """One number for each sample and datum, ``(L, B)``, shaped to multiply a local site's draws."""
        shape = [1] * max(-self.dim, -(self.sample_dim or 0))
        shape[self.dim] = self.batch
        if self.sample_dim:
            shape[self.sample_dim] = len(value)
        return value.reshape(*shape, *[1] * event_dim)


def latent_sites(trace: Trace) -> Iterator[Site]:
    """The sample sites of a trace that are drawn."""
    return (site for site in sample_sites(trace) if not site["is_observed"])


def sample_sites(trace: Trace) -> Iterator[Site]:
    """The sample sites of a trace, in order, without those that Pyro makes to subsample a plate."""
    return (
        site for site in trace.nodes.values() if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
    )


def data_sites(trace: Trace) -> Iterator[Site]:
    """The sample sites of a trace that observe data, without what ``pyro.deterministic`` only notes."""
    return (s for s in sample_sites(trace) if s["is_observed"] and not s["infer"].get("_deterministic"))


def in_plate(site: Site) -> bool:
    """Whether a site stands inside the plate ``data``: local if so, global if not."""
    return any(frame.name == "data" for frame in site["cond_indep_stack"])


def describe(fn: Any) -> str:
    """The name of a distribution's family, without Pyro's wrappers."""
    if fn is None:
        return "nothing: the site is auxiliary"
    while isinstance(fn, Independent) or (hasattr(fn, "base_dist") and type(fn).__name__ == "ExpandedDistribution"):
        fn = fn.base_dist
    return type(fn).__name__


def log_q_held(site: Site) -> Tensor:
    """log q at the site's value, held fixed; scaled and masked, of its batch shape."""
    try:
        value = site["fn"].log_prob(site["value"].detach(), *site["args"], **site["kwargs"])
    except (NotImplementedError, KeyError) as error:
        raise no_density(site) from error
    return scale_and_mask(value, site["scale"], site["mask"])


def no_density(site: Site) -> InputError:
    """What to say of a site whose log q cannot be had, or differentiated, at a given z."""
    return InputError(
        f"Site '{site['name']}': {describe(site['fn'])} has no log q of a given z that the guide's parameters move, "
        "which this estimator needs.\n  Use L_A, L_B_mixed or IWAE."
    )


def is_point(site: Site) -> bool:
    """Whether a site is a Delta."""
    return isinstance(_delta(site), Delta)


def is_moved(site: Site) -> bool:
    """Whether a site is a Delta that the guide's parameters move: all of its gradient is a path."""
    fn = _delta(site)
    return isinstance(fn, Delta) and (fn.v.requires_grad or fn.log_density.requires_grad)


def _delta(site: Site) -> Any:
    fn = site["fn"]
    while not isinstance(fn, Delta) and hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
