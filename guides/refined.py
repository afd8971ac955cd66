"""A guide that looks twice."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, Self

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..models.errors import InputError, check_at_least
from .guide import Amortized, Guide


class SupportsDecode(Protocol):
    """A model with a prior and a p(x|z), as :class:`~aevb.models.VAE` has them."""

    @property
    def prior(self) -> Any: ...

    def decode(self, z: Tensor) -> TorchDistribution: ...


class Refined(Guide):
    r"""q(z|x) = family(encoder(x) + delta(x)), delta by steps of Adam that raise the bound of each datum by itself.

    What it adds to the bound of the guide that it starts from is the amortisation gap, as far as the steps go:
    Cremer, Li and Duvenaud (2018), Inference Suboptimality in Variational Autoencoders,
    https://arxiv.org/abs/1801.03558. Kim et al. (2018), Semi-Amortized Variational Autoencoders,
    https://arxiv.org/abs/1802.02550, train with it; here the encoder then learns from the gradient at the refined
    numbers, as if delta were fixed. Each step draws its own z, and its size falls linearly to 0; out of training the
    draws are the same at every call. Whatever the estimator, it is the evidence lower bound that the steps raise.

    Args:
        guide: an amortised guide with reparametrised draws; its parameters are this one's.
        steps: of Adam, for each datum, at every call.
        learning_rate: their first size, in units of the encoder's outputs; larger for an encoder far from its best.
        samples: draws of z for each step.
        beta: the weight of the KL in the bound that is raised; that of the estimator, where it has one.

    Example:
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import MLP, VAE, Bernoulli, StandardNormal
        >>> model = VAE(StandardNormal(2), MLP(2, 16), Bernoulli())
        >>> guide = Refined(AmortizedNormal(MLP(16, 4)), steps=20).attach(model)
        >>> guide.encode(torch.ones(5, 16)).batch_shape
        torch.Size([5])
    """

    def __init__(
        self, guide: Amortized, *, steps: int = 10, learning_rate: float = 0.01, samples: int = 4, beta: float = 1.0
    ) -> None:
        super().__init__()
        if not isinstance(guide, Amortized):
            raise InputError(f"Refined starts from the numbers of an amortised guide; {type(guide).__name__} has none.")
        self.guide = guide
        self.steps = check_at_least(1, "steps of Refined", steps)
        self.learning_rate = check_at_least(0.0, "learning_rate of Refined", learning_rate)
        self.samples = check_at_least(1, "samples of Refined", samples)
        self.beta = check_at_least(0.0, "beta of Refined", beta)
        self._model: tuple[Any, ...] = ()  # in a tuple, so that its parameters are not counted as the guide's
        self._remembered: tuple[Tensor, Tensor] | None = None
        self._remembers = False

    def attach(self, model: SupportsDecode) -> Self:
        """Raise the bound of this model."""
        self._model = (model,)
        return self

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """While nothing is trained: a batch that comes again right away is not refined again.

        An estimate of log p(x) asks for q(z|x) of one batch many times, a few draws of z each.
        """
        self._remembers = True
        try:
            yield
        finally:
            self._remembers, self._remembered = False, None

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """0: it has no encoder of its own."""
        return 0

    def encode(self, x: Tensor) -> TorchDistribution:
        """q(z|x): from x ``(..., P)``, batch shape ``(...)``, event shape ``(D,)``."""
        if self._remembered and self._remembered[0].shape == x.shape and torch.equal(self._remembered[0], x):
            return self.guide.family(self._remembered[1])
        numbers = self.guide.encoder(x)
        with nullcontext() if self.training else torch.random.fork_rng():
            if not self.training:
                torch.manual_seed(0)
            delta = self._delta(x, numbers.detach())
        if self._remembers and not self.training:
            self._remembered = x, (numbers + delta).detach()
        return self.guide.family(numbers + delta)

    @torch.enable_grad()
    def _delta(self, x: Tensor, start: Tensor) -> Tensor:
        numbers = start.clone().requires_grad_()
        first, second = torch.zeros_like(start), torch.zeros_like(start)
        for step in range(1, self.steps + 1):
            (gradient,) = torch.autograd.grad(self._bound(x, numbers).sum(), numbers)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            ascent = first / (1 - 0.9**step) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            rate = self.learning_rate * (1 - (step - 1) / self.steps)
            numbers = (numbers + rate * ascent).detach().requires_grad_()
        return (numbers - start).detach()

    def _bound(self, x: Tensor, numbers: Tensor) -> Tensor:
        """log p(x|z) + beta (log p(z) - log q(z|x)), z ~ q, ``(samples, ...)``."""
        if not self._model:
            raise InputError("Refined raises the bound of a model: Refined(guide).attach(model).")
        (model,) = self._model
        q = self.guide.family(numbers)
        if not q.has_rsample:
            raise InputError(f"Refined follows the path of z; {type(self.guide).__name__} draws without one.")
        z, p = q.rsample((self.samples,)), model.prior()
        if p._validate_args and not p.support.check(z.detach()).all():
            raise InputError("Refined draws z where the model's prior has no density: choose another prior.")
        return model.decode(z).log_prob(x) + self.beta * (p.log_prob(z) - q.log_prob(z))
