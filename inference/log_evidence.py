"""log p(x) by importance sampling."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..models.errors import InputError
from .batches import Batch, Data, Loader
from .brief import brief
from .engines import CannotReplay, Replay
from .estimators import L_A
from .evaluate import DRAWS_AT_ONCE, device_of, held_out
from .pair import Pair
from .sites import Program

LogWeights = Callable[..., Tensor]
"""Of a number of samples and a batch."""
REPLAYED_FROM = 500_000_000
"""So many numbers to score in all take some seconds, and a graph one to make: 640 images of MNIST by 1,000 samples."""


@dataclass(frozen=True)
class LogEvidence:
    """Estimates of log p(x), one for each of N data, in nats.

    ``values`` ``(N,)``; ``standard_errors`` ``(N,)``, over the samples of each datum (delta method; NaN with one
    sample); ``effective_sample_sizes`` ``(N,)``, (sum w)^2 / sum w^2, between 1 and K. Where the latter is near 1 the
    estimate is one sample's, and its standard error is too small.
    """

    values: Tensor
    standard_errors: Tensor
    effective_sample_sizes: Tensor
    samples: int

    def __repr__(self) -> str:
        """Their mean and its standard error over the data."""
        return f"LogEvidence({brief(self.values)}; n={len(self.values)}, samples={self.samples})"

    def mean(self) -> float:
        """Nats per datum."""
        return self.values.mean().item()

    @property
    def standard_error(self) -> float:
        """Of the mean, over the data: what other data of this kind would change."""
        return self.values.std().item() / math.sqrt(len(self.values))

    @property
    def sampling_error(self) -> float:
        """Of the mean, over the samples: what other draws of z would change."""
        return self.standard_errors.square().sum().sqrt().item() / len(self.values)


def log_evidence(
    model: Program,
    guide: Program,
    data: Data,
    *,
    samples: int = 5000,
    draws_at_once: int = DRAWS_AT_ONCE,
    seed: int = 0,
) -> LogEvidence:
    r"""log p(x) ~ log 1/K sum_k p(x, z_k) / q(z_k|x), z_k ~ q(z|x), for each datum.

    Rezende, Mohamed and Wierstra (2014), Stochastic Backpropagation, appendix E, https://arxiv.org/abs/1401.4082;
    Burda et al. (2015), equation 8, https://arxiv.org/abs/1509.00519. Its expectation is a lower bound that rises
    with K. No parameter is touched. Where there is much to do the pair is replayed, as in :func:`fit`, and the replay
    compared with running it.

    Args:
        model, guide: a Pyro pair whose latents all lie inside the plate ``data``.
        data: as :func:`fit` takes it.
        samples: K. Time grows with it, memory does not.
        draws_at_once: how many latents are held at a time.
        seed: of the draws of z and of the data's own noise.

    Raises:
        InputError: the pair has global latents: its evidence is one number for all data.

    Example:
        >>> from aevb.guides import ExactPosterior
        >>> from aevb.models import LinearGaussian
        >>> model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
        >>> result = log_evidence(model, ExactPosterior(model), torch.zeros(3, 2), samples=1)
        >>> torch.allclose(result.values, model.log_evidence(torch.zeros(3, 2)))
        True
    """
    if samples < 1:
        raise InputError(f"samples is at least 1; it is {samples}.")
    chunk = min(samples, 64)
    loader = Loader(data, device_of(model, guide))

    by_running = partial(_log_weights, model, guide, {})
    replay = Replay(partial(by_running, chunk), {"model": model, "guide": guide}, seed)

    def by_replay(count: int, *batch: Tensor) -> Tensor:
        pays = len(loader) * samples * batch[0][0].numel() >= REPLAYED_FROM
        return replay(*batch) if pays and count == chunk else by_running(count, *batch)

    def sums(log_weights: LogWeights) -> Tensor:
        with held_out(model, guide, loader, max(1, draws_at_once // chunk), seed, _check_local) as batches:
            return torch.cat([_log_sums(log_weights, batch, samples, chunk) for batch in batches], 1)

    try:
        result = sums(by_replay)
    except CannotReplay:
        result = sums(by_running)
    finally:
        replay.forget()
    log_w, log_w2 = result.double().cpu()  # log sum_k w_k and log sum_k w_k^2, each (N,)
    spread = (log_w2 - 2 * log_w).exp()  # sum w^2 / (sum w)^2
    return LogEvidence(
        values=(log_w - math.log(samples)).to(result.dtype),
        standard_errors=((spread - 1 / samples).clamp(min=0) * samples / (samples - 1)).sqrt()
        if samples > 1
        else torch.full_like(log_w, math.nan),
        effective_sample_sizes=1 / spread,
        samples=samples,
    )


def _check_local(pair: Pair) -> None:
    if pair.global_latents:
        raise InputError(
            f"log_evidence is per datum, but the latents {list(pair.global_latents)} are shared by all data "
            "(outside the plate 'data').\n  A bound on the evidence of all data is evaluate(...)."
        )


def _log_sums(log_weights: LogWeights, batch: Batch, samples: int, chunk: int) -> Tensor:
    """log sum_k w_k and log sum_k w_k^2, ``(2, B)``, a few samples at a time."""
    sums: Tensor | None = None
    while samples:
        log_w = log_weights(min(chunk, samples), *batch)
        samples -= len(log_w)
        part = torch.stack([log_w.logsumexp(0), (2 * log_w).logsumexp(0)])
        sums = part if sums is None else torch.logaddexp(sums, part)
    assert sums is not None
    return sums


def _log_weights(model: Program, guide: Program, estimators: dict[int, L_A], samples: int, *batch: Tensor) -> Tensor:
    """log p(x, z) - log q(z|x), ``(samples, B)``."""
    estimator = estimators.setdefault(samples, L_A(samples=samples))  # which has looked at the pair's plates once
    draws = estimator.draw(model, guide, *batch)
    log_ratio, _ = draws.sum_latents([z.log_p - z.log_q for z in draws.latents])
    return draws.log_likelihood + log_ratio
