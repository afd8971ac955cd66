"""A bound on held-out data."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyro
import torch
from torch import nn

from .batches import Batch, Data, Loader
from .choose import make_estimator
from .estimators import Estimate, Estimator
from .memory import kept_memory
from .pair import Pair, check_observed, check_plate, inspect
from .parameters import private_parameters
from .randomness import forked_rng, random_streams
from .ready import check_estimate
from .sites import Program

DRAWS_AT_ONCE = 2**14
"""Latent draws held in memory together; a network's widest layer holds that many rows."""


def evaluate(
    model: Program,
    guide: Program,
    data: Data | Loader,
    *,
    estimator: str | Estimator = "L_A",
    samples: int | None = None,
    beta: float | None = None,
    seed: int = 0,
) -> Estimate:
    """The value of a bound on each of N data, and its split into reconstruction and KL; no gradient.

    Args:
        model, guide: a Pyro pair.
        data: as :func:`fit` takes it; or a :class:`Loader`, for data that are to stay on their device.
        estimator, samples, beta: as :func:`fit` takes them.
        seed: of the draws of z and of the data's own noise.

    Returns:
        ``bound``, ``reconstruction``, ``kl`` ``(N,)`` and ``kl_global`` ``()`` in nats per datum, on the CPU.

    Example:
        >>> from aevb.guides import ExactPosterior
        >>> from aevb.models import LinearGaussian
        >>> model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
        >>> x = torch.zeros(3, 2)
        >>> torch.allclose(evaluate(model, ExactPosterior(model), x).elbo, model.log_evidence(x))
        True
    """
    bound = make_estimator(estimator, samples=samples, beta=beta)
    with held_out(model, guide, data, max(1, DRAWS_AT_ONCE // bound.samples), seed) as batches:
        parts: list[Estimate] = []
        for batch in batches:
            with pyro.validation_enabled(not parts):  # the estimator's own checks, once
                part = bound.estimate(model, guide, *batch)
            parts.append(part if parts else check_estimate(part, bound, len(batch[0])))
    sizes = torch.tensor([len(part.bound) for part in parts], dtype=torch.float64)
    kl_global = torch.stack([part.kl_global.cpu() for part in parts])
    return Estimate(
        bound=torch.cat([part.bound for part in parts]).cpu(),
        surrogate=torch.zeros(()),
        reconstruction=torch.cat([part.reconstruction for part in parts]).cpu(),
        kl=torch.cat([part.kl for part in parts]).cpu(),
        kl_global=(kl_global * sizes).sum() / sizes.sum(),
        kl_path=parts[0].kl_path,
    )


@contextmanager
def held_out(
    model: Program,
    guide: Program,
    data: Data | Loader,
    batch_size: int,
    seed: int,
    check: Callable[[Pair], None] = lambda pair: None,
) -> Iterator[Iterator[Batch]]:
    """All data in order, on the device of the pair's modules: the pair's own parameters and noise, no gradients.

    ``check`` refuses a pair that what is asked for does not go with, before anything else is made of it.
    """
    _, pixels, latents = random_streams(seed)
    loader = data if isinstance(data, Loader) else Loader(data, device_of(model, guide))
    loader.generator.manual_seed(pixels)
    with (
        as_evaluated(model, guide),
        private_parameters(keep=False),
        forked_rng(latents),
        torch.no_grad(),
        pyro.validation_enabled(False),
        kept_memory(give_back=True),
    ):
        yield _checked(model, guide, loader, batch_size, check)


def _checked(
    model: Program, guide: Program, loader: Loader, batch_size: int, check: Callable[[Pair], None]
) -> Iterator[Batch]:
    pair = None
    for number, batch in enumerate(loader.in_order(batch_size)):
        if pair is None:
            pair = inspect(model, guide, batch)
            check(pair)
            check_plate(pair, len(batch[0]), len(loader), "or with the number of data that it was trained on")
        check_observed(pair, batch, number * batch_size)
        yield batch


@contextmanager
def as_evaluated(*programs: Program) -> Iterator[None]:
    """Modules in evaluation mode: no dropout, no running statistics moved; put back afterwards."""
    modules = [module for program in programs if isinstance(program, nn.Module) for module in program.modules()]
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def device_of(model: Program, guide: Program) -> torch.device:
    """The device of the first parameter of a pair of modules; the CPU where there is none."""
    parameters = (p for program in (model, guide) if isinstance(program, nn.Module) for p in program.parameters())
    return next((p.device for p in parameters), torch.device("cpu"))
