"""The bound whose gradient needs no path, with baselines."""

import itertools
from typing import Any, Literal, Self

import pyro
from torch import Tensor, nn

from ...models.errors import InputError, check_at_least, check_name
from ..draws import Draws
from ..randomness import forked_rng
from ..sites import Program
from .estimator import Estimate, Estimator, Target, elbo

_numbers = itertools.count(1)


class REINFORCE(Estimator):
    r"""The value of L^A, and for the guide 1/L sum_l (log p(x, z_l) - log q(z_l|x) - C(x)) grad log q(z_l|x).

    Mnih and Gregor (2014), Neural Variational Inference and Learning (NVIL), section 2.3,
    https://arxiv.org/abs/1402.0030; Williams (1992). The score function at every latent, reparametrised or not: no
    path is used. Unbiased for the evidence lower bound whatever the baseline C. With beta, the bound is
    E log p(x|z) - beta KL(q(z|x) || p(z)).

    Args:
        samples: L, the number of draws of z per datum.
        beta: the weight of the KL.
        baseline: ``network``: C(x) is a network of x with one hidden layer of tanh units, trained beside the pair by
            least squares (NVIL's input-dependent baseline), which starts at the bound of the first batch;
            ``others``: C is the mean of what the datum's other draws earned (Kool, van Hoof and Welling 2019,
            https://openreview.net/forum?id=r1lgTGL5DE; at least 2 samples); ``none``: 0. NVIL's division by the
            signal's running deviation, which rescales the gradient, is left to the optimizer.
        hidden: the network's hidden units.

    Example:
        >>> import torch
        >>> from aevb.guides import AmortizedBernoulli
        >>> from aevb.models import Bernoulli, BernoulliVAE, FactorialBernoulli, MLP
        >>> model = BernoulliVAE(FactorialBernoulli(8), MLP(8, 16), Bernoulli())
        >>> guide = AmortizedBernoulli(MLP(16, 8))
        >>> REINFORCE().estimate(model, guide, torch.zeros(4, 16)).bound.shape
        torch.Size([4])
    """

    def __init__(
        self,
        *,
        samples: int = 1,
        beta: float = 1.0,
        baseline: Literal["network", "others", "none"] = "network",
        hidden: int = 100,
    ) -> None:
        super().__init__(samples=samples, beta=beta)
        self.baseline = check_name("baseline of REINFORCE", baseline, ("network", "others", "none"))
        if baseline == "others":
            check_at_least(2, "samples of REINFORCE with baseline=others", samples)
        self.hidden = check_at_least(1, "hidden of REINFORCE", hidden)
        self.network: nn.Module | None = None

    @property
    def target(self) -> Target:
        """The evidence lower bound."""
        return elbo(self.beta)

    def fresh(self) -> Self:
        """A copy of its settings, with no baseline learned."""
        other = super().fresh()
        other.network = None
        return other

    def parameters(self) -> dict[str, Tensor]:
        """Those of the baseline's network."""
        return dict(self.network.named_parameters(prefix="baseline")) if self.network else {}

    def state(self) -> dict[str, Tensor]:
        """Those, and where the baseline was first."""
        return self.parameters() | (dict(self.network.named_buffers(prefix="baseline")) if self.network else {})

    def estimate(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Estimate:
        """NVIL's gradient on a batch."""
        draws = self.draw(model, guide, *args, hold=True, **kwargs)
        bound = draws.log_weights(self.beta).detach()  # (L, B)
        log_p = draws.log_likelihood + self.beta * draws.log_prior
        signal, regression = self._centred(bound, draws, args)
        surrogate = log_p.mean() + draws.score_function(signal / self.samples)
        return Estimate.of(draws, bound.mean(0), surrogate - regression, "monte-carlo")

    def _centred(self, bound: Tensor, draws: Draws, args: Any) -> tuple[Tensor, Tensor]:
        """What each draw earned above its baseline, ``(L, B)``, and the baseline's own loss."""
        if self.baseline == "others":
            return (bound - bound.mean(0)) * self.samples / (self.samples - 1), bound.new_zeros(())
        if self.baseline == "none":
            return bound, bound.new_zeros(())
        residual = bound - self._network(bound, draws.plate.batch, args)
        return residual.detach(), 0.5 * residual.square().mean()

    def _network(self, bound: Tensor, batch: int, args: Any) -> Tensor:
        """C(x), ``(B,)``, of the first element of the batch."""
        x = args[0] if args else None
        if not isinstance(x, Tensor) or len(x) != batch or not x.is_floating_point():
            raise InputError(
                f"The baseline of REINFORCE is a network of the pair's first argument, which has to be a row of "
                f"numbers for each of the {batch} data.\n  Use REINFORCE(baseline='others', samples=2) for this pair."
            )
        if self.network is None:
            with forked_rng(0):
                self.network = _Baseline(bound.mean(), x[0].numel(), self.hidden).to(x)
            self._name = f"REINFORCE-{next(_numbers)}"  # another estimator has another network
        pyro.module(self._name, self.network)
        return self.network(x.reshape(batch, -1))


class _Baseline(nn.Module):
    """C(x) = c + u network(x), ``(B,)``: c is the bound at first and u its size, so that C is near from the start."""

    centre: Tensor
    unit: Tensor

    def __init__(self, centre: Tensor, inputs: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("centre", centre.clone())
        self.register_buffer("unit", centre.abs().clamp(min=1.0))
        self.layers = nn.Sequential(nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        nn.init.zeros_(self.layers[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.layers[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.centre + self.unit * self.layers(x).squeeze(-1)
