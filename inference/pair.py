"""One look at a pair on its first batch, before anything is trained: what it is made of, and whether it can be."""

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.util import check_model_guide_match
from torch import Tensor, nn

from ..models.errors import InputError
from .batches import Batch
from .failure import ONE_DRAW, Distributions, explained
from .randomness import forked_rng
from .sites import Plate, Program, Site, data_sites, describe, in_plate, latent_sites, sample_sites
from .support import beyond, check_support


@dataclass(frozen=True)
class Pair:
    """What a pair declares on a batch: trainable parameters, each once, by name (``model.decoder.weight``); the plate.

    A parameter that both programs use counts as the model's. ``local_latents`` and ``global_latents`` are the guide's
    sites inside and outside that plate. ``observed`` holds, for each observed site that takes an element of the batch
    as it is, that element's position and the support of the site.
    """

    model_parameters: dict[str, Tensor]
    guide_parameters: dict[str, Tensor]
    plate: Plate
    local_latents: tuple[str, ...]
    global_latents: tuple[str, ...]
    observed: tuple[tuple[str, int, Any], ...]

    @property
    def parameters(self) -> dict[str, Tensor]:
        """All of them: unconstrained values, by Pyro's names."""
        return self.model_parameters | self.guide_parameters


def inspect(model: Program, guide: Program, batch: Batch) -> Pair:
    """Run a pair once, with Pyro's checks on, and see what it is made of.

    Raises:
        InputError: the programs fail on the batch, name different latents, observe nothing, observe a value outside
            its distribution's support, or have no plate ``data``.
    """
    with pyro.validation_enabled(True), forked_rng(), torch.no_grad():
        guide_trace = _run("guide", guide, poutine.trace(guide), batch)
        for site in [site for site in sample_sites(guide_trace) if site["is_observed"]]:
            guide_trace.remove_node(site["name"])  # pyro.deterministic: no latent
        replayed = poutine.trace(poutine.replay(model, trace=guide_trace))
        try:
            model_trace = _run("model", model, replayed, batch)
        except InputError:
            _check_latents(replayed.trace, guide_trace, guide)  # a draw of a wrong shape is not the model's fault
            raise
    _check_sites(model_trace, guide_trace)
    _check_latents(model_trace, guide_trace, guide)
    _check_supports(model_trace, guide_trace)
    _check_shapes(model_trace, guide_trace)
    model_parameters = _parameters(model_trace, "model", model)
    taken = {id(p) for p in model_parameters.values()}
    guide_parameters = _parameters(guide_trace, "guide", guide)
    pair = Pair(
        model_parameters=model_parameters,
        guide_parameters={name: p for name, p in guide_parameters.items() if id(p) not in taken},
        plate=Plate.of(model_trace),
        local_latents=tuple(site["name"] for site in sample_sites(guide_trace) if in_plate(site)),
        global_latents=tuple(site["name"] for site in sample_sites(guide_trace) if not in_plate(site)),
        observed=tuple(_observed(model_trace, batch)),
    )
    check_observed(pair, batch)
    return pair


def check_observed(pair: Pair, batch: Batch, first_row: int = 0) -> None:
    """Check that the data a pair observes are finite and in the support of their distributions."""
    for name, position, support in pair.observed:
        check_support(name, batch[position], support, first_row)


def check_plate(pair: Pair, batch_size: int, data_size: int, remedy: str) -> None:
    """Check that the plate ``data`` holds the batch, and that global latents know how many data there are.

    ``remedy`` is what helps, beside a plate of the size of the data, where they do not.

    Raises:
        InputError: it is of another size, or a global KL would be divided by the size of a batch.
    """
    plate = pair.plate
    if plate.batch != batch_size:
        raise InputError(
            f"The plate 'data' holds {plate.batch} data, but the batch has {batch_size}.\n"
            f'  Write pyro.plate("data", len(x)) or pyro.plate("data", {data_size}, subsample=x).'
        )
    if pair.global_latents and plate.size == batch_size != data_size:
        raise InputError(
            f"The pair has latents outside the plate 'data', whose size is {plate.size}, but the data are {data_size}: "
            "their KL would have a wrong weight.\n"
            f'  Write pyro.plate("data", {data_size}, subsample=x), {remedy}.'
        )


def _run(role: str, program: Program, traced: Any, batch: Batch) -> Trace:
    try:
        with Distributions(role):
            return traced.get_trace(*batch)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise explained(role, program, batch, error) from error


def _check_sites(model_trace: Trace, guide_trace: Trace) -> None:
    latents = [site["name"] for site in latent_sites(model_trace)]
    if not any(data_sites(model_trace)):
        raise InputError("The model observes nothing. Give the data to a site: pyro.sample('x', ..., obs=x).")
    guided = [s["name"] for s in latent_sites(guide_trace) if not s["infer"].get("is_auxiliary")]
    if missing := [name for name in latents if name not in guided]:
        raise InputError(f"The guide does not sample the model's latent sites {missing}; it samples {guided}.")
    if unknown := [name for name in guided if name not in latents]:
        raise InputError(
            f"The guide samples sites {unknown} that the model does not have; the model's latents are {latents}.\n"
            "  Mark a site that only the guide needs with infer={'is_auxiliary': True}."
        )


