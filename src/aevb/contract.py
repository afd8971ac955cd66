"""What every estimator keeps, ours and anybody's: :func:`check_estimator` puts one through it.

Two pairs are small enough to integrate numerically: a linear-Gaussian model of one latent, and one of two, the second
of which depends on the first in model and guide. A bound that is a function of k log-weights is then known to the last
digit, with its gradient for every parameter, by Gauss-Hermite quadrature over the k draws.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from .guides import AmortizedNormal
from .inference import Estimator
from .inference.randomness import forked_rng
from .models import MLP, InputError, LinearGaussian, Program

Make = Callable[..., Estimator]
BoundOfWeights = Callable[[Tensor], Tensor]

K = 4.5
"""Standard errors allowed: a right estimator misses them about once in 50,000 comparisons; seeds are fixed."""


class BrokenContract(AssertionError):
    """An estimator does not keep what it promises."""


def check_estimator(make: Make, *, bound: BoundOfWeights | None = None, samples: int = 2, seed: int = 0) -> None:
    """Put an estimator through the contract: values, gradients, batches, subsampling, numbers at their limits.

    Args:
        make: the class, or anything that takes ``samples`` and ``beta`` and returns an estimator.
        bound: what its value is an unbiased estimate of: a function of log p(x|z) + beta (log p(z) - log q(z|x)) of k
            draws, ``(k, ...)``, to nats ``(...)``. By default the function that its target names, ``ELBO`` or ``IWAE``.
            Its gradient for model and guide is checked where the target says that they are the bound's.
        samples: k of the checks, 1 to 3: more would be too many dimensions to integrate over.
        seed: of all draws. Each figure is given 4.5 standard errors.

    Raises:
        BrokenContract: it says what does not hold, and by how much.

    Example:
        >>> from aevb.inference import L_A
        >>> class Doubled(L_A):
        ...     def estimate(self, *args):
        ...         estimate = super().estimate(*args)
        ...         object.__setattr__(estimate, "surrogate", 2 * estimate.surrogate)
        ...         return estimate
        >>> check_estimator(Doubled)
        Traceback (most recent call last):
        aevb.contract.BrokenContract: Doubled: the gradient of 'weight' ...
    """
    if not 1 <= samples <= 3:
        raise InputError(f"The contract is checked with 1 to 3 samples; it is {samples}.")
    before = torch.get_default_dtype()
    with forked_rng(seed), pyro.get_param_store().scope():
        try:
            torch.set_default_dtype(torch.float64)
            bound = bound or bound_of(make(samples=samples))
            for pair in (one_latent(), two_latents()):
                for beta in (1.0, 0.3) if make(samples=samples).has_beta else (1.0,):
                    check_value(make, pair, bound, samples, beta)
                    check_gradient(make, pair, bound, samples, beta)
            check_each_datum_alone(make, samples)
            check_subsampling(make, samples)
            check_reach(make, samples)
            check_extremes(make, samples)
        finally:
            torch.set_default_dtype(before)


def bound_of(estimator: Estimator) -> BoundOfWeights:
    """The function of log-weights, ``(k, ...)`` to ``(...)``, that an estimator's target names."""
    name = estimator.target.bound
    if name.startswith("ELBO"):
        return lambda log_w: log_w.mean(0)
    if name.startswith("IWAE"):
        return lambda log_w: log_w.logsumexp(0) - math.log(len(log_w))
    raise InputError(f"The contract does not know the bound {name}: say it, check_estimator(..., bound=function).")


class Pair:
    """A pair with its data, and log w of given noise: ``log_weights(noise (..., B, D), beta)`` is ``(..., B)``."""

    def __init__(self, model: Program, guide: Program, x: Tensor, latents: int) -> None:
        self.model, self.guide, self.x, self.latents = model, guide, x, latents

    @property
    def parameters(self) -> dict[str, Tensor]:
        return {**dict(self.model.named_parameters()), **dict(self.guide.named_parameters())}

    def log_weights(self, noise: Tensor, beta: float) -> Tensor:
        raise NotImplementedError


class _OneLatent(Pair):
    model: LinearGaussian
    guide: AmortizedNormal

    def log_weights(self, noise: Tensor, beta: float) -> Tensor:
        q = self.guide.encode(self.x)
        z = q.mean + q.stddev * noise
        prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)
        return self.model.decode(z).log_prob(self.x) + beta * (prior - q.log_prob(z))


