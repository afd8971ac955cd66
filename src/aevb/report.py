"""The page that a comparison ends with: one file, no network."""

import io
import re
from base64 import b64encode
from dataclasses import fields
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from . import __version__
from .compare import AXES, AfterSeconds, Difference, Summary
from .config import Config
from .files import atomic
from .gradients import HEADINGS, Row, cells, ranking
from .plots import write_figures

COLUMNS = {
    "train_elbo": (
        "ELBO, train",
        "the evidence lower bound of the training data at the final parameters, at beta = 1 (L_A, one sample a datum)",
    ),
    "test_elbo": (
        "ELBO, test",
        "the same of the test data, which were not trained on (L_A, {test_elbo_samples} samples)",
    ),
    "test_log_evidence": (
        "log p(x), test",
        "the log evidence by importance sampling ({test_log_evidence_samples} samples of the guide; in expectation a "
        "lower bound, above the ELBO)",
    ),
    "reconstruction": ("reconstruction", "E log p(x|z) under the guide, test data"),
    "kl": ("KL", "KL(q(z|x) || p(z)), test data: ELBO = reconstruction - KL"),
    "active_units": ("active units", "latents whose posterior mean varies over the test data by more than 0.01"),
    "seconds": ("seconds", "of training, without measuring"),
    "images_per_second": ("images/s", "training images seen a second"),
}
"""What each figure is called, and what it means."""

LEAST_RACE = 10.0
"""The seconds of the quickest run from which what each had reached by then is shown."""

CAPTIONS = {
    "learning_curves_images": "Learning curves against training images seen (paper, figure 2). Higher is better; the "
    "line is the mean over seeds, the band reaches from the least to the greatest. Train above test is overfitting. "
    "Training curves are averages over an epoch in which the parameters moved.",
    "differences": "The paired difference of the test bounds over training, mean and standard error over seeds. For "
    "one seed, initial weights, minibatches and binarised pixels are the same: what is left is what the part did.",
    "learning_curves_seconds": "The same learning curves against seconds of training: what a bound costs.",
    "reconstructions": "Test data, and what is left of them after the guide's mean went through the decoder.",
    "interpolations": "Straight lines in latent space between the codes of two test data, decoded. Where the space is "
    "used well, what lies between two digits is a digit or nearly one.",
    "kl_per_latent": "What each latent carries: the KL of its posterior from its prior, averaged over the test data. "
    "A latent at 0 is not used. Left out are combinations whose KL has no closed form for each latent.",
    "bubbles": "Left: each test datum as the ellipse of one standard deviation of q(z|x). Right: the three forces of "
    "the bound on some of them. The reconstruction pushes data apart and makes them small; the means' term, -mu, pulls "
    "them to the origin; the variances' term, 1 / sigma - sigma, keeps their size. Arrows grow as the root of a force.",
    "manifold": "What p(x|z) looks like at a grid of z, at equal quantiles of the prior (paper, figure 4).",
    "samples": "The mean of p(x|z) for twelve z from the prior, by one seed: the same twelve wherever the prior is.",
    "prior_density": "The prior of two latents, and on it the posterior means of test data, coloured by their labels "
    "where they have any. Each contour holds the share of the prior's mass that the scale says, in the smallest region "
    "there is. Where a shade holds no dots, the prior makes data that are not there; dots far outside cost nats of KL.",
    "pseudo_inputs": "Pseudo-inputs u of VampPrior, and below each what decodes the mean of q(z|u). Above each, the "
    "share of the test data's codes that it answers for, the largest first.",
    "components": "What the mean of each component of NormalMixture decodes to, and its weight, the largest first.",
    "gradient_noise": "The noise of each estimator's gradient, sqrt(tr Cov g), at the end of the first run, all on one "
    "minibatch and at the same parameters. Bars of one colour have one target and can be ranked; a cross marks a bias "
    "that can be told from 0, and its size.",
    "gradient_noise_over_training": "Noise and signal-to-noise ratio |E g| / sqrt(tr Cov g) of each estimator at the "
    "checkpoints of the first run. Where the ratio is below 1, a step is mostly noise.",
    "latent_space": "Left: where the guide puts the test data, posterior means drawn as their labels, or as dots of "
    "one colour where there are none; above two latents, the first two principal components. Right: draws of the "
    "aggregate posterior on draws of the prior. Where grey shows, the decoder is asked about codes that it was not "
    "trained on.",
}