def _check_latents(model_trace: Trace, guide_trace: Trace, guide: Program) -> None:
    """Check what a latent is in both programs; the model's trace may end where it failed."""
    _check_plates(model_trace, guide_trace)
    _check_kinds(model_trace, guide_trace)
    _check_events(model_trace, guide_trace, guide)


def _check_plates(model_trace: Trace, guide_trace: Trace) -> None:
    """A latent stands in the same plates in both programs; those of the guide's own are not compared."""
    for site in sample_sites(guide_trace):
        other = model_trace.nodes.get(site["name"])
        if other is not None and _frames(site) != _frames(other):
            raise InputError(
                f"Site '{site['name']}' stands in other plates in the guide, {_frames(site)}, than in the model, "
                f"{_frames(other)} (name, dimension, data in it, data it stands for).\n"
                "  Use the same plates in both programs."
            )


def _check_kinds(model_trace: Trace, guide_trace: Trace) -> None:
    """A probability is not to be weighed against a density."""
    for site in sample_sites(guide_trace):
        other = model_trace.nodes.get(site["name"])
        if other is not None and _is_discrete(site) != _is_discrete(other):
            kinds = {True: "discrete", False: "continuous"}
            raise InputError(
                f"Site '{site['name']}' is {kinds[_is_discrete(site)]} in the guide, {describe(site['fn'])}, and "
                f"{kinds[_is_discrete(other)]} in the model, {describe(other['fn'])}.\n"
                "  Choose a prior and a guide of the same kind."
            )


def _check_events(model_trace: Trace, guide_trace: Trace, guide: Program) -> None:
    """A draw of the guide is as many numbers as the model takes."""
    for site in sample_sites(guide_trace):
        other: Site = model_trace.nodes.get(site["name"])
        if other is not None and site["fn"].event_shape != other["fn"].event_shape:
            drawn, taken = tuple(site["fn"].event_shape), tuple(other["fn"].event_shape)
            raise InputError(
                f"Site '{site['name']}' is of event shape {drawn} in the guide, {describe(site['fn'])}, and of event "
                f"shape {taken} in the model, {describe(other['fn'])}.\n  {_shape_remedy(drawn, taken, guide)}"
            )


def _shape_remedy(drawn: tuple[int, ...], taken: tuple[int, ...], guide: Program) -> str:
    if len(drawn) != len(taken):
        return ONE_DRAW
    if len(taken) == 1 and callable(getattr(guide, "outputs", None)):
        outputs = f"{type(guide).__name__}.outputs({taken[0]})"
        return f"Choose an encoder of {outputs} outputs, or a prior of {drawn[0]} latents."
    return "Choose a prior and a guide of one number of latents."


def _check_supports(model_trace: Trace, guide_trace: Trace) -> None:
    """A posterior draws where its prior has a density, and both densities are by the same measure."""
    for site in sample_sites(guide_trace):
        other = model_trace.nodes.get(site["name"])
        if other is not None and (reason := beyond(site, other)):
            raise InputError(
                f"Site '{site['name']}': the guide's {describe(site['fn'])} does not go with the model's "
                f"{describe(other['fn'])}.\n  {reason}\n  Choose a prior and a guide of one support."
            )


def _is_discrete(site: Site) -> bool:
    return bool(getattr(site["fn"].support, "is_discrete", False))


def _frames(site: Site) -> list[tuple[str, int, int, int]]:
    frames = (frame for frame in site["cond_indep_stack"] if frame.vectorized)
    return sorted((frame.name, frame.dim, frame.size, frame.full_size or frame.size) for frame in frames)


def _check_shapes(model_trace: Trace, guide_trace: Trace) -> None:
    for site in data_sites(model_trace):
        fn, shape = site["fn"], tuple(getattr(site["value"], "shape", ()))
        events = shape[len(shape) - fn.event_dim :]
        expected = tuple(fn.batch_shape)
        if events != tuple(fn.event_shape) or shape[: len(shape) - fn.event_dim] != expected:
            raise InputError(
                f"Site '{site['name']}' observes values of shape {shape}, but its distribution is of batch shape "
                f"{expected} and event shape {tuple(fn.event_shape)}.\n"
                "  Check the outputs of the decoder, and .to_event(...)."
            )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            check_model_guide_match(model_trace, guide_trace)
        except (ValueError, UserWarning) as error:
            raise InputError(f"Model and guide do not fit together: {error}") from error


def _observed(model_trace: Trace, batch: Batch) -> Iterator[tuple[str, int, Any]]:
    for site in data_sites(model_trace):
        for position, element in enumerate(batch):
            if site["value"] is element:
                with suppress(NotImplementedError):
                    yield site["name"], position, site["fn"].support


def _parameters(trace: Trace, role: str, program: Program) -> dict[str, Tensor]:
    """The trainable parameters of a trace: a module's by the names it has there, others by Pyro's."""
    named = program.named_parameters() if isinstance(program, nn.Module) else ()
    names = {id(parameter): f"{role}.{name}" for name, parameter in named}
    sites: list[Site] = [site for site in trace.nodes.values() if site["type"] == "param"]
    values: dict[str, Tensor] = {}
    for site in sites:
        value = site["value"].unconstrained()
        if value.requires_grad and not any(value is v for v in values.values()):
            values[names.get(id(value), site["name"])] = value
    return values
