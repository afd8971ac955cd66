"""log p(x) >= ...: estimators, training, evidence and diagnostics, for any Pyro pair."""

from . import closed_forms as closed_forms
from .batches import Batches as Batches
from .choose import ESTIMATORS as ESTIMATORS
from .divergence import DivergenceError as DivergenceError
from .estimators import *  # noqa: F403  (an estimator is one line, in its own package)
from .evaluate import evaluate as evaluate
from .fit import fit as fit
from .gradients import GradientNoise as GradientNoise
from .gradients import gradient_noise as gradient_noise
from .gradients import refusals as refusals
from .history import COLUMNS as COLUMNS
from .history import History as History
from .latents import active_units as active_units
from .latents import kl_per_latent as kl_per_latent
from .log_evidence import LogEvidence as LogEvidence
from .log_evidence import log_evidence as log_evidence
from .optimizers import OPTIMIZERS as OPTIMIZERS
from .optimizers import SCHEDULES as SCHEDULES
from .randomness import random_streams as random_streams
from .training import Training as Training
