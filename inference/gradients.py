"""The instrument: how noisy, how biased and how dear an estimator's gradient is."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from statistics import median

import pyro
import torch
from torch import Tensor

from ..models.errors import InputError, check_at_least
from .batches import Batch
from .choose import make_estimators
from .estimators import Estimator
from .estimators.references import references
from .evaluate import as_evaluated
from .pair import Pair, inspect
from .parameters import private_parameters
from .randomness import forked_rng
from .sites import Program

GROUPS = 10
"""Draws fall into ten independent groups; what differs between them is the error of a figure."""
TIMED_STEPS = 30


@dataclass(frozen=True)
class GradientNoise:
    r"""The gradient g of one estimator for one part of the parameters, on one minibatch, in (nats per datum)^2.

    ``variance`` is tr Cov g; ``bias`` is \|E g - truth\|^2; ``signal`` is \|E g\|^2, the truth's where the bias cannot
    be told from 0, the draws' own where it can. The last two are unbiased estimates of squares, hence may come out
    below 0 where they are 0. Each has its standard error. ``seconds`` is the median time of an estimate and its
    gradient.

    ``target`` is what the gradient claims to be a gradient of; ``part`` is ``model``, ``guide`` or a parameter's name;
    ``reference`` says what the truth was taken from: an estimator of its own class is no independent witness.
    """

    estimator: str
    part: str
    target: str
    variance: float
    variance_se: float
    signal: float
    signal_se: float
    bias: float
    bias_se: float
    seconds: float
    reference: str

    @property
    def is_biased(self) -> bool:
        """Whether the squared bias can be told from 0: three of its standard errors above it.

        Squares being what they are, a bias of one parameter has to be six standard errors of its mean to be seen half
        of the time: no bias seen is not none. ``bias_se`` says what would have been.
        """
        return self.bias > 3 * self.bias_se

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio, ``|E g| / sqrt(tr Cov g)`` (Rainforth et al. 2018, for all parameters)."""
        if not self.variance:
            return math.inf if self.signal > 0 else math.nan
        return math.sqrt(max(self.signal, 0.0) / self.variance)

    @property
    def squared_error(self) -> float:
        """Mean squared error of one gradient: variance + squared bias, where ``is_biased``."""
        return self.variance + max(self.bias, 0.0) * self.is_biased

    @property
    def cost(self) -> float:
        """Mean squared error times seconds: what ranks estimators of one target."""
        return self.squared_error * self.seconds

    @property
    def relative_cost(self) -> float:
        """Variance over squared signal, times seconds: what ranks estimators of different targets."""
        return self.variance / self.signal * self.seconds if self.signal > 0 else math.inf


