"""Which estimator is the least noisy of a target: its mean over many draws is taken for the truth."""

from .dreg import DReG
from .estimator import Estimator, elbo
from .importance import iwae
from .l_b_mixed import L_B_mixed
from .vimco import VIMCO
from .wake_sleep import WakeSleep
from .wake_wake import WakeWake


def references(name: str, estimator: Estimator) -> list[Estimator]:
    """Those of the target ``name`` that an estimator has for its model or its guide, the least noisy first.

    Some may refuse the pair. Where the target is a limit in k, they come near it.
    """
    samples, beta = estimator.samples, estimator.beta
    if name == elbo(beta).bound:
        return [L_B_mixed(samples=16, beta=beta)]
    if name == iwae(samples, beta):
        return [DReG(samples=samples, beta=beta), VIMCO(samples=samples, beta=beta)]
    return [other for other in (WakeWake(samples=100), WakeSleep(samples=1)) if other.target.guide == name]
