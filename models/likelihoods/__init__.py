"""Likelihoods p(x|z): one file and one line here each."""

from .bernoulli import Bernoulli as Bernoulli
from .continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulli
from .gaussian import Gaussian as Gaussian
from .likelihood import Likelihood as Likelihood
