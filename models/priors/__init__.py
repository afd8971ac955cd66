"""Priors p(z): one file and one line here each."""

from .prior import Prior as Prior
from .standard_normal import StandardNormal as StandardNormal
