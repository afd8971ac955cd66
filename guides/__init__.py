"""Guides q(z|x): one file and one line here each."""

from .amortized_bernoulli import AmortizedBernoulli as AmortizedBernoulli
from .amortized_flow import AmortizedFlow as AmortizedFlow
from .amortized_laplace import AmortizedLaplace as AmortizedLaplace
from .amortized_low_rank import AmortizedLowRank as AmortizedLowRank
from .amortized_multivariate_normal import AmortizedMultivariateNormal as AmortizedMultivariateNormal
from .amortized_normal import AmortizedNormal as AmortizedNormal
from .amortized_power_spherical import AmortizedPowerSpherical as AmortizedPowerSpherical
from .amortized_student_t import AmortizedStudentT as AmortizedStudentT
from .conditional import Conditional as Conditional
from .exact_posterior import ExactPosterior as ExactPosterior
from .guide import Amortized as Amortized
from .guide import Guide as Guide
from .hierarchical import Hierarchical as Hierarchical
from .refined import Refined as Refined
from .responsibilities import Responsibilities as Responsibilities
from .semi_supervised import SemiSupervised as SemiSupervised
