"""Reweighted wake-sleep without sleep."""

from .reweighted import Reweighted


class WakeWake(Reweighted):
    r"""The value of IWAE; model and guide climb sum_i v_i log p(x, z_i) and sum_i v_i log q(z_i|x), z_i held fixed.

    Bornschein and Bengio (2015), Reweighted Wake-Sleep, the wake-phase update of q,
    https://arxiv.org/abs/1406.2751; so named by Le et al. (2019), https://arxiv.org/abs/1805.10469. v_i are the
    normalised importance weights. The model's gradient is unbiased for IWAE's E L_k. The guide's is biased at finite k
    for the gradient of -KL(p(z|x) || q(z|x)): with k = 1 its mean is 0. Any latents will do.

    Args:
        samples: k, the number of draws of z per datum.

    Example:
        >>> WakeWake(samples=10).target.model
        'IWAE k=10'
    """

    wake = 1.0
