"""One run of a pair: the log densities of its sites, in nats per datum.

x enters, the guide draws z, the model scores both. What every estimator needs of that run stands here; what it makes of
it is the estimator's own line.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from pyro.infer.util import is_validation_enabled
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from pyro.util import check_model_guide_match
from torch import Tensor

from ..models.errors import InputError
from .enumeration import choices, enumerated, is_enumerated
from .randomness import Noise
from .sites import (
    Plate,
    Program,
    Site,
    data_sites,
    in_plate,
    is_moved,
    latent_sites,
    log_q_held,
    no_density,
)

Link = Callable[[Site], Tensor]  # what the model sees of a latent that the guide has drawn


@dataclass(frozen=True)
class Latent:
    """A latent site and its draw; log densities in nats per datum, ``(L, B)``, or ``(L, 1)`` for a global site.

    ``score`` is log q(z) as the factor of a score-function gradient, neither scaled nor masked nor in nats per datum,
    where z is not reparametrised or is held fixed; elsewhere it is None. ``follows_model`` says whether the guide has
    drawn, before this site, all that the model's p(z|...) of it depends on. ``model_site`` is None, and ``log_p`` 0,
    for an auxiliary site of the guide. Where a site is enumerated, densities are means over its values.
    """

    name: str
    is_global: bool
    follows_model: bool
    is_enumerated: bool
    log_p: Tensor
    log_q: Tensor
    score: Tensor | None
    model_site: Site | None
    guide_site: Site

    @property
    def path_log_q(self) -> Tensor:
        """``log_q`` as it enters a mean over q: without a gradient of its own, whose mean is 0, where z has none."""
        return self.log_q if self.score is None else self.log_q.detach()


@dataclass(frozen=True)
class Draws:
    """L draws of every latent for each of B data; ``log_likelihood`` is log p(x|z), ``(L, B)``."""

    plate: Plate
    log_likelihood: Tensor
    latents: tuple[Latent, ...]
    observed: tuple[Site, ...]
    guide_held: Callable[[], Trace] | None = None
    """Runs the guide once more, on the same noise, each draw held fixed."""

    def sum_latents(self, values: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Sum one value for each latent over the local ones, ``(L, B)``, and over the global ones, ``(L, 1)``."""
        local, world = torch.zeros_like(self.log_likelihood), torch.zeros_like(self.log_likelihood[:, :1])
        for latent, value in zip(self.latents, values, strict=True):
            if latent.is_global:
                world = world + value
            else:
                local = local + value
        return local, world

    @property
    def log_prior(self) -> Tensor:
        """log p(z) of local and global latents together, ``(L, B)``."""
        local, world = self.sum_latents([z.log_p for z in self.latents])
        return local + world

    def log_weights(self, beta: float | Tensor = 1.0) -> Tensor:
        """log w = log p(x|z) + beta (log p(z) - log q(z|x)), ``(L, B)``."""
        local, world = self.sum_latents([z.log_p - z.log_q for z in self.latents])
        return self.log_likelihood + beta * (local + world)

    def score_function(self, signal: Tensor) -> Tensor:
        """A number whose gradient is the score-function estimate: the sum over samples, the mean over data.

        Args:
            signal: what a draw earned, ``(L, B)`` or ``(B,)``; no gradient flows into it.
        """
        signal = signal.detach().expand_as(self.log_likelihood)
        terms = [
            ((signal.mean(1, keepdim=True) if z.is_global else signal) * z.score).sum(0).mean()
            for z in self.latents
            if z.score is not None
        ]
        return sum(terms, signal.new_zeros(()))

    def log_q_at_fixed_z(self) -> tuple[Tensor, Tensor]:
        """log q(z|x), local and global, with a gradient by the guide's parameters alone, z held fixed: of mean 0.

        A Delta that the parameters move is left out: it has no density to differentiate.
        """
        if not torch.is_grad_enabled():
            return self.sum_latents([torch.zeros_like(z.log_q) for z in self.latents])
        return self.sum_latents(
            [
                torch.zeros_like(z.log_q) if is_moved(site) else self.plate.nats(site, log_q_held(site))
                for z in self.latents
                for site in [self.held_sites[z.name]]
            ]
        )

    @cached_property
    def held_sites(self) -> dict[str, Site]:
        """The guide's sites with z held fixed.

        With one latent its distribution cannot depend on a draw. With several, the second may depend on the first, and
        the guide is run again.
        """
        if len(self.latents) == 1 or self.guide_held is None:
            return {z.name: z.guide_site for z in self.latents}
        again = {site["name"]: site for site in latent_sites(self.guide_held())}
        if is_validation_enabled():
            for z in self.latents:
                if not torch.equal(again[z.name]["value"], z.guide_site["value"]):
                    raise InputError(
                        f"Site '{z.name}': the guide draws another value when it is run again on the same noise.\n"
                        "  Use L_A or IWAE, which run it once."
                    )
        return again


