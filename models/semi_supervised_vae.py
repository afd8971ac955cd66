"""The model that learns from few labels."""

from typing import Any, Self

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from .condition import Condition, beside
from .errors import check_at_least
from .likelihoods import Likelihood
from .priors import Prior
from .program import Program


class SemiSupervisedVAE(Program):
    r"""p(y) p(z) p(x|y, z), p(y) = 1 / C: the class y is data where it is known, and a latent where it is not.

    Kingma, Rezende, Mohamed and Welling (2014), Semi-Supervised Learning with Deep Generative Models, M2, equation 2,
    https://arxiv.org/abs/1406.5298. Its programs take images and labels, ``(x, y)``, a label of -1 being unknown. The
    guide is ``SemiSupervised``, which holds y at what is known and lets it be summed over where it is not: the bound of
    a datum is then L(x, y) or U(x) of equations 6 and 7. Once that guide is attached, known labels also teach its
    classifier: while training, ``label_weight`` log q(y|x) is added for each (equation 9), as an observed site
    ``label``. What is measured afterwards, by ``evaluate`` and its kin, is a bound on log p(x, y) or log p(x).

    Args:
        prior: p(z) over D latents.
        decoder: a network from ``(..., D + C)``, z and y as one of C, to ``(..., likelihood.outputs(P))``.
        likelihood: p(x|y, z) over P pixels.
        classes: C.

    Example:
        >>> from aevb.models import Bernoulli, MLP, StandardNormal
        >>> model = SemiSupervisedVAE(StandardNormal(5), MLP(5 + 10, 50, 64), Bernoulli(), classes=10)
        >>> model.sample(torch.arange(10)).shape   # one of each class
        torch.Size([10, 64])
    """

    no_preference: Tensor

    def __init__(self, prior: Prior, decoder: nn.Module, likelihood: Likelihood, *, classes: int) -> None:
        super().__init__()
        self.prior = prior
        self.decoder = decoder
        self.likelihood = likelihood
        self.condition = Condition(check_at_least(2, "classes", classes))
        self.register_buffer("no_preference", torch.zeros(classes), persistent=False)
        self._guide: tuple[Any, ...] = ()  # in a tuple, so that its parameters are not counted as the model's
        self.label_weight = 0.0

    def attach(self, guide: Any, label_weight: float) -> Self:
        """Let known labels teach a guide's ``classify``, each with this weight.

        The paper's is 0.1 times the number of data, known and unknown, for the mean over known labels: 0.1 N / n each.
        """
        self._guide = (guide,)
        self.label_weight = check_at_least(0.0, "label_weight", label_weight)
        return self

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The generative program of ``x``, ``(B, P)``, and ``y``, ``(B,)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            label = pyro.sample("y", dist.Categorical(logits=self.no_preference))
            z = pyro.sample("z", self.prior())
            pyro.sample("x", self.decode(z, label), obs=x)
            if self.training and self._guide and self.label_weight:
                known: Any = y >= 0
                with poutine.mask(mask=known), poutine.scale(scale=self.label_weight):
                    pyro.sample("label", self._guide[0].classify(x), obs=y.clamp(min=0))
        return z

    def decode(self, z: Tensor, y: Tensor) -> dist.TorchDistribution:
        """p(x|y, z): from z ``(..., D)`` and classes ``(...)``, event shape ``(P,)``."""
        return self.likelihood(self.decoder(beside(z, self.condition(y))))

    def reconstruct(self, x: Tensor, guide: Any) -> Tensor:
        """The mean of p(x|y, z) at the likeliest y and the mean of q(z|x, y), ``(..., P)``."""
        y = guide.classify(x).logits.argmax(-1)
        return self.decode(guide.encode(x, y).mean, y).mean

    @torch.no_grad()
    def sample(self, y: Tensor) -> Tensor:
        """Draws x ~ p(x|y) for classes ``(...)``, each through its own z ~ p(z): ``(..., P)``."""
        return self.decode(self.prior().sample(y.shape), y).sample()