def one_latent() -> Pair:
    """A linear-Gaussian model of one latent and three pixels, and a guide away from its posterior; two data."""
    model = LinearGaussian(torch.tensor([[1.0], [-0.3], [0.2]]), torch.tensor([0.1, -0.2, 0.3]), 0.7)
    encoder = _linear([[0.4, -0.1, 0.2], [0.1, 0.1, -0.1]], [0.2, -1.0])
    return _OneLatent(model, AmortizedNormal(encoder), torch.tensor([[0.7, -0.4, 0.5], [-0.6, 0.3, 0.9]]), 1)


def _linear(weight: list[list[float]], bias: list[float]) -> nn.Module:
    network = MLP(len(weight[0]), len(bias))
    network.load_state_dict({"0.weight": torch.tensor(weight), "0.bias": torch.tensor(bias)})
    return network


class _Chain(Program):
    """p(a) = N(0, 1), p(b|a) = N(slope a, 1), p(x|a, b) = N(a + weight b, 0.8^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.weight = nn.Parameter(torch.tensor(0.6)), nn.Parameter(torch.tensor(-0.7))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(0.0, 1.0))
            b = pyro.sample("b", dist.Normal(self.slope * a, 1.0))
            pyro.sample("x", dist.Normal(a + self.weight * b, 0.8), obs=x)


class _ChainGuide(Program):
    """q(a|x) = N(gain x, 0.7^2), q(b|a, x) = N(mix a - 0.2 x, scale^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.mix = nn.Parameter(torch.tensor(0.5)), nn.Parameter(torch.tensor(0.4))
        self.log_scale = nn.Parameter(torch.tensor(-0.2))

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            a = pyro.sample("a", dist.Normal(self.gain * x, 0.7))
            pyro.sample("b", dist.Normal(self.mix * a - 0.2 * x, self.log_scale.exp()))


class _TwoLatents(Pair):
    model: _Chain
    guide: _ChainGuide

    def log_weights(self, noise: Tensor, beta: float) -> Tensor:
        scale = self.guide.log_scale.exp()
        a = self.guide.gain * self.x + 0.7 * noise[..., 0]
        b = self.guide.mix * a - 0.2 * self.x + scale * noise[..., 1]
        log_p = _normal(a, 0.0, 1.0) + _normal(b, self.model.slope * a, 1.0)
        log_q = _normal(a, self.guide.gain * self.x, 0.7) + _normal(b, self.guide.mix * a - 0.2 * self.x, scale)
        return _normal(self.x, a + self.model.weight * b, 0.8) + beta * (log_p - log_q)


def _normal(value: Tensor, loc: Any, scale: Any) -> Tensor:
    return dist.Normal(loc, scale).log_prob(value)


def two_latents() -> Pair:
    """A pair of two latent sites, the second of which depends on the first; two data of one pixel."""
    return _TwoLatents(_Chain(), _ChainGuide(), torch.tensor([0.8, -1.1]), 2)


def integral(pair: Pair, bound: BoundOfWeights, samples: int, beta: float) -> Tensor:
    """E of a function of k log-weights, ``(B,)``, by Gauss-Hermite quadrature over k times D normal variables."""
    dims = samples * pair.latents
    points, weights = np.polynomial.hermite_e.hermegauss({1: 60, 2: 40, 3: 32, 4: 18}.get(dims, 12))
    grid = torch.cartesian_prod(*[torch.tensor(points)] * dims).reshape(-1, samples, 1, pair.latents)
    share = torch.cartesian_prod(*[torch.tensor(weights / weights.sum())] * dims).reshape(len(grid), -1).prod(1)
    log_w = pair.log_weights(grid.movedim(1, 0).expand(samples, len(grid), len(pair.x), -1), beta)
    return (share[:, None] * bound(log_w)).sum(0)


def check_value(make: Make, pair: Pair, bound: BoundOfWeights, samples: int, beta: float) -> None:
    """The mean of the value is the integral, for each datum: a bias of 0.05 nats would be seen."""
    many = pair.x.repeat(20_000, *[1] * (pair.x.ndim - 1))
    estimator = make(samples=samples, beta=beta)
    with torch.no_grad():
        values = estimator.estimate(pair.model, pair.guide, many).bound.reshape(20_000, -1)
    _check_mean(f"{_name(make)}: the value at beta = {beta:g}", values, integral(pair, bound, samples, beta), 0.05)


def check_gradient(make: Make, pair: Pair, bound: BoundOfWeights, samples: int, beta: float) -> None:
    """The mean of the gradient is the integral's, for each parameter whose target is the bound's gradient.

    In gradients of up to 2, a bias of 0.05 would be seen.
    """
    target = make(samples=samples, beta=beta).target
    programs = {"model": pair.model, "guide": pair.guide}
    for role, program in programs.items():
        if getattr(target, role) == target.bound:
            truth = gradients_of(integral(pair, bound, samples, beta).mean(), program)
            estimator = make(samples=samples, beta=beta)
            draws = _enough(partial(gradients, estimator, pair, program, 400), 0.05)
            for name, value in truth.items():
                what = f"{_name(make)}: the gradient of '{name}' at beta = {beta:g}"
                _check_mean(what, draws[name], value, 0.05)


def _enough(draw: Callable[[], dict[str, Tensor]], visible: float, most: int = 1000) -> dict[str, Tensor]:
    """As many draws as it takes to see a bias of that size: a hundred at least."""
    drawn: list[dict[str, Tensor]] = []
    while True:
        drawn += [draw() for _ in range(100)]
        stacked = {name: torch.stack([d[name] for d in drawn]) for name in drawn[0]}
        error = max((s.std(0).max() / len(drawn) ** 0.5).item() for s in stacked.values())
        if K * error < visible or len(drawn) >= most:
            return stacked


def gradients(estimator: Estimator, pair: Pair, program: nn.Module, copies: int) -> dict[str, Tensor]:
    """One gradient of the mean over so many copies of the data."""
    many = pair.x.repeat(copies, *[1] * (pair.x.ndim - 1))
    return gradients_of(estimator.estimate(pair.model, pair.guide, many).surrogate, program)


def gradients_of(value: Tensor, program: nn.Module) -> dict[str, Tensor]:
    named = dict(program.named_parameters())
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


def _check_mean(what: str, draws: Tensor, expected: Tensor, visible: float) -> None:
    """The mean over the first dimension is as expected within K standard errors, all below ``visible``."""
    error = draws.std(0) / len(draws) ** 0.5
    if not (K * error).max() <= visible:
        raise BrokenContract(f"{what} is so noisy that a bias of {(K * error).max():.3f} would not be seen.")
    off = (draws.mean(0) - expected).abs() - 1e-9
    if not (off <= K * error).all():
        worst = (off / (error + 1e-300)).argmax()
        mean, true, se = (v.expand_as(off).flatten()[worst] for v in (draws.mean(0), expected, error))
        raise BrokenContract(f"{what} is {mean:.4f} ± {se:.4f}, which is not the {true:.4f} that it should be.")


def _name(make: Make) -> str:
    return getattr(make, "__name__", type(make).__name__)


class _Scripted(dist.Normal):
    """A normal whose draws are given: loc + scale * noise."""

    def __init__(self, loc: Tensor, scale: Tensor, noise: Tensor) -> None:
        super().__init__(loc, scale)
        self.noise = noise

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_Scripted":
        return _Scripted(self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.noise)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        noise = self.noise if self.noise.ndim == self.loc.ndim else self.noise[0]  # where one sample is drawn
        return self.loc + self.scale * noise


def scripted(guide: AmortizedNormal, noise: Tensor, plate: Callable[[Tensor], Any] | None = None) -> Any:
    """The program of a guide whose noise, ``(k, B, D)`` or ``(B, D)``, is given."""

    def program(x: Tensor) -> None:
        with plate(x) if plate else pyro.plate("data", len(x)):
            q = guide.encode(x)
            pyro.sample("z", _Scripted(q.mean, q.stddev, noise).to_event(1))

    return program


def _five() -> tuple[LinearGaussian, AmortizedNormal, Tensor]:
    weight = torch.tensor([[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]])
    return LinearGaussian(weight, torch.tensor([0.1, -0.2, 0.3]), 0.7), AmortizedNormal(MLP(3, 4)), torch.randn(5, 3)


def _noise(samples: int, *shape: int) -> Tensor:
    return torch.randn(samples, *shape) if samples > 1 else torch.randn(*shape)


def check_each_datum_alone(make: Make, samples: int) -> None:
    """A datum has the same bound whatever else is in the batch."""
    model, guide, x = _five()
    noise = _noise(samples, 5, 2)
    whole = make(samples=samples).estimate(model, scripted(guide, noise), x).bound
    for i in range(5):
        alone = make(samples=samples).estimate(model, scripted(guide, noise[..., i : i + 1, :]), x[i : i + 1]).bound
        if not torch.allclose(alone, whole[i : i + 1], rtol=1e-12):
            raise BrokenContract(
                f"{_name(make)}: the bound of a datum depends on the batch that it is in: {whole[i]:.6f} among five, "
                f"{alone.item():.6f} alone."
            )


def check_subsampling(make: Make, samples: int) -> None:
    """Bound and gradient of a batch are the same whether it stands for itself or, subsampled, for a hundred data."""
    model, guide, x = _five()
    noise = _noise(samples, 5, 2)

    def part(x: Tensor) -> None:
        with pyro.plate("data", 100, subsample=x):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
            pyro.sample("x", model.decode(z), obs=x)

    found = []
    for program, plate in ((model, None), (part, lambda x: pyro.plate("data", 100, subsample=x))):
        torch.manual_seed(0)  # for what else is drawn
        estimate = make(samples=samples).estimate(program, scripted(guide, noise, plate), x)
        found.append((estimate.bound, gradients_of(estimate.surrogate, nn.ModuleList([model, guide]))))
    (whole, whole_gradients), (few, few_gradients) = found
    if not torch.allclose(whole, few, rtol=1e-12):
        raise BrokenContract(
            f"{_name(make)}: a subsampled plate changes the bound of a datum from {whole[0]:.6f} to {few[0]:.6f}."
        )
    for name, value in whole_gradients.items():
        if not torch.allclose(value, few_gradients[name], rtol=1e-9, atol=1e-12):
            raise BrokenContract(f"{_name(make)}: a subsampled plate changes the gradient of '{name}'.")


def check_reach(make: Make, samples: int) -> None:
    """As a loss of Pyro's SVI it returns minus the mean bound, and its gradient reaches every named parameter."""
    for pair in (one_latent(), two_latents()):
        estimator = make(samples=samples)
        svi = pyro.infer.SVI(pair.model, pair.guide, pyro.optim.PyroOptim(torch.optim.SGD, {"lr": 0.0}), loss=estimator)
        torch.manual_seed(0)
        loss = svi.step(pair.x)
        torch.manual_seed(0)
        bound = estimator.estimate(pair.model, pair.guide, pair.x).bound.mean().item()
        if not math.isclose(loss, -bound, rel_tol=1e-9):
            raise BrokenContract(f"{_name(make)}: as a Pyro loss it is {loss:.6f}, minus its mean bound {-bound:.6f}.")
        surrogate = estimator.estimate(pair.model, pair.guide, pair.x).surrogate
        for name, value in gradients_of(surrogate, nn.ModuleList([pair.model, pair.guide])).items():
            if not value.isfinite().all() or not value.any():
                raise BrokenContract(f"{_name(make)}: no gradient reaches the parameter '{name[2:]}'.")


def check_extremes(make: Make, samples: int) -> None:
    """Pixels of 1e4 and a posterior of scale 1e-8: in float32 the bound is that of float64, to its own precision.

    Gradients are finite. More cannot be asked: the path of log q(z|x), of size 1 / scale, hides what is 1e-7 of it.
    """
    noise, values = _noise(samples, 1, 2), []
    for dtype in (torch.float32, torch.float64):
        model = LinearGaussian(torch.eye(2) * 1e-3, torch.zeros(2), 100.0).to(dtype)
        guide = AmortizedNormal(_linear([[0.0, 0.0]] * 4, [0.0, 0.0, -80.0, -80.0]), floor=1e-16).to(dtype)
        x = torch.tensor([[1e4, -1e4]], dtype=dtype)
        torch.manual_seed(0)  # for what else is drawn
        estimate = make(samples=samples).estimate(model, scripted(guide, noise.to(dtype)), x)
        found = gradients_of(estimate.surrogate, nn.ModuleList([model, guide]))
        values.append((estimate.bound.double(), {name: g.double() for name, g in found.items()}))
    (single, own), (double, _) = values
    # float32 has 24 bits, and the bound of about -1e4 is a sum of a dozen terms
    if not torch.allclose(single, double, rtol=12 * 2**-24):
        raise BrokenContract(
            f"{_name(make)}: at pixels of 1e4 and scales of 1e-8 the bound is {single.item():.4f} in float32 and "
            f"{double.item():.4f} in float64."
        )
    for name, value in own.items():
        if not value.isfinite().all():
            raise BrokenContract(
                f"{_name(make)}: at pixels of 1e4 and scales of 1e-8 the gradient of '{name[2:]}' is not finite."
            )
