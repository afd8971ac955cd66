"""The model of which everything is known."""

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from .errors import InputError
from .program import Program
from .vae import SupportsEncode


class LinearGaussian(Program):
    r"""p(z) = N(z; 0, I), p(x|z) = N(x; W z + b, sigma^2 I): probabilistic PCA, the oracle of every estimator.

    Its evidence and its posterior are exact: p(x) = N(x; b, W W' + sigma^2 I) and
    p(z|x) = N(z; M^-1 W' (x - b), sigma^2 M^-1) with M = W'W + sigma^2 I.
    Tipping and Bishop (1999), Probabilistic Principal Component Analysis, equations 6 to 8.

    Args:
        weight: W, ``(P, D)``.
        bias: b, ``(P,)``.
        scale: sigma, one positive number for all pixels. Its logarithm is what is learned.

    Example:
        >>> import torch
        >>> model = LinearGaussian(torch.eye(2), torch.zeros(2), 1.0)
        >>> model.posterior(torch.tensor([[2.0, 0.0]])).loc
        tensor([[1., 0.]], grad_fn=<...>)
    """

    def __init__(self, weight: Tensor, bias: Tensor, scale: float | Tensor) -> None:
        super().__init__()
        if weight.ndim != 2 or bias.shape != weight.shape[:1]:
            raise ValueError(f"weight is (P, D) and bias (P,); they are {tuple(weight.shape)} and {tuple(bias.shape)}.")
        self.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
        self.bias = nn.Parameter(bias.detach().clone(memory_format=torch.contiguous_format))
        self.log_scale = nn.Parameter(torch.as_tensor(scale, dtype=weight.dtype).detach().log())

    @property
    def scale(self) -> Tensor:
        """sigma, ``()``."""
        return self.log_scale.exp()

    def forward(self, x: Tensor) -> Tensor:
        """The generative program of ``x``, ``(B, P)``; returns z, ``(B, D)``."""
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(self.weight.new_zeros(self.weight.shape[1]), 1.0).to_event(1))
            pyro.sample("x", self.decode(z), obs=x)
        return z

    def decode(self, z: Tensor) -> dist.TorchDistribution:
        """p(x|z): from z ``(..., D)``, event shape ``(P,)``."""
        return dist.Normal(z @ self.weight.T + self.bias, self.scale).to_event(1)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Draws x ~ p(x), ``(count, P)``."""
        return self.decode(torch.randn(count, self.weight.shape[1]).to(self.weight)).sample()

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x), exact, in nats per datum, ``(B,)``."""
        return dist.LowRankMultivariateNormal(
            self.bias, self.weight, self.scale.square().expand(len(self.bias))
        ).log_prob(x)

    def elbo(self, x: Tensor, guide: SupportsEncode) -> Tensor:
        """E log p(x|z) - KL(q(z|x) || p(z)), exact, in nats per datum, ``(B,)``.

        For q(z|x) = N(mu, S): E |x - W z - b|^2 = |x - W mu - b|^2 + tr W S W', and the KL is
        (tr S + |mu|^2 - D - log det S) / 2.

        Raises:
            InputError: q(z|x) is not normal.
        """
        q = guide.encode(x)
        normal = q if isinstance(q, dist.MultivariateNormal) else getattr(q, "base_dist", None)
        if not isinstance(normal, dist.MultivariateNormal | dist.Normal):
            raise InputError(f"The bound of a linear-Gaussian model is exact for a normal guide; this is {q}.")
        covariance = normal.covariance_matrix if normal is q else normal.variance.diag_embed()
        square = (x - self.bias - q.mean @ self.weight.T).square().sum(-1)
        spread = torch.einsum("pi,bij,pj->b", self.weight, covariance, self.weight)
        variance, pixels, latents = self.scale.square(), *self.weight.shape
        log_likelihood = -0.5 * ((square + spread) / variance + pixels * (2 * math.pi * variance).log())
        trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        return log_likelihood - 0.5 * (trace + q.mean.square().sum(-1) - latents - covariance.logdet())

    def posterior(self, x: Tensor) -> dist.MultivariateNormal:
        """p(z|x), exact: batch shape ``(B,)``, event shape ``(D,)``, full covariance."""
        variance = self.scale.square()
        m = self.weight.T @ self.weight + variance * torch.eye(self.weight.shape[1]).to(self.weight)
        loc = torch.linalg.solve(m, ((x - self.bias) @ self.weight).unsqueeze(-1)).squeeze(-1)
        return dist.MultivariateNormal(loc, precision_matrix=m / variance)
