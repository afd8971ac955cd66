"""The parts that can be named: found in their packages, described by their docstrings, made from ``Name:option=x``."""

import inspect
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

from . import guides, inference, models
from .data import DATA_SETS
from .models import InputError, Likelihood, Network, Prior, Program, likelihoods, networks, priors
from .models.errors import check_name
from .own_parts import own_parts
from .spec import options_of, read_options


def _classes(package: ModuleType, base: type) -> dict[str, type]:
    return {
        name: part
        for name, part in vars(package).items()
        if isinstance(part, type) and issubclass(part, base) and not inspect.isabstract(part) and part is not base
    }


PRIORS = _classes(priors, Prior)
LIKELIHOODS = _classes(likelihoods, Likelihood)
GUIDES = _classes(guides, Program)
AMORTIZED = {name: part for name, part in GUIDES.items() if "encoder" in inspect.signature(part).parameters}
"""Those that any model of one latent vector can have."""
BEHIND: dict[str, type] = {"Refined": guides.Refined}
"""Those that are named behind one of these, as in ``AmortizedNormal+Refined:steps=10``."""
NETWORKS = _classes(networks, nn.Module)
PAIRED = _classes(networks, Network)
"""Those that encoder and decoder can both be made of."""
MODELS = _classes(models, Program)
ESTIMATORS = inference.ESTIMATORS
NAMED: dict[str, dict[str, type]] = {
    "prior": PRIORS,
    "guide": AMORTIZED,
    "likelihood": LIKELIHOODS,
    "network": PAIRED,
    "estimator": ESTIMATORS,
}
"""What a configuration names, by kind."""


def known_parts(kind: str, file: str | None) -> dict[str, type]:
    """The parts of a kind by name: ours, and those that a user's file defines.

    Raises:
        InputError: the file defines one of a name that ours has; or see :func:`~aevb.own_parts.own_parts`.
    """
    own = own_parts(file)[kind] if file else {}
    if taken := sorted(own.keys() & NAMED[kind].keys()):
        raise InputError(f"{file} defines the {kind} {taken[0]}, and so does aevb. Give it another name.")
    return NAMED[kind] | own


@dataclass(frozen=True)
class Entry:
    """A line of ``aevb list``."""

    name: str
    line: str
    paper: str
    options: list[str]
    """Each as it is written behind the name's colon, with its default."""


def catalogue(file: str | None = None) -> dict[str, list[Entry]]:
    """Every part, by kind, and apart from the others those that a configuration cannot name; a user's file's too."""
    kinds: dict[str, dict[str, type]] = {
        "models (in Python)": MODELS,
        "priors": known_parts("prior", file),
        "guides": known_parts("guide", file),
        "guides (behind another, as in AmortizedNormal+Refined:steps=10)": BEHIND,
        "guides (in Python, of other models than VAE)": _others(GUIDES, AMORTIZED | BEHIND),
        "likelihoods": known_parts("likelihood", file),
        "networks": known_parts("network", file),
        "networks (in Python)": _others(NETWORKS, PAIRED),
        "estimators": known_parts("estimator", file),
    }
    listed = {kind: [_entry(name, part) for name, part in parts.items()] for kind, parts in kinds.items()}
    data = [
        Entry(name, (inspect.getdoc(read) or "").splitlines()[0], "", options_of(read))
        for name, read in DATA_SETS.items()
    ]
    return listed | {"data": data}


def _others(parts: dict[str, type], named: dict[str, type]) -> dict[str, type]:
    return {name: part for name, part in parts.items() if name not in named}


def _entry(name: str, part: type) -> Entry:
    text = inspect.getdoc(part) or ""
    papers = re.findall(r"[A-Z][\w ,.-]*?(?: et al\.| and \w+)? \((?:19|20)\d\d\)", text)
    line = re.sub(r":\w+:`~?[\w.]*?(\w+)`|``", r"\1", text.splitlines()[0])
    options = [o for o in options_of(part) if getattr(part, "has_beta", True) or not o.startswith("beta=")]
    return Entry(name, line, papers[0].strip() if papers else "", options)


def parse(kind: str, spec: str, known: dict[str, type]) -> tuple[type, dict[str, Any]]:
    """``Name:option=value,option=value`` as a class and its keyword arguments.

    Raises:
        InputError: no such part, no such option, or a value of the wrong type.
    """
    name, _, text = spec.partition(":")
    part = known[check_name(kind, name, known)]
    return part, read_options(name, text, part)
