"""Guides q(z|x): one file and one line here each."""

from .amortized_bernoulli import AmortizedBernoulli as AmortizedBernoulli
from .amortized_normal import AmortizedNormal as AmortizedNormal
from .exact_posterior import ExactPosterior as ExactPosterior
from .guide import Guide as Guide
