"""Wake-sleep, with importance weighted waking."""

from .reweighted import Reweighted


class WakeSleep(Reweighted):
    r"""The value of IWAE; the model climbs sum_i v_i log p(x, z_i), the guide log q(z|x) of dreams (z, x) ~ p(x, z).

    With k = 1 it is Hinton, Dayan, Frey and Neal (1995), The wake-sleep algorithm, to which Kingma and Welling (2013)
    compare theirs in figure 2; with k > 1 Bornschein and Bengio (2015), Reweighted Wake-Sleep,
    https://arxiv.org/abs/1406.2751. v_i are the normalised importance weights. The model's gradient is
    unbiased for IWAE's E L_k, the guide's for -KL(p(z|x) || q(z|x)) at the x that the model dreams. Any latents will
    do. The observed tensors have to be arguments of both programs.

    Args:
        samples: k, the number of draws of z per datum.

    Example:
        >>> WakeSleep(samples=1).target.guide
        '-KL(p(z|x) || q(z|x)) at dreams'
    """

    wake = 0.0
