"""Generative models p(x, z), and the priors, likelihoods and networks that they are made of."""

from .bernoulli_vae import BernoulliVAE as BernoulliVAE
from .conditional_normal import ConditionalNormal as ConditionalNormal
from .conditional_vae import ConditionalVAE as ConditionalVAE
from .errors import InputError as InputError
from .gaussian_mixture_vae import GaussianMixtureVAE as GaussianMixtureVAE
from .hierarchical_vae import HierarchicalVAE as HierarchicalVAE
from .likelihoods import *  # noqa: F403  (a part is one line, in its own package)
from .linear_gaussian import LinearGaussian as LinearGaussian
from .networks import *  # noqa: F403
from .priors import *  # noqa: F403
from .program import Program as Program
from .semi_supervised_vae import SemiSupervisedVAE as SemiSupervisedVAE
from .vae import VAE as VAE
