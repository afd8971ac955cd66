"""Real-valued pixels."""

from typing import Literal, cast

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ..errors import InputError, check_name
from .likelihood import Likelihood

_SCALE = 0.1


class Gaussian(Likelihood):
    r"""p(x|z) = N(x; mu(z), diag sigma^2), sigma^2 = floor + exp(s).

    Kingma and Welling (2013), Auto-Encoding Variational Bayes, appendix C.2, equation 12.

    Variances of a pixel each are made when ``outputs`` is first told how many pixels there are, for the decoder.

    Args:
        variance: ``"from_z"``: s is the second half of the decoder's output, a variance per pixel and datum, as in
            the paper; ``"per_pixel"``: s is one learned number for each pixel, as in factor analysis; ``"shared"``: s
            is one learned number for all pixels, as in probabilistic PCA; ``"fixed"``: sigma is ``scale``.
        mean: ``"linear"``: mu is the decoder's output; ``"sigmoid"``: squashed into (0, 1), as the paper does for
            Frey Face.
        scale: sigma where it is fixed, in units of x. It weighs the squared error, by 1 / (2 sigma^2), against the
            KL. The default is a tenth of the range of pixels scaled to [0, 1], somewhat less than ten principal
            components leave unexplained of a pixel of the digits (0.14).
        floor: the smallest variance where it is not fixed, in squared units of x. Without one the density is unbounded
            wherever a pixel is constant. The default is a standard deviation of 1/100 of the range of pixels scaled to
            [0, 1].

    Example:
        >>> import torch
        >>> Gaussian().outputs(64), Gaussian(variance="shared").outputs(64)
        (128, 64)
        >>> Gaussian(variance="fixed", scale=0.5)(torch.zeros(1, 64)).stddev.unique()
        tensor([0.5000])
    """

    binarisations = ("none",)

    def __init__(
        self,
        *,
        variance: Literal["from_z", "per_pixel", "shared", "fixed"] = "from_z",
        mean: Literal["linear", "sigmoid"] = "linear",
        scale: float = _SCALE,
        floor: float = 1e-4,
    ) -> None:
        super().__init__()
        self.variance = check_name("variance of Gaussian", variance, ("from_z", "per_pixel", "shared", "fixed"))
        self.mean = check_name("mean of Gaussian", mean, ("linear", "sigmoid"))
        if not scale > 0:
            raise InputError(f"The scale of Gaussian is a positive standard deviation; it is {scale}.")
        if scale != _SCALE and variance != "fixed":
            raise InputError(
                f"The scale of Gaussian is that of a fixed variance; it is {scale}, and the variance is {variance}.\n"
                "  Use variance=fixed, or leave out scale."
            )
        if not floor > 0:
            raise InputError(f"The floor of Gaussian is a positive variance; it is {floor}.")
        self.scale, self.floor = scale, floor
        self.log_excess_variance: nn.Parameter | None  # s: sigma^2 starts at 1 + floor
        self.register_parameter("log_excess_variance", nn.Parameter(torch.zeros(())) if variance == "shared" else None)

    def outputs(self, pixels: int) -> int:
        """2P, mean then s, with a variance from z; else P, the mean.

        Raises:
            InputError: the variances are those of another number of pixels.
        """
        if self.variance == "per_pixel":
            if self.log_excess_variance is None:
                self.log_excess_variance = nn.Parameter(torch.zeros(pixels))
            if len(self.log_excess_variance) != pixels:
                raise InputError(
                    f"This Gaussian has the variances of {len(self.log_excess_variance)} pixels; these are {pixels}.\n"
                    "  Make another for them."
                )
        return 2 * pixels if self.variance == "from_z" else pixels

    def forward(self, parameters: Tensor) -> dist.TorchDistribution:
        """p(x|z): from ``(..., 2P)``, mean then s, or from ``(..., P)`` where the variance is not from z."""
        loc, log_excess_variance = parameters, cast(Tensor | None, self.log_excess_variance)
        if self.variance == "from_z":
            loc, log_excess_variance = parameters.chunk(2, -1)
        if self.mean == "sigmoid":
            loc = loc.sigmoid()
        return dist.Normal(loc, self._stddev(log_excess_variance)).to_event(1)

    def _stddev(self, log_excess_variance: Tensor | None) -> Tensor | float:
        if self.variance == "fixed":
            return self.scale
        if log_excess_variance is None:
            raise InputError(
                "Gaussian with variance=per_pixel has to know how many pixels there are: ask its outputs(pixels) when "
                "the decoder is made."
            )
        return (self.floor + log_excess_variance.exp()).sqrt()
