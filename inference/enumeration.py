"""Discrete latents that take all of their values at once, weighed by q, where others are drawn."""

import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.poutine import Trace
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..models.errors import InputError
from .sites import Program, Site, describe, latent_sites

_PLATES = {"data", "num_particles_vectorized"}
_REMEDY = "Leave out infer={'enumerate': 'parallel'}, and its value is drawn."


def enumerated(guide: Program, elbo: ELBO) -> Program:
    """The guide, its sites marked ``infer={"enumerate": "parallel"}`` with a dimension of values left of all plates."""
    if isinstance(poutine.unwrap(guide), Messenger):
        return guide  # an effect handler, which runs the model too
    return _Enumerate(first_available_dim=-1 - int(elbo.max_plate_nesting))(guide)


class _Enumerate(EnumMessenger):
    """Pyro's, which gives a site all of its values; one that has infinitely many, or asks for a few, is refused."""

    def _pyro_sample(self, msg: Site) -> None:
        marked = msg["infer"].get("enumerate") == "parallel" and not msg["is_observed"]
        if marked and (not getattr(msg["fn"], "has_enumerate_support", False) or msg["infer"].get("num_samples")):
            raise InputError(
                f"Site '{msg['name']}' is marked to be enumerated, all of its values, which have to be finitely many; "
                f"it is {describe(msg['fn'])}.\n  {_REMEDY}"
            )
        super()._pyro_sample(msg)


def is_enumerated(site: Site) -> bool:
    """Whether a site's value is all of its values, side by side."""
    return site["infer"].get("_enumerate_dim") is not None


def choices(guide_trace: Trace) -> Tensor | None:
    """The probability q of each combination of enumerated values, ``(C, ..., L, B)``; None where there are none.

    Raises:
        InputError: one is shared by the data, stands in another plate, shares its dimension with another, or stands
            beside discrete latents that are drawn.
    """
    sites = list(latent_sites(guide_trace))
    found = [site for site in sites if is_enumerated(site)]
    for site in found:
        _check_plates(site)
    if len({site["infer"]["_enumerate_dim"] for site in found}) < len(found):
        raise InputError(
            f"Sites {[site['name'] for site in found]} are enumerated in dimensions that they share, as in "
            "pyro.markov: they would be taken for one latent.\n  Use range in its place, or draw them."
        )
    for site in sites:
        if found and not is_enumerated(site) and isinstance(site["score_parts"].score_function, Tensor):
            raise InputError(
                f"Site '{site['name']}' is drawn without a path, beside sites that are enumerated.\n"
                "  Enumerate it too, with infer={'enumerate': 'parallel'}, or none."
            )
    log_q = [site["unscaled_log_prob"] for site in found]
    return torch.stack(torch.broadcast_tensors(*log_q)).sum(0).exp() if found else None


def _check_plates(site: Site) -> None:
    plates = [frame.name for frame in site["cond_indep_stack"] if frame.vectorized]
    if "data" not in plates or not set(plates) <= _PLATES:
        raise InputError(
            f"Site '{site['name']}' is enumerated, which is done inside the plate 'data' and no other.\n"
            f"  It stands in {', '.join(plates) or 'none'}. {_REMEDY}"
        )
