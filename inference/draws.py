"""One run of a pair: the log densities of its sites, in nats per datum.

x enters, the guide draws z, the model scores both. What every estimator needs of that run stands here; what it makes of
it is the estimator's own line.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer import ELBO
from pyro.poutine import Trace
from torch import Tensor

from ..models.errors import InputError

Program = Any  # a callable that contains Pyro primitives; the batch goes in as its positional arguments
Site = Any  # a sample site of a Pyro trace: its message, a dictionary


@dataclass(frozen=True)
class Plate:
    """The plate ``data``: its dimension, the B data of this batch, the N that they stand for.

    ``sample_dim`` is the dimension of the L samples, to the left of every plate, or None where one is drawn. Both
    dimensions are negative.
    """

    dim: int
    batch: int
    size: int
    sample_dim: int | None = None

    @classmethod
    def of(cls, model_trace: Trace, sample_dim: int | None = None) -> "Plate":
        """Find the plate in a trace of the model."""
        for site in sample_sites(model_trace):
            for frame in site["cond_indep_stack"]:
                if frame.name == "data" and frame.vectorized:
                    return cls(frame.dim, frame.size, frame.full_size or frame.size, sample_dim)
        raise InputError(
            'The model has no plate named "data", so nats per datum are not defined. '
            'Observe x inside `with pyro.plate("data", len(x)):` or `pyro.plate("data", N, subsample=x)`.'
        )

    def sum_to(self, site: Site, value: Tensor) -> Tensor:
        """Sum a site's value over every plate but this one: ``(L, B)``, or ``(L, 1)`` for a global site."""
        kept = {self.sample_dim, self.dim if in_plate(site) else None}
        summed = [dim for dim in range(-value.ndim, 0) if dim not in kept]
        value = value.sum(summed) if summed else value
        value = value if self.sample_dim else value.unsqueeze(0)
        return value if in_plate(site) else value.unsqueeze(-1)

    def nats(self, site: Site, log_density: Tensor) -> Tensor:
        """A site's log density per datum: undo the plate's N / B where it is local, divide by N where it is global."""
        share = self.batch / self.size if in_plate(site) else 1 / self.size
        value = self.sum_to(site, log_density)
        return value if share == 1 else value * share


@dataclass(frozen=True)
class Latent:
    """A latent site and its draw; log densities in nats per datum, ``(L, B)``, or ``(L, 1)`` for a global site.

    Where z is not reparametrised, ``score`` is log q(z), the factor of a score-function gradient, and ``log_q`` has no
    gradient of its own (its mean is 0); elsewhere ``score`` is None.
    ``model_site`` is None, and ``log_p`` 0, for an auxiliary site of the guide.
    """

    name: str
    is_global: bool
    log_p: Tensor
    log_q: Tensor
    score: Tensor | None
    model_site: Site | None
    guide_site: Site


@dataclass(frozen=True)
class Draws:
    """L draws of every latent for each of B data; ``log_likelihood`` is log p(x|z), ``(L, B)``."""

    plate: Plate
    log_likelihood: Tensor
    latents: tuple[Latent, ...]

    def sum_latents(self, values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Sum one value for each latent over the local ones, ``(L, B)``, and over the global ones, ``(L, 1)``."""
        local, world = torch.zeros_like(self.log_likelihood), torch.zeros_like(self.log_likelihood[:, :1])
        for latent, value in zip(self.latents, values, strict=True):
            if latent.is_global:
                world = world + value
            else:
                local = local + value
        return local, world


def draw(elbo: ELBO, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Draws:
    """Run the guide, then the model on its draws, through Pyro's handlers.

    Args:
        elbo: says by ``num_particles`` how many samples are drawn; its ``_get_traces`` is Pyro's.
        model, guide: the pair.
        *args, **kwargs: the batch.
    """
    ((model_trace, guide_trace),) = elbo._get_traces(model, guide, args, kwargs)
    plate = Plate.of(model_trace, -int(elbo.max_plate_nesting) if elbo.num_particles > 1 else None)
    observed = [site for site in sample_sites(model_trace) if site["is_observed"]]
    log_likelihood = torch.stack([plate.nats(s, s["log_prob"]).expand(-1, plate.batch) for s in observed]).sum(0)
    latents = (_latent(site, model_trace.nodes.get(site["name"]), plate) for site in sample_sites(guide_trace))
    return Draws(plate, log_likelihood, tuple(latents))


def _latent(guide_site: Site, model_site: Site | None, plate: Plate) -> Latent:
    log_q, score, _ = guide_site["score_parts"]
    nats_q = plate.nats(guide_site, log_q)
    reparametrised = not isinstance(score, Tensor)  # Pyro's score part is then the number 0
    return Latent(
        name=guide_site["name"],
        is_global=not in_plate(guide_site),
        log_p=plate.nats(model_site, model_site["log_prob"]) if model_site else torch.zeros_like(nats_q),
        log_q=nats_q if reparametrised else nats_q.detach(),
        score=None if reparametrised else plate.sum_to(guide_site, score),
        model_site=model_site,
        guide_site=guide_site,
    )


def sample_sites(trace: Trace) -> Iterator[Site]:
    """The sample sites of a trace, in order, without those that Pyro makes to subsample a plate."""
    return (
        site for site in trace.nodes.values() if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
    )


def in_plate(site: Site) -> bool:
    """Whether a site stands inside the plate ``data``: local if so, global if not."""
    return any(frame.name == "data" for frame in site["cond_indep_stack"])