def gradient_noise(
    model: Program,
    guide: Program,
    batch: Batch | Tensor,
    estimators: Mapping[str, str | Estimator] | Iterable[str | Estimator],
    *,
    draws: int = 200,
    effort: int = 4,
    exact: Callable[..., Tensor] | None = None,
    by_parameter: bool = False,
    seed: int = 0,
) -> list[GradientNoise]:
    r"""Draw each estimator's gradient many times on one minibatch, and compare it to the truth.

    The truth of a target is ``exact`` where it is the evidence lower bound and that is given, else the mean gradient of
    the least noisy estimator that it has for this pair (``references``): ``draws`` gradients at least, and as many as
    make ``effort`` times the draws of z that its estimators have. Estimators of one target can be ranked by ``cost``;
    of different targets, by ``relative_cost``, which says nothing about which bound is the better one.

    Args:
        model, guide: any Pyro pair. It is run in evaluation mode, and nothing of it is changed.
        batch: the minibatch, whose noise (binarisation) has been drawn.
        estimators: to be compared: names or instances, in a list or by names of your own, as in ``{"mine": STL()}``.
        draws: of each gradient, at least 20, rounded up to a multiple of ten.
        effort: how many times as many draws of z a reference has as any estimator of its target, at least.
        exact: the bound of a batch ``(B,)`` in nats, differentiable by the parameters.
        by_parameter: report each named parameter too.
        seed: of all draws.

    Returns:
        For each estimator: ``model``, ``guide`` and, if asked for, each parameter.

    Raises:
        InputError: an estimator refuses the pair.

    Example:
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.inference import L_A, STL
        >>> from aevb.models import LinearGaussian, MLP
        >>> model, guide = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0), AmortizedNormal(MLP(2, 4))
        >>> rows = gradient_noise(model, guide, torch.zeros(5, 2), {"L_A": L_A(), "STL": STL()}, draws=20)
        >>> [(row.estimator, row.part) for row in rows]
        [('L_A', 'model'), ('L_A', 'guide'), ('STL', 'model'), ('STL', 'guide')]
    """
    batch = (batch,) if isinstance(batch, Tensor) else tuple(batch)
    compared = make_estimators(estimators)
    size = -(-check_at_least(2 * GROUPS, "draws", draws) // GROUPS)
    check_at_least(1, "effort", effort)
    with _quiet(model, guide, seed):
        pair = inspect(model, guide, batch)
        sampler = _Sampler(model, guide, batch, pair)
        seconds = _time(sampler, compared)
        truths = _Truths(sampler, list(compared.values()), size, effort, exact)
        rows = []
        for name, estimator in compared.items():
            sample = sampler.sample(estimator, size)
            target = estimator.target
            for role, parameters in (("model", pair.model_parameters), ("guide", pair.guide_parameters)):
                wanted = getattr(target, role)
                truth, taken_from = truths.of(role, wanted)
                parts = {role: list(parameters)} | ({p: [p] for p in parameters} if by_parameter else {})
                for part, members in parts.items():
                    if members:
                        rows.append(_row(name, part, wanted, sample, truth, taken_from, members, seconds[name]))
    return rows


def refusals(
    model: Program,
    guide: Program,
    batch: Batch | Tensor,
    estimators: Mapping[str, str | Estimator] | Iterable[str | Estimator],
) -> dict[str, str]:
    """Which estimators, given as :func:`gradient_noise` takes them, refuse a pair, and why."""
    batch = (batch,) if isinstance(batch, Tensor) else tuple(batch)
    refused = {}
    with _quiet(model, guide, 0), pyro.validation_enabled(True):
        for name, estimator in make_estimators(estimators).items():
            try:
                estimator.fresh().estimate(model, guide, *batch)
            except InputError as error:
                refused[name] = " ".join(str(error).split())
    return refused


@contextmanager
def _quiet(model: Program, guide: Program, seed: int) -> Iterator[None]:
    """The pair's own parameters and noise, evaluation mode, Pyro's checks off."""
    with (
        as_evaluated(model, guide),
        private_parameters(keep=False),
        forked_rng(seed),
        pyro.validation_enabled(False),
    ):
        yield


@dataclass(frozen=True)
class _Sample:
    """Gradients by parameter: the means of ten groups ``(GROUPS, n)``, and tr Cov g within each group ``(GROUPS,)``."""

    means: dict[str, Tensor]
    variances: dict[str, Tensor]


@dataclass(frozen=True)
class _Sampler:
    """Draws gradients of a pair on a batch."""

    model: Program
    guide: Program
    batch: Batch
    pair: Pair

    def gradient(self, estimator: Estimator, *more: Tensor) -> Sequence[Tensor]:
        surrogate = estimator.estimate(self.model, self.guide, *self.batch).surrogate
        return self._differentiate(surrogate, *more)

    def _differentiate(self, surrogate: Tensor, *more: Tensor) -> Sequence[Tensor]:
        parameters = [*self.pair.parameters.values(), *more]
        gradients = torch.autograd.grad(surrogate, parameters, allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)]

    def sample(self, estimator: Estimator, size: int) -> _Sample:
        """Ten groups of ``size`` gradients; what the estimator itself learns, it has learned on the batch before."""
        estimator = estimator.fresh()
        _learn(self, estimator)
        parameters = self.pair.parameters
        means = {name: p.new_zeros(GROUPS, p.numel()) for name, p in parameters.items()}
        squares = {name: p.new_zeros(GROUPS, dtype=torch.float64) for name, p in parameters.items()}
        for group in range(GROUPS):
            for _ in range(size):
                for name, gradient in zip(parameters, self.gradient(estimator), strict=True):
                    means[name][group] += gradient.flatten() / size
                    squares[name][group] += gradient.double().square().sum() / size
        spread = size / max(size - 1, 1)
        variances = {n: spread * (squares[n] - means[n].double().square().sum(1)).clamp(min=0) for n in parameters}
        return _Sample(means, variances)

    def exact(self, bound: Callable[..., Tensor]) -> _Sample:
        gradients = self._differentiate(bound(*self.batch).mean())
        named = dict(zip(self.pair.parameters, gradients, strict=True))
        means = {name: g.detach().flatten().expand(GROUPS, -1) for name, g in named.items()}
        return _Sample(means, {name: torch.zeros(GROUPS, dtype=torch.float64) for name in named})


