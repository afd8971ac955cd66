"""A prior made of the guide's own posteriors."""

from typing import Any, Self

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from ..errors import InputError, check_at_least
from .normal_mixture import MixtureOfNormals
from .prior import Prior


class VampPrior(Prior):
    r"""p(z) = 1/K sum_k q(z|u_k): the mixture of the posteriors of K pseudo-inputs u, which are learned.

    Tomczak and Welling (2018), VAE with a VampPrior, https://arxiv.org/abs/1705.07120: the best prior for
    the bound is the mean of the posteriors, and this is one of fewer components. It shares the guide's encoder, whose
    parameters stay the guide's and are trained once, by what both programs say of them; only the pseudo-inputs are
    the prior's. KL(q || p) has no closed form: use L_B_mixed or L_A. Each step encodes K more inputs.

    Args:
        latents: D, the number of latents.
        components: K, the number of pseudo-inputs.
        bounded: hold the pseudo-inputs in [0, 1], where pixels lie.

    Example:
        >>> from aevb.guides import AmortizedNormal
        >>> from aevb.models import MLP, VampPrior
        >>> guide = AmortizedNormal(MLP(64, 100, 2 * 10))
        >>> prior = VampPrior(10, components=50).attach(guide, torch.rand(50, 64))
        >>> prior().log_prob(torch.zeros(3, 10)).shape
        torch.Size([3])
    """

    def __init__(self, latents: int, *, components: int = 500, bounded: bool = True) -> None:
        super().__init__(latents)
        self.bounded = bounded
        self.components = check_at_least(1, "components of VampPrior", components)
        self._guide: tuple[Any, ...] = ()  # in a tuple, so that its parameters are not counted as the prior's

    def attach(self, guide: Any, inputs: Tensor) -> Self:
        """Take a guide's posteriors, of pseudo-inputs that start here.

        Args:
            guide: what has ``encode``.
            inputs: ``(K, P)``, data or noise.

        Raises:
            InputError: there are not K inputs, or the posteriors have no density at a given z.
        """
        if inputs.ndim != 2 or len(inputs) != self.components:
            raise InputError(
                f"VampPrior has {self.components} pseudo-inputs, a row each; these are {tuple(inputs.shape)}."
            )
        _check_density(guide, inputs)
        self._guide = (guide,)
        self.pseudo_inputs = nn.Parameter(inputs.detach().clone().to(torch.get_default_dtype()))
        return self

    def forward(self) -> dist.TorchDistribution:
        """p(z): batch shape ``()``, event shape ``(D,)``."""
        posteriors = self.posteriors()
        equal = self.pseudo_inputs.new_zeros(self.components)
        base = posteriors.base_dist if isinstance(posteriors, Independent) else None
        if isinstance(base, Normal):
            return MixtureOfNormals(equal, base.loc, base.scale)
        return dist.MixtureSameFamily(dist.Categorical(logits=equal), posteriors)

    @property
    def inputs(self) -> Tensor:
        """The pseudo-inputs as the guide gets them, ``(K, P)``: in [0, 1] where they are bounded.

        A clamp has no gradient at its bounds, where black and white pixels start: it is passed straight through.
        """
        u = self.pseudo_inputs
        return u + (u.clamp(0, 1) - u).detach() if self.bounded else u

    def posteriors(self) -> dist.TorchDistribution:
        """q(z|u_k): batch shape ``(K,)``, event shape ``(D,)``."""
        if not self._guide:
            raise InputError("VampPrior is made of a guide's posteriors: VampPrior(...).attach(guide, inputs).")
        posteriors: dist.TorchDistribution = self._guide[0].encode(self.inputs)
        return posteriors


@torch.no_grad()
def _check_density(guide: Any, inputs: Tensor) -> None:
    q = guide.encode(inputs[:1])
    with torch.random.fork_rng():
        other = q.sample().clone()
    try:
        q.log_prob(other)
    except (KeyError, NotImplementedError):
        raise InputError(
            "VampPrior is a mixture of the guide's posteriors, whose density it needs at every z; "
            f"those of {type(guide).__name__} have one only where they drew, having no inverse.\n"
            "  Use AmortizedFlow:transform=iaf, or another guide."
        ) from None
