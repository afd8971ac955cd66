"""What the estimators share whose k draws of a datum weigh each other."""

import math
from abc import ABC
from typing import Any

import torch
from torch import Tensor

from ...models.errors import InputError
from ..draws import Draws
from ..sites import Program
from .estimator import Estimator, Target


class ImportanceWeighted(Estimator, ABC):
    """An estimator whose bound mixes k draws of a datum, by their weights w = p(x|z) (p(z) / q(z|x))^beta.

    A latent that all data share would have to be weighed by all of them at once: pairs with global latents are refused.

    Args:
        samples: k, the number of draws of z per datum.
        beta: the power of the prior ratio in the weights; 1 makes it a bound on log p(x).
    """

    def __init__(self, *, samples: int = 5, beta: float = 1.0) -> None:
        super().__init__(samples=samples, beta=beta)

    @property
    def target(self) -> Target:
        """The bound of Burda et al., and its gradient."""
        name = iwae(self.samples, self.beta)
        is_below = self.beta == 1 or (self.beta > 1 and self.samples == 1)
        return Target(name, "below" if is_below else "either", name, name)

    def draw(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Draws:
        """k draws of a pair whose latents are all local."""
        draws = super().draw(model, guide, *args, **kwargs)
        if shared := [z.name for z in draws.latents if z.is_global]:
            raise InputError(
                f"{type(self).__name__} weighs the draws of one datum; the latents {shared} are shared by all data "
                "(outside the plate 'data').\n"
                "  Use L_A, L_B, L_B_mixed, STL or REINFORCE."
            )
        return draws


def iwae(samples: int, beta: float) -> str:
    """The name of the importance weighted bound; with one sample it is the evidence lower bound."""
    name = "ELBO" if samples == 1 else f"IWAE k={samples}"
    return name if beta == 1 else f"{name}, beta={beta:g}"


def log_mean_exp(values: Tensor) -> Tensor:
    """log of the mean of exp, over the first dimension."""
    return torch.logsumexp(values, 0) - math.log(len(values))