def _learn(sampler: _Sampler, estimator: Estimator, steps: int = 300) -> None:
    """Train what the estimator itself learns, a baseline say, with the pair held still."""
    with torch.no_grad():
        estimator.estimate(sampler.model, sampler.guide, *sampler.batch)
    if parameters := list(estimator.parameters().values()):
        optimizer = torch.optim.Adam(parameters, lr=0.01)
        for _ in range(steps):
            surrogate = estimator.estimate(sampler.model, sampler.guide, *sampler.batch).surrogate
            for parameter, gradient in zip(parameters, torch.autograd.grad(-surrogate, parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()


def _time(sampler: _Sampler, estimators: Mapping[str, Estimator]) -> dict[str, float]:
    """Seconds of an estimate and its gradient: medians, the estimators taking turns."""
    fresh = {name: estimator.fresh() for name, estimator in estimators.items()}
    taken: dict[str, list[float]] = {name: [] for name in fresh}
    for _ in range(TIMED_STEPS):
        for name, estimator in fresh.items():
            started = time.perf_counter()
            gradient = sampler.gradient(estimator, *estimator.parameters().values())
            if gradient[0].is_cuda:
                torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - started)
    return {name: median(times) for name, times in taken.items()}


class _Truths:
    """The mean gradient of each target, drawn once.

    The least noisy estimators that are known for a target come first, then what the estimators themselves name, and
    only then they themselves: none is judged by itself where there is another.
    """

    def __init__(
        self,
        sampler: _Sampler,
        estimators: Sequence[Estimator],
        size: int,
        effort: int,
        exact: Callable[..., Tensor] | None,
    ) -> None:
        self.sampler, self.exact = sampler, exact
        self.candidates: dict[str, list[Estimator]] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # gradients at least, draws of z at least
        self.drawn: dict[int, _Sample] = {}
        for estimator in estimators:
            for name in {estimator.target.model, estimator.target.guide}:
                known = [*references(name, estimator), *estimator.references()]
                self.candidates.setdefault(name, []).extend(known)
                _, before = self.sizes.get(name, (0, 0))
                self.sizes[name] = size, max(before, size * effort * estimator.samples)
        for estimator in estimators:
            for name in {estimator.target.model, estimator.target.guide}:
                self.candidates[name].append(estimator)

    def of(self, role: str, name: str) -> tuple[_Sample, str]:
        """The truth of a target for the model or the guide, and what it was taken from."""
        if self.exact and name == "ELBO":
            return self._once(0, lambda: self.sampler.exact(self.exact)), "exact"  # type: ignore[arg-type]
        for candidate in self.candidates[name]:
            if getattr(candidate.target, role) == name:
                least, draws = self.sizes[name]
                size = max(least, -(-draws // candidate.samples))
                with suppress(InputError):  # it refuses the pair
                    sample = self._once(id(candidate), partial(self.sampler.sample, candidate, size))
                    return sample, f"{type(candidate).__name__}, {GROUPS * size} x {candidate.samples} draws"
        raise AssertionError("an estimator that has been sampled can be its own reference")

    def _once(self, key: int, make: Callable[[], _Sample]) -> _Sample:
        if key not in self.drawn:
            self.drawn[key] = make()
        return self.drawn[key]


def _row(
    name: str,
    part: str,
    target: str,
    sample: _Sample,
    truth: _Sample,
    reference: str,
    members: list[str],
    seconds: float,
) -> GradientNoise:
    own, true, off = (torch.zeros(GROUPS, GROUPS, dtype=torch.float64) for _ in range(3))
    for member in members:
        mine, theirs = sample.means[member].double(), truth.means[member].double()
        own += mine @ mine.T
        true += theirs @ theirs.T
        off += (mine - theirs) @ (mine - theirs).T
    variances = torch.stack([sample.variances[member] for member in members]).sum(0)
    bias, bias_se = _squared_mean(off)
    signal, signal_se = _squared_mean(own if bias > 3 * bias_se else true)
    return GradientNoise(
        estimator=name,
        part=part,
        target=target,
        variance=variances.mean().item(),
        variance_se=variances.std().item() / GROUPS**0.5,
        signal=signal,
        signal_se=signal_se,
        bias=bias,
        bias_se=bias_se,
        seconds=seconds,
        reference=reference,
    )


def _squared_mean(products: Tensor) -> tuple[float, float]:
    """The squared length of a mean, from the inner products of independent estimates of it, and its standard error.

    Products of different estimates alone: unbiased. The error is the jackknife's.
    """
    count = len(products)
    rows, total, diagonal = products.sum(1), products.sum(), products.diagonal()
    value = (total - diagonal.sum()) / (count * (count - 1))
    without = (total - 2 * rows + diagonal - (diagonal.sum() - diagonal)) / ((count - 1) * (count - 2))
    error = ((count - 1) / count * (without - without.mean()).square().sum()).sqrt()
    return value.item(), error.item()
