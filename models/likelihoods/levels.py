"""Pixels of a fixed number of grey levels, as a screen shows them."""

from abc import abstractmethod
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class _Levels(constraints.Constraint):
    """0, 1 / (V - 1), ..., 1; ``remedy`` is for data that have others."""

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self.remedy = (
            f"The likelihood has {levels} levels: give it as many as the pixels have by levels=V, as in "
            "Categorical:levels=17 for the digits, or choose a likelihood of real values such as Gaussian."
        )
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        level = value * (self.levels - 1)
        return ((level - level.round()).abs() < 1e-3) & (value >= 0) & (value <= 1)

    def __repr__(self) -> str:
        return f"{{0, 1/{self.levels - 1}, ..., 1}}"


class LevelDistribution(TorchDistribution):
    """Independent pixels of V levels each, scaled to [0, 1]; a family says the log probability of each level.

    Batch shape ``(...)``, event shape ``(P,)``.
    """

    has_rsample = False
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012  # torch's own name and form

    def __init__(self, shape: torch.Size, levels: int, validate_args: bool | None = None) -> None:
        self.levels = levels
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.independent(_Levels(self.levels), 1)

    @abstractmethod
    def log_probabilities(self) -> Tensor:
        """Of each level of each pixel, ``(..., P, V)``."""

    @abstractmethod
    def log_prob_of_levels(self, level: Tensor) -> Tensor:
        """Of whole numbers 0 to V - 1, ``(..., P)``."""

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.log_prob_of_levels((value * (self.levels - 1)).round()).sum(-1)

    @property
    def mean(self) -> Tensor:
        values = torch.linspace(0, 1, self.levels, dtype=self.dtype, device=self.device)
        return self.log_probabilities().exp() @ values

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        probabilities = self.log_probabilities().exp().expand(*shape, self.levels)
        levels = torch.multinomial(probabilities.reshape(-1, self.levels), 1).reshape(shape)
        return levels.to(self.dtype) / (self.levels - 1)
