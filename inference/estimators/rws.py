"""Reweighted wake-sleep."""

from .estimator import Estimator
from .reweighted import Reweighted


class RWS(Reweighted):
    r"""The value of IWAE; the guide climbs log q(z|x) half at draws weighted for the data, half at dreams.

    Bornschein and Bengio (2015), Reweighted Wake-Sleep (the combined update of q, which they found to be the
    best), https://arxiv.org/abs/1406.2751. The model climbs sum_i v_i log p(x, z_i), v_i the
    normalised importance weights: unbiased for IWAE's E L_k. The guide's gradient is the mean of those of
    :class:`WakeWake`, biased at finite k, and of :class:`WakeSleep`. Any latents will do. The observed tensors have to
    be arguments of both programs.

    Args:
        samples: k, the number of draws of z per datum.

    Example:
        >>> RWS().target.side
        'below'
    """

    wake = 0.5

    def references(self) -> tuple[Estimator, ...]:
        """For the guide: so many draws that little bias is left."""
        return (RWS(samples=100),)
