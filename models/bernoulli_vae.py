"""The model with binary latents."""

import torch
from torch import Tensor, nn

from .errors import InputError
from .likelihoods import Likelihood
from .priors import FactorialBernoulli
from .vae import VAE, SupportsEncode

_ENUMERABLE = 16


class BernoulliVAE(VAE):
    r"""p(x, z) = prod_d Bernoulli(z_d; pi_d) p(x|z): a sigmoid belief network of one stochastic layer.

    Mnih and Gregor (2014), Neural Variational Inference and Learning, section 2, https://arxiv.org/abs/1402.0030. A
    :class:`VAE` whose prior is :class:`FactorialBernoulli`. With up to 16 latents everything about it is known by
    enumeration of their 2^D values.

    Args:
        prior: p(z) over D binary latents.
        decoder: a network from ``(..., D)`` to ``(..., likelihood.outputs(P))``.
        likelihood: p(x|z) over P pixels.

    Example:
        >>> from aevb.models import Bernoulli, FactorialBernoulli, MLP
        >>> model = BernoulliVAE(FactorialBernoulli(4), MLP(4, 16), Bernoulli())
        >>> model.posterior(torch.zeros(2, 16)).shape   # of the 16 values of z
        torch.Size([2, 16])
    """

    def __init__(self, prior: FactorialBernoulli, decoder: nn.Module, likelihood: Likelihood) -> None:
        if not isinstance(prior, FactorialBernoulli):
            raise InputError(f"BernoulliVAE has a prior of binary latents, FactorialBernoulli; this is {prior}.")
        super().__init__(prior, decoder, likelihood)

    def states(self) -> Tensor:
        """All values of z, ``(2^D, D)``.

        Raises:
            InputError: there are more than 2^16.
        """
        latents = self.prior.latents
        if latents > _ENUMERABLE:
            raise InputError(f"2^{latents} values of z are too many to enumerate; at most {_ENUMERABLE} latents are.")
        bits = torch.arange(2**latents).unsqueeze(-1) >> torch.arange(latents)
        return (bits & 1).to(next(self.parameters()))

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z) for every z, in nats, ``(B, 2^D)``."""
        z = self.states()
        return self.decode(z).log_prob(x.unsqueeze(-2)) + self.prior().log_prob(z)

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats per datum, ``(B,)``."""
        return self.log_joint(x).logsumexp(-1)

    def posterior(self, x: Tensor) -> Tensor:
        """p(z|x), exact, for every z, ``(B, 2^D)``."""
        return self.log_joint(x).softmax(-1)

    def elbo(self, x: Tensor, guide: SupportsEncode) -> Tensor:
        """E log p(x, z) - log q(z|x) over z ~ q(z|x), exact, in nats per datum, ``(B,)``."""
        log_q = guide.encode(x.unsqueeze(-2)).log_prob(self.states())
        return (log_q.exp() * (self.log_joint(x) - log_q)).sum(-1)
