"""Grey levels without any order."""

from typing import Any

import torch
from torch import Tensor

from ..errors import check_at_least
from .levels import LevelDistribution
from .likelihood import Likelihood


class Categorical(Likelihood):
    r"""log p(x|z) = sum_p log softmax(l_p) at level v_p, x_p = v_p / (V - 1), the V logits l_p by the decoder.

    Van den Oord, Kalchbrenner and Kavukcuoglu (2016), Pixel Recurrent Neural Networks,
    https://arxiv.org/abs/1601.06759. A probability of V grey levels, for pixels as they are stored (of 8 bits: V =
    256, scaled to [0, 1]); other values are refused.

    Args:
        levels: V, the number of levels.

    Example:
        >>> Categorical(levels=4)(torch.zeros(1, 8)).log_prob(torch.tensor([[0.0, 1.0]])).item() / 2   # log 1/4 a pixel
        -1.3862943649291992
    """

    binarisations = ("none",)

    def __init__(self, *, levels: int = 256) -> None:
        super().__init__()
        self.levels = check_at_least(2, "levels of Categorical", levels)

    def outputs(self, pixels: int) -> int:
        """V P: the logits of level 0 of all pixels, then those of level 1, and so on."""
        return self.levels * pixels

    def forward(self, parameters: Tensor) -> "CategoricalLevels":
        """p(x|z): from ``(..., V P)``."""
        return CategoricalLevels(parameters.unflatten(-1, (self.levels, -1)))


class CategoricalLevels(LevelDistribution):
    """Pixels of V levels, by their logits, ``(..., V, P)``."""

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        self.dtype, self.device = logits.dtype, logits.device
        super().__init__(logits.shape[:-2] + logits.shape[-1:], logits.shape[-2], validate_args=validate_args)

    def log_probabilities(self) -> Tensor:
        """Of each level of each pixel, ``(..., P, V)``."""
        return self.logits.log_softmax(-2).mT

    def log_prob_of_levels(self, level: Tensor) -> Tensor:
        """Of whole numbers 0 to V - 1, ``(..., P)``."""
        shape = torch.broadcast_shapes(level.shape, self.batch_shape + self.event_shape)
        logits = self.logits.expand(*shape[:-1], -1, -1)
        index = level.long().expand(shape).unsqueeze(-2)
        return logits.gather(-2, index).squeeze(-2) - logits.logsumexp(-2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "CategoricalLevels":
        """The same for a larger batch."""
        return CategoricalLevels(self.logits.expand(*batch_shape, *self.logits.shape[-2:]))
