"""Priors p(z): one file and one line here each."""

from .factorial_bernoulli import FactorialBernoulli as FactorialBernoulli
from .prior import Prior as Prior
from .standard_normal import StandardNormal as StandardNormal
