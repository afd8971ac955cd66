"""Grey levels, the near ones alike."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..errors import InputError, check_at_least, check_name
from .levels import LevelDistribution
from .likelihood import Likelihood


class DiscretizedLogistic(Likelihood):
    r"""p(x|z) = prod_p sigma((x_p + h - mu_p) / s_p) - sigma((x_p - h - mu_p) / s_p), h = 1 / (2 (V - 1)).

    The mass of a logistic density between the levels' midpoints, all that is left at the ends: Kingma et al. (2016),
    Improving Variational Inference with Inverse Autoregressive Flow, https://arxiv.org/abs/1606.04934.
    s = floor + exp(r), (mu, r) = decoder(z). A probability of V grey levels, for pixels as they are stored (of 8 bits:
    V = 256, scaled to [0, 1]); other values are refused.

    Args:
        levels: V, the number of levels.
        scale: ``from_z``: r for each pixel and datum; ``shared``: one learned number.
        floor: the smallest s, in units of x; without one, constant pixels drive it to 0.

    Example:
        >>> likelihood = DiscretizedLogistic(levels=2, scale="shared")
        >>> likelihood(torch.full((1, 1), 0.5)).log_prob(torch.ones(1, 1)).item()   # as far from 0 as from 1
        -0.6931471824645996
    """

    binarisations = ("none",)

    def __init__(
        self, *, levels: int = 256, scale: Literal["from_z", "shared"] = "from_z", floor: float = 1e-3
    ) -> None:
        super().__init__()
        self.levels = check_at_least(2, "levels of DiscretizedLogistic", levels)
        self.scale = check_name("scale of DiscretizedLogistic", scale, ("from_z", "shared"))
        if not floor > 0:
            raise InputError(f"The floor of DiscretizedLogistic is a positive scale; it is {floor}.")
        self.floor = floor
        if scale == "shared":
            self.log_excess_scale = nn.Parameter(torch.full((), -2.0))

    def outputs(self, pixels: int) -> int:
        """2P with a scale from z, P with a shared one."""
        return 2 * pixels if self.scale == "from_z" else pixels

    def forward(self, parameters: Tensor) -> "LogisticLevels":
        """p(x|z): from ``(..., 2P)``, mu then r, or from ``(..., P)`` where the scale is shared."""
        if self.scale == "from_z":
            loc, log_excess = parameters.chunk(2, -1)
        else:
            loc, log_excess = parameters, self.log_excess_scale
        return LogisticLevels(loc, (self.floor + log_excess.exp()).expand_as(loc), self.levels)


class LogisticLevels(LevelDistribution):
    """Pixels of V levels, each with the mass that a logistic density has around it; loc and scale ``(..., P)``."""

    def __init__(self, loc: Tensor, scale: Tensor, levels: int, validate_args: bool | None = None) -> None:
        self.loc, self.scale = loc, scale
        self.dtype, self.device = loc.dtype, loc.device
        super().__init__(loc.shape, levels, validate_args=validate_args)

    def log_probabilities(self) -> Tensor:
        """Of each level of each pixel, ``(..., P, V)``."""
        levels = torch.arange(self.levels, dtype=self.dtype, device=self.device)
        each = LogisticLevels(self.loc[..., None], self.scale[..., None], self.levels)
        return each.log_prob_of_levels(levels)

    def log_prob_of_levels(self, level: Tensor) -> Tensor:
        """log (sigma(a) - sigma(b)) = log sigma(a) + log sigma(-b) + log(1 - e^(b - a)), ``(..., P)``."""
        width = 1 / (self.levels - 1)
        below = (level - 0.5) * width - self.loc
        a, b, gap = (below + width) / self.scale, below / self.scale, width / self.scale
        is_first, is_last = level == 0, level == self.levels - 1
        zero = a.new_zeros(())
        return (
            torch.where(is_last, zero, logsigmoid(a))
            + torch.where(is_first, zero, logsigmoid(-b))
            + torch.where(is_first | is_last, zero, (-torch.expm1(-gap)).log())
        )

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LogisticLevels":
        """The same for a larger batch."""
        shape = (*batch_shape, self.loc.shape[-1])
        return LogisticLevels(self.loc.expand(shape), self.scale.expand(shape), self.levels)
