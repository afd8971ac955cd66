"""Priors p(z): one file and one line here each."""

from .factorial_bernoulli import FactorialBernoulli as FactorialBernoulli
from .flow_prior import FlowPrior as FlowPrior
from .hyperspherical_uniform import HypersphericalUniform as HypersphericalUniform
from .laplace import Laplace as Laplace
from .learned_normal import LearnedNormal as LearnedNormal
from .logistic import Logistic as Logistic
from .normal_mixture import NormalMixture as NormalMixture
from .prior import Prior as Prior
from .standard_normal import StandardNormal as StandardNormal
from .student_t import StudentT as StudentT
from .vamp_prior import VampPrior as VampPrior
