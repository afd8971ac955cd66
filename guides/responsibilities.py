"""The guide of a latent and of the group that it falls into."""

from typing import Any

import pyro
from pyro.distributions import TorchDistribution
from torch import Tensor

from ..models.gaussian_mixture_vae import GaussianMixtureVAE
from .guide import Guide


class Responsibilities(Guide):
    r"""q(z|x) q(y|z), q(y|z) = p(y|z) of a :class:`~aevb.models.GaussianMixtureVAE`: the best there is, and exact.

    Jiang et al. (2017), Variational Deep Embedding, https://arxiv.org/abs/1611.05148, equation 16. y is marked to be
    enumerated: L_A and L_B_mixed, like Pyro's ``TraceEnum_ELBO``, sum over its K values instead of drawing one.

    Args:
        guide: q(z|x); its parameters are this one's.
        model: whose p(y|z) it is; the model's parameters stay the model's.

    Example:
        >>> import torch
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import Bernoulli, MLP, NormalMixture
        >>> model = GaussianMixtureVAE(NormalMixture(2, components=10), MLP(2, 50, 64), Bernoulli())
        >>> guide = Responsibilities(AmortizedNormal(MLP(64, 50, 4)), model)
        >>> guide.groups(torch.rand(5, 64)).shape
        torch.Size([5, 10])
    """

    def __init__(self, guide: Guide, model: GaussianMixtureVAE) -> None:
        super().__init__()
        self.guide = guide
        self._model = (model,)  # in a tuple, so that its parameters are not counted as the guide's

    @staticmethod
    def outputs(latents: int, **options: Any) -> int:
        """0: it has no encoder of its own."""
        return 0

    def encode(self, x: Tensor) -> TorchDistribution:
        """q(z|x): from x ``(..., P)``, batch shape ``(...)``, event shape ``(D,)``."""
        return self.guide.encode(x)

    def forward(self, x: Tensor) -> Tensor:
        """The inference program of ``x``, ``(B, P)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", self.encode(x))
            pyro.sample("y", self._model[0].responsibilities(z), infer={"enumerate": "parallel"})
        return z

    def groups(self, x: Tensor) -> Tensor:
        """p(y|z) at the mean of q(z|x), ``(..., K)``."""
        return self._model[0].responsibilities(self.encode(x).mean).probs
