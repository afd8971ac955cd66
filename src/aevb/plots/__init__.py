"""Pictures of runs: each is a function that returns a figure; :func:`pictures` makes all that fit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pyro.distributions.constraints import sphere

from ..data import DataSet
from ..files import atomic
from ..guides import AmortizedNormal, Guide
from ..inference import kl_per_latent
from ..inference.randomness import forked_rng
from ..models import VAE, NormalMixture, StandardNormal, VampPrior
from .curves import Curves as Curves
from .curves import difference_curves, learning_curves
from .gradients import noise_bars, noise_curves, snr_curves
from .images import between, image_rows, manifold
from .latents import Codes, bubbles, kl_bars, latent_spaces
from .priors import components, prior_densities, pseudo_inputs

SHOWN_DATA = 2000
SHOWN_COMBINATIONS = 6
SHOWN_DENSITIES = 12


@dataclass(frozen=True)
class Shown:
    """A trained pair to make pictures of, on the CPU."""

    model: VAE
    guide: Guide
    data: DataSet
    seed: int

    @property
    def is_plane(self) -> bool:
        """Whether its latents are the plane, with normal prior and posteriors."""
        normal = isinstance(self.model.prior, StandardNormal) and isinstance(self.guide, AmortizedNormal)
        return normal and self.model.prior.latents == 2

    @property
    def density(self) -> str:
        """What its nats are of: only runs of one density can be ranked."""
        return f"{type(self.model.likelihood).__name__}, {self.data.binarisation}"


@torch.no_grad()
def pictures(shown: dict[str, Shown], curves: Curves, pairs: dict[str, tuple[str, str]]) -> dict[str, Figure]:
    """All pictures of a comparison, or of one run: name and figure.

    Args:
        shown: for each label a trained pair; images are made of the first six.
        curves: for each label the histories of its seeds.
        pairs: for each difference the two labels that it is of.
    """
    first = next(iter(shown.values()))
    few = dict(list(shown.items())[:SHOWN_COMBINATIONS])
    shape = first.data.shape
    densities: dict[str, Curves] = {}
    for label, s in shown.items():
        densities.setdefault(s.density, {})[label] = curves[label]
    differing = {name: (curves[label], curves[base]) for name, (label, base) in pairs.items()}
    per_latent = {label: kl_per_latent(s.model, s.guide, s.data.test).get("z") for label, s in shown.items()}
    bars = {label: kl.tolist() for label, kl in per_latent.items() if kl is not None}
    made = {
        "learning_curves_images": learning_curves(densities, "images"),
        **({"differences": difference_curves(differing)} if differing else {}),
        "learning_curves_seconds": learning_curves(densities, "seconds"),
        "reconstructions": image_rows(
            {f"test data, binarisation {s.data.binarisation}": _originals(s) for s in few.values()}
            | {label: s.model.reconstruct(_originals(s), s.guide) for label, s in few.items()},
            shape,
        ),
        "samples": image_rows({label: samples_of(s) for label, s in few.items()}, shape),
        "interpolations": image_rows(
            {label: row for name, s in few.items() for label, row in _lines(name, s, 1 if len(few) > 3 else 2)}, shape
        ),
        "latent_space": latent_spaces({label: codes_of(s) for label, s in few.items()}),
        **({"kl_per_latent": kl_bars(bars)} if bars else {}),
    }
    flat = next(((label, s) for label, s in shown.items() if s.is_plane), None)
    if flat:
        with torch.enable_grad():
            data = flat[1].data.test
            x, labels = data.batch(torch.arange(min(300, len(data)))), data.labels
            made["bubbles"] = bubbles(flat[1].model, flat[1].guide, x, labels)
        made["manifold"] = manifold(flat[1].model, shape)
    return made | prior_pictures(shown)


@torch.no_grad()
def prior_pictures(shown: dict[str, Shown]) -> dict[str, Figure]:
    """Densities over two real latents; pseudo-inputs and components, three rows of the only one or one of each."""
    shape = next(iter(shown.values())).data.shape
    planes = {label: s for label, s in shown.items() if s.model.prior.latents == 2 and _is_real(s)}
    planes = dict(list(planes.items())[:SHOWN_DENSITIES])
    vamps, mixtures = (
        {label: s for label, s in shown.items() if isinstance(s.model.prior, kind)}
        for kind in (VampPrior, NormalMixture)
    )
    made = {}
    if planes:
        codes = {label: codes_of(s) for label, s in planes.items()}
        made["prior_density"] = prior_densities({label: s.model.prior for label, s in planes.items()}, codes)
    if vamps:
        draws = {label: codes_of(s).draws for label, s in vamps.items()}
        made["pseudo_inputs"] = pseudo_inputs({label: s.model for label, s in vamps.items()}, draws, shape)
    if mixtures:
        made["components"] = components({label: s.model for label, s in mixtures.items()}, shape)
    return made


def _is_real(s: Shown) -> bool:
    support = s.model.prior().support
    return not support.is_discrete and not isinstance(support, type(sphere))


def gradient_pictures(rows: list[dict[str, Any]], sweep: list[dict[str, Any]]) -> dict[str, Figure]:
    """Pictures of the instrument's rows: the last checkpoint, all of them, and signal-to-noise against samples."""
    last = rows[-1]["checkpoint"]
    made = {"gradient_noise": noise_bars([row for row in rows if row["checkpoint"] == last])}
    if len({row["checkpoint"] for row in rows}) > 1:
        made["gradient_noise_over_training"] = noise_curves(rows)
    if sweep:
        made["gradient_snr"] = snr_curves(sweep)
    return made


def write_figures(out: Path, figures: dict[str, Figure]) -> None:
    """Write pictures as ``figures/*.png`` and ``*.svg``."""
    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        for suffix in ("png", "svg"):
            with atomic(folder / f"{name}.{suffix}") as part:
                figure.savefig(part, dpi=150, metadata={"Date": None} if suffix == "svg" else {})


def _originals(s: Shown) -> torch.Tensor:
    return s.data.test.batch(torch.arange(min(12, len(s.data.test))))


@torch.no_grad()
def samples_of(s: Shown) -> torch.Tensor:
    """The mean of p(x|z) for twelve z from the prior, ``(12, P)``."""
    with forked_rng(s.seed):
        return s.model.decode(s.model.prior().sample((12,))).mean


def _lines(name: str, s: Shown, count: int) -> list[tuple[str, torch.Tensor]]:
    means = s.guide.encode(_originals(s)).mean
    half = len(means) // 2
    count = min(count, half)
    lines = between(s.model, means[:count], means[half : half + count])
    return [(f"{name}, from datum {i + 1} to {half + i + 1}", line) for i, line in enumerate(lines)]


@torch.no_grad()
def codes_of(s: Shown) -> Codes:
    """Codes of the first 2,000 test data."""
    test = s.data.test
    count = min(SHOWN_DATA, len(test))
    with forked_rng(s.seed):
        q = s.guide.encode(test.batch(torch.arange(count)))
        labels = None if test.labels is None else test.labels[:count]
        return Codes(q.mean, q.sample(), s.model.prior().sample((count,)), labels)
