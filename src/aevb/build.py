"""From a configuration to its data, model and guide."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, cast

import torch

from .config import Config
from .data import DataSet, Split, load
from .guides import Guide, Refined
from .inference import Estimator
from .inference.randomness import forked_rng
from .models import VAE, BernoulliVAE, FactorialBernoulli, InputError, Likelihood, Network, Prior, VampPrior
from .models.errors import check_at_least, check_seed
from .own_parts import making
from .parts import AMORTIZED, BEHIND, GUIDES, known_parts, parse


def load_data(config: Config) -> DataSet:
    """The data of a run, treated as its likelihood needs them.

    Raises:
        InputError: the likelihood is not a density of pixels treated so; or see :func:`aevb.data.load`.
    """
    likelihood = cast(type[Likelihood], _part(config, "likelihood")[0])
    data = load(
        config.data,
        binarisation=config.binarisation or likelihood.binarisations,
        validation=0.0 if config.patience is None else 0.1,
        seed=check_seed("data_seed", config.data_seed),
    )
    if data.binarisation not in likelihood.binarisations:
        others = [
            name
            for name, part in known_parts("likelihood", config.parts).items()
            if data.binarisation in cast(type[Likelihood], part).binarisations
        ]
        raise InputError(
            f"{likelihood.__name__} is for pixels with --binarisation {' or '.join(likelihood.binarisations)}; "
            f"it is {data.binarisation}.\n"
            f"  Choose one of these, or --likelihood {' or '.join(others)}."
        )
    return data


def make_pair(config: Config, shape: int | tuple[int, ...], data: Split | None = None) -> tuple[VAE, Guide]:
    """Model and guide for data of that shape, or of that many pixels; their initial weights depend on the seed alone.

    Each part has a random stream of its own, so that runs which differ in one part share the others' weights. Where a
    prior starts from data, it takes some of ``data``, or noise in their place.
    """
    make_prior, prior_options = _part(config, "prior")
    amortized, *refined = re.split(r"\+(?=[A-Za-z])", config.guide, maxsplit=1)  # 1e+3 is a number
    if amortized.partition(":")[0] in GUIDES.keys() - AMORTIZED:
        raise InputError(
            f"{amortized} is not the guide of a VAE by itself. Its page in Python, help(aevb.guides.{amortized}), says "
            "what it is for; Refined goes behind another, as in AmortizedNormal+Refined:steps=10."
        )
    make_guide, guide_options = _part(config, "guide", amortized)
    make_likelihood, likelihood_options = _part(config, "likelihood")
    network, network_options = _network(config)
    shape = (shape,) if isinstance(shape, int) else shape
    pixels = math.prod(shape)
    if config.binarisation == "relaxed":
        likelihood_options["relaxed"] = True
    latents = check_at_least(1, "latents", config.latents)
    with _stream(config, 0):
        prior = cast(Prior, _made(make_prior, latents, **prior_options))
    with _stream(config, 1):
        likelihood = cast(Likelihood, _made(make_likelihood, **likelihood_options))
    with _stream(config, 2):
        sizes = latents, *config.hidden, likelihood.outputs(pixels)
        decoder = network.decoder(shape, *sizes, **network_options)
    with _stream(config, 3):
        with making(make_guide):
            outputs = cast(type[Guide], make_guide).outputs(latents, **guide_options)
        encoder = network.encoder(shape, *reversed(config.hidden), outputs, **network_options)
        flow_latents = [latents] if "latents" in signature(make_guide).parameters else []
        guide = cast(Guide, _made(make_guide, encoder, *flow_latents, **guide_options))
    if isinstance(prior, VampPrior):
        with _stream(config, 4):
            rows = torch.rand(prior.components, pixels)
            if data is not None:
                rows = data.batch(torch.randint(len(data), (prior.components,)), torch.Generator().manual_seed(0))
            prior.attach(guide, rows)
    make_model = BernoulliVAE if isinstance(prior, FactorialBernoulli) else VAE
    model = make_model(prior, decoder, likelihood)  # type: ignore[arg-type]
    return model, _refined(guide, refined[0], model, config.beta) if refined else guide


def _refined(guide: Guide, spec: str, model: VAE, beta: float) -> Guide:
    make, options = parse("guide after +", spec, BEHIND)
    return cast(Refined, make(guide, **{"beta": beta} | options)).attach(model)


def make_estimator(config: Config) -> Estimator:
    """The estimator of a run; options in its name go before those of the configuration."""
    make, options = _part(config, "estimator")
    settings = {"beta": config.beta} | ({} if config.samples is None else {"samples": config.samples})
    if config.beta == 1 and "beta" not in signature(make).parameters:  # one of a user's, which has none
        del settings["beta"]
    return cast(Estimator, _made(make, **settings | options))


def _made(part: type, *args: Any, **options: Any) -> Any:
    with making(part):
        return part(*args, **options)


def _part(config: Config, kind: str, spec: str | None = None) -> tuple[type, dict[str, Any]]:
    """The class that a configuration names for a kind, and its options."""
    return parse(kind, spec or getattr(config, kind), known_parts(kind, config.parts))


@contextmanager
def _stream(config: Config, part: int) -> Iterator[None]:
    with forked_rng(check_seed("seed", config.seed) * 1000 + part):
        yield


def _network(config: Config) -> tuple[type[Network], dict[str, Any]]:
    """A kind of network and its options; those in its name go before those of the configuration."""
    for units in config.hidden:
        check_at_least(1, "hidden", units)
    make, options = _part(config, "network")
    settings = {"activation": config.activation, "initialisation": config.initialisation}
    return cast(type[Network], make), settings | options