def write_report(
    path: Path,
    *,
    groups: list[Summary],
    found: list[Difference],
    figures: dict[str, Figure],
    noise: list[Row],
    race: tuple[float, list[AfterSeconds]],
    config: Config,
    command: str,
    gain: float,
) -> None:
    """Write ``report.html`` at ``path``, and the pictures beside it in ``figures/``."""
    write_figures(path.parent, figures)
    sample = groups[0].results[0]
    same_density = len({(g.results[0]["likelihood"], g.results[0]["binarisation"]) for g in groups}) == 1
    page = _template().render(
        columns={name: (title, meaning.format(**sample)) for name, (title, meaning) in COLUMNS.items()},
        groups=groups,
        differences=found,
        pairs=_by_pair(found),
        titles={name: title for name, (title, _) in COLUMNS.items()},
        pictures=[(CAPTIONS[name], _inline(figure)) for name, figure in figures.items()],
        settings=_settings(config, groups),
        results=sample,
        engines=" and ".join(sorted({result["engine"] for group in groups for result in group.results})),
        seeds=len(groups[0].results),
        command=command,
        gain=gain,
        noise=_last(noise),
        noise_headings=HEADINGS,
        cells=cells,
        race_seconds=race[0],
        race=race[1] if same_density and tells(*race) else [],
        version=__version__,
        same_density=same_density,
    )
    with atomic(path) as part:
        part.write_text(page, encoding="utf-8")


def tells(seconds: float, race: list[AfterSeconds]) -> bool:
    """Whether a race is worth a table: the quickest run took ten seconds, and half of the figures are measured."""
    gains = [value for r in race[1:] for value in (r.elbo_gain, r.evidence_gain)]
    figures = gains + [value for r in race for value in (r.test_elbo, r.test_log_evidence)]
    measured = sum(value is not None for value in figures)
    return len(race) > 1 and seconds >= LEAST_RACE and 2 * measured >= len(figures)


def _by_pair(found: list[Difference]) -> dict[str, dict[str, Difference]]:
    """For each pair compared, its difference in each figure."""
    pairs: dict[str, dict[str, Difference]] = {}
    for difference in found:
        pairs.setdefault(difference.label, {})[difference.figure] = difference
    return pairs


def _last(noise: list[Row]) -> dict[str, list[tuple[str, list[Row]]]]:
    """The instrument's rows at the last checkpoint, for guide and model: each target's, the best first."""
    rows = [row for row in noise if row["checkpoint"] == noise[-1]["checkpoint"]]
    return {part: ranking(rows, part) for part in ("guide", "model")} if rows else {}


def _template() -> Any:
    environment = Environment(loader=PackageLoader("aevb"), autoescape=True, undefined=StrictUndefined)
    environment.filters["nats"] = lambda value: f"{value:.2f}" if abs(value) < 1000 else f"{value:,.0f}"
    environment.filters["breaking"] = _breaking
    return environment.get_template("report.html")


def _breaking(label: str) -> Markup:
    """With places for a line to end after colons and commas."""
    return Markup("<wbr>").join(escape(part) for part in re.split("(?<=[:,])", label))


_unset = {"patience": "off", "keep_epochs": "none"}


def _settings(config: Config, groups: list[Summary]) -> dict[str, str]:
    """What all runs share, and for what varies, its values."""
    rows = [row for group in groups for row in group.results]
    measured = {
        name: ", ".join(dict.fromkeys(str(row[name]) for row in rows)) for name in (*AXES, "seed", "binarisation")
    }
    chosen = {f.name: getattr(config, f.name) for f in fields(config)}
    return {
        name: measured.get(name, _unset.get(name, "the default") if value in (None, ()) else str(value))
        for name, value in (chosen | {"hidden": " ".join(map(str, config.hidden)) or "none: linear"}).items()
    }


def _inline(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return b64encode(buffer.getvalue()).decode()
