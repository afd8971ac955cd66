"""What goes with what, and why not: every prior with every posterior, every posterior with every estimator.

    python results/combinations.py > results/combinations.md

Each cell is a pair of six pixels that was made and looked at as before training.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from aevb.build import make_estimator, make_pair
from aevb.config import Config
from aevb.data import BINARISATIONS
from aevb.inference import fit
from aevb.models import InputError
from aevb.parts import AMORTIZED, ESTIMATORS, LIKELIHOODS, PRIORS

VARIANTS = ("LearnedNormal:covariance=full", "AmortizedFlow:transform=planar", "AmortizedNormal+Refined:steps=2")
SMALL = Config(latents=3, hidden=(4,), data="six pixels")
SUITED = {"AmortizedBernoulli": "FactorialBernoulli", "AmortizedPowerSpherical": "HypersphericalUniform"}
"""A prior for each posterior that StandardNormal is none for."""

HEADER = """# What goes with what

```
$ python results/combinations.py > results/combinations.md
```

Any prior goes with any posterior at whose draws it has a density, and any posterior with any estimator that can
differentiate it; every other pair is refused before the first step, by the sentence below its table. Each cell is an
answer of `fit` for a pair of six pixels and three latents. A test repeats it.
"""


class Reasons:
    """Refusals by number, each reason once, whatever the families' names."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, reason: InputError) -> str:
        """``[3]``, where the reason is the third."""
        text = " ".join(re.sub(r"(guide, |model, |guide's |model's )\w+", r"\1...", str(reason)).split())
        return f"[{self.numbers.setdefault(text, len(self.numbers) + 1)}]"

    def lines(self) -> str:
        return "\n".join(f"{number}. {text}" for text, number in self.numbers.items())


def table(rows: list[str], columns: list[str], cell: Callable[[str, str], str]) -> str:
    """A Markdown table, its refusals below."""
    reasons = Reasons()

    def asked(row: str, column: str) -> str:
        try:
            return cell(row, column)
        except InputError as reason:
            return reasons.number(reason)

    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {row} | {' | '.join(asked(row, column) for column in columns)} |" for row in rows]
    return "\n".join([*lines, "", reasons.lines()]).rstrip() + "\n"


def kl_path(config: Config) -> str:
    """How the KL of z comes about; a pair that cannot be trained raises what ``fit`` says."""
    x = torch.ones(4, 6)
    with torch.random.fork_rng():
        return fit(*make_pair(config, 6), x, estimator=make_estimator(config), epochs=1, engine="svi").kl_path["z"]


def prior_with_guide(prior: str, guide: str) -> str:
    return kl_path(replace(SMALL, prior=prior, guide=guide, estimator="L_B_mixed"))


def guide_with_estimator(guide: str, estimator: str) -> str:
    prior = SUITED.get(guide, "StandardNormal")
    return kl_path(Config(**vars(SMALL) | {"prior": prior, "guide": guide, "estimator": estimator})).replace(
        "none", "yes"
    )


def likelihood_with_binarisation(likelihood: str, binarisation: str) -> str:
    return "yes" if binarisation in LIKELIHOODS[likelihood].binarisations else ""  # type: ignore[attr-defined]


def guides() -> list[str]:
    return sorted([*AMORTIZED, *(name for name in VARIANTS if name.startswith("Amortized"))])


def priors() -> list[str]:
    return sorted([*PRIORS, *(name for name in VARIANTS if not name.startswith("Amortized"))])


def page() -> str:
    """The whole of combinations.md."""
    return "\n".join(
        [
            HEADER,
            "## Prior and posterior\n\nHow `L_B_mixed` takes the KL: `analytic` where `L_B` can be used too.\n",
            table(priors(), guides(), prior_with_guide),
            "## Posterior and estimator\n\nHow each takes the KL; `yes` where the bound has none.\n",
            table(guides(), list(ESTIMATORS), guide_with_estimator),
            "## Likelihood and pixels\n",
            table(list(LIKELIHOODS), list(BINARISATIONS), likelihood_with_binarisation),
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(page())
