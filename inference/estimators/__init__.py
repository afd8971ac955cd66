"""Estimators of a bound and its gradient: one file and one line here each."""

from .estimator import Estimate as Estimate
from .estimator import Estimator as Estimator
from .estimator import KLPath as KLPath
from .l_a import L_A as L_A
from .l_b import L_B as L_B
