"""Real-valued pixels."""

from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..errors import InputError, check_name
from .likelihood import Likelihood


class Gaussian(Likelihood):
    r"""p(x|z) = N(x; mu(z), diag sigma^2), sigma^2 = floor + exp(s).

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, appendix C.2, equation 12.

    Args:
        variance: ``"from_z"``: s is the second half of the decoder's output, a variance per pixel and datum, as in
            the paper; ``"shared"``: s is one learned number for all pixels, as in probabilistic PCA.
        mean: ``"linear"``: mu is the decoder's output; ``"sigmoid"``: squashed into (0, 1), as the paper does for
            Frey Face.
        floor: the smallest variance, in squared units of x. Without one the density is unbounded wherever a pixel is
            constant. The default is a standard deviation of 1/100 of the range of pixels scaled to [0, 1].

    Example:
        >>> import torch
        >>> Gaussian().outputs(64), Gaussian(variance="shared").outputs(64)
        (128, 64)
    """

    binarisations = ("none",)

    def __init__(
        self,
        *,
        variance: Literal["from_z", "shared"] = "from_z",
        mean: Literal["linear", "sigmoid"] = "linear",
        floor: float = 1e-4,
    ) -> None:
        super().__init__()
        self.variance = check_name("variance of Gaussian", variance, ("from_z", "shared"))
        self.mean = check_name("mean of Gaussian", mean, ("linear", "sigmoid"))
        if not floor > 0:
            raise InputError(f"The floor of Gaussian is a positive variance; it is {floor}.")
        self.floor = floor
        if variance == "shared":
            self.log_excess_variance = nn.Parameter(torch.zeros(()))  # s: sigma^2 starts at 1 + floor

    def outputs(self, pixels: int) -> int:
        """2P with a variance from z, P with a shared one."""
        return 2 * pixels if self.variance == "from_z" else pixels

    def forward(self, parameters: Tensor) -> dist.TorchDistribution:
        """p(x|z): from ``(..., 2P)``, mean then s, or from ``(..., P)`` where the variance is shared."""
        if self.variance == "from_z":
            loc, log_excess_variance = parameters.chunk(2, -1)
        else:
            loc, log_excess_variance = parameters, self.log_excess_variance
        if self.mean == "sigmoid":
            loc = loc.sigmoid()
        scale = (self.floor + log_excess_variance.exp()).sqrt()
        return dist.Normal(loc, scale).to_event(1)
