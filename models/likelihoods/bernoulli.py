"""Black and white pixels."""

import pyro.distributions as dist
from pyro.distributions import constraints
from torch import Tensor

from .likelihood import Likelihood


class _CrossEntropy(dist.Bernoulli):
    """A Bernoulli whose "log density" is read at grey values too."""

    support = constraints.unit_interval


class Bernoulli(Likelihood):
    r"""log p(x|z) = sum_p x_p log y_p + (1 - x_p) log(1 - y_p), with y = sigmoid(decoder(z)).

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, appendix C.1, equation 11.
    It is a density on {0, 1}: grey pixels are to be binarised. With ``relaxed=True`` grey values in [0, 1] are
    accepted and the sum above is a cross-entropy, the mean of log p(b|z) over b ~ Bernoulli(x): not a log density of
    grey pixels, and never to be ranked against one.

    Args:
        relaxed: accept grey values in [0, 1].

    Example:
        >>> import torch
        >>> Bernoulli()(torch.zeros(1, 4)).log_prob(torch.ones(1, 4)).item() / 4   # log 1/2 a pixel
        -0.6931471824645996
    """

    def __init__(self, *, relaxed: bool = False) -> None:
        super().__init__()
        self.relaxed = relaxed

    binarisations = ("dynamic", "fixed", "relaxed")

    def forward(self, parameters: Tensor) -> dist.TorchDistribution:
        """p(x|z): from logits ``(..., P)``."""
        family = _CrossEntropy if self.relaxed else dist.Bernoulli
        return family(logits=parameters).to_event(1)
