"""What a bound loses to its guide, in two parts."""

from .data import DataSet
from .guides import Amortized, Guide, Refined
from .inference import evaluate, log_evidence
from .models import VAE, InputError
from .progress import Say, silent
from .runs import Result, evidence_data

REFINED_SAMPLES = 16
"""Draws of z for each step of refinement."""
EVALUATED_SAMPLES = 50
"""Draws of z for the two bounds."""


def amortisation(
    model: VAE, guide: Guide, data: DataSet, *, steps: int, evidence_samples: int, seed: int, say: Say = silent
) -> Result:
    """What the bound loses to one encoder for all data, and what to the family of q, on the evidence's test data.

    Cremer, Li and Duvenaud (2018), Inference Suboptimality in Variational Autoencoders, equation 2,
    https://arxiv.org/abs/1801.03558: log p(x) - ELBO = (log p(x) - ELBO*) + (ELBO* - ELBO), ELBO* that of q(z|x)
    refined for each datum.
    """
    guide = guide.guide if isinstance(guide, Refined) else guide
    if not isinstance(guide, Amortized):
        raise InputError(f"Only an amortised guide can be refined; this run's is {type(guide).__name__}.")
    part = evidence_data(data)
    refined = Refined(guide, steps=steps, samples=REFINED_SAMPLES).attach(model)
    say(f"{steps} steps on q(z|x) of each of {len(part):,} test data, for the bound")
    own, best = (evaluate(model, q, part, samples=EVALUATED_SAMPLES, seed=seed).elbo for q in (guide, refined))
    say(f"the same for log p(x), {evidence_samples:,} samples of each datum")
    with refined.remembering():
        evidence = log_evidence(model, refined, part, samples=evidence_samples, seed=seed).values
    gaps = {"amortisation_gap": best - own, "approximation_gap": evidence - best}
    means = {name: gap.mean().item() for name, gap in gaps.items()}
    errors = {f"{name}_se": gap.std().item() / len(gap) ** 0.5 for name, gap in gaps.items()}
    return {"refined_steps": steps} | means | errors