def draw(
    elbo: ELBO,
    model: Program,
    guide: Program,
    args: Any,
    kwargs: Any,
    *,
    hold: bool = False,
    link: Link | None = None,
    twice: bool = False,
    enumerate: bool = False,
) -> Draws:
    """Run the guide, then the model on its draws, through Pyro's handlers.

    Args:
        elbo: says by ``num_particles`` how many samples are drawn.
        model, guide: the pair.
        args, kwargs: the batch.
        hold: hold each draw fixed: nothing is differentiated through it, and every latent has a score.
        link: what the model sees of each latent, to change the gradient that comes back: the value by default.
        twice: keep the noise, so that the guide can be run again with its draws held fixed.
        enumerate: give the guide's sites marked ``infer={"enumerate": "parallel"}`` all of their values instead of one,
            as Pyro's ``TraceEnum_ELBO`` does: a sum over them takes the place of a draw.
    """
    if elbo.max_plate_nesting == float("inf"):
        elbo._guess_max_plate_nesting(model, guide, args, kwargs)
    model, guide = elbo._vectorized_num_particles(model), elbo._vectorized_num_particles(guide)
    if (hold or link or twice) and isinstance(poutine.unwrap(guide), Messenger):
        raise InputError("This estimator runs guide and model apart; an effect-handler guide runs both. Use L_A.")
    if enumerate:
        guide = enumerated(guide, elbo)
    noise = Noise() if twice else None
    with noise.recorded() if noise else nullcontext():
        if hold:
            model_trace, guide_trace = _held_traces(elbo, model, _Hold()(guide), args, kwargs)
        elif link is None:
            model_trace, guide_trace = _traces(elbo, model, guide, args, kwargs)
        else:
            model_trace, guide_trace = _linked_traces(elbo, model, guide, args, kwargs, link)
    sample_dim = -int(elbo.max_plate_nesting) if elbo.num_particles > 1 else None
    plate = Plate.of(model_trace, sample_dim, choices(guide_trace))

    def guide_held() -> Trace:
        assert noise is not None
        with noise.again():
            return poutine.trace(_Hold()(guide)).get_trace(*args, **kwargs)

    observed = tuple(data_sites(model_trace))
    likelihoods = [plate.nats(site, site["log_prob"]).expand(-1, plate.batch) for site in observed]
    return Draws(
        plate=plate,
        log_likelihood=torch.stack(likelihoods).sum(0),
        latents=tuple(_latents(model_trace, guide_trace, plate, hold)),
        observed=observed,
        guide_held=guide_held if twice else None,
    )


def _traces(elbo: ELBO, model: Program, guide: Program, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
    return get_importance_trace("flat", elbo.max_plate_nesting, model, guide, args, kwargs)


class _Hold(Messenger):
    """Holds each draw fixed as soon as it is drawn."""

    def _pyro_sample(self, msg: Any) -> None:
        drawn = msg["done"] or msg["is_observed"] or msg["value"] is not None
        if not drawn and type(msg["fn"]).__name__ != "_Subsample":
            msg["value"] = msg["fn"](*msg["args"], **msg["kwargs"]).detach()
            msg["done"] = True


def _held_traces(elbo: ELBO, model: Program, guide: Program, args: Any, kwargs: Any) -> tuple[Trace, Trace]:
    """Pyro's; and where a flow has no inverse, which it is."""
    try:
        return _traces(elbo, model, guide, args, kwargs)
    except (NotImplementedError, KeyError):
        for site in latent_sites(poutine.trace(guide).get_trace(*args, **kwargs)):
            log_q_held(site)
        raise


def _linked_traces(
    elbo: ELBO, model: Program, guide: Program, args: Any, kwargs: Any, link: Link
) -> tuple[Trace, Trace]:
    """Pyro's ``get_importance_trace``, with a link between guide and model."""
    guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    model_trace = poutine.trace(poutine.replay(model, trace=_through(link, guide_trace))).get_trace(*args, **kwargs)
    if is_validation_enabled():
        check_model_guide_match(model_trace, guide_trace, elbo.max_plate_nesting)
    guide_trace, model_trace = prune_subsample_sites(guide_trace), prune_subsample_sites(model_trace)
    model_trace.compute_log_prob()
    guide_trace.compute_score_parts()
    return model_trace, guide_trace


def _through(link: Link, trace: Trace) -> Trace:
    """A trace whose values have passed through a link."""
    linked = Trace()
    for name, site in trace.nodes.items():
        linked.add_node(name, **(site | {"value": link(site)} if site["type"] == "sample" else site))
    return linked


def _latents(model_trace: Trace, guide_trace: Trace, plate: Plate, held: bool) -> Iterator[Latent]:
    order = [site["name"] for site in latent_sites(model_trace)]
    needed = {name: set(order[:position]) for position, name in enumerate(order)}
    drawn: set[str] = set()
    for site in latent_sites(guide_trace):
        if held and torch.is_grad_enabled() and is_moved(site):
            raise no_density(site)
        model_site = model_trace.nodes.get(site["name"])
        log_q, score, _ = site["score_parts"]
        log_q = plate.nats(site, log_q)
        has_path = not isinstance(score, Tensor)  # where there is one, Pyro's score is the number 0
        has_score = held or not (has_path or is_enumerated(site))
        yield Latent(
            name=site["name"],
            is_global=not in_plate(site),
            follows_model=needed.get(site["name"], set()) <= drawn,
            is_enumerated=is_enumerated(site),
            log_p=plate.nats(model_site, model_site["log_prob"]) if model_site else torch.zeros_like(log_q),
            log_q=log_q,
            score=plate.sum_to(site, site["unscaled_log_prob"]) if has_score else None,
            model_site=model_site,
            guide_site=site,
        )
        drawn.add(site["name"])
