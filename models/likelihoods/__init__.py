"""Likelihoods p(x|z): one file and one line here each."""

from .bernoulli import Bernoulli as Bernoulli
from .categorical import Categorical as Categorical
from .continuous_bernoulli import ContinuousBernoulli as ContinuousBernoulli
from .discretized_logistic import DiscretizedLogistic as DiscretizedLogistic
from .gaussian import Gaussian as Gaussian
from .likelihood import Likelihood as Likelihood
