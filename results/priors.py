"""The tables and pictures of priors.md: priors and posteriors laid side by side.

    python results/priors.py runs
    python results/priors.py runs --check-samples
    python results/priors.py runs --steps

Reads the comparisons under the folder, finished or not, says which runs are missing, prints the tables, and writes
every run's figures and the pictures into results/priors/. What ``aevb evaluate`` has measured again goes before.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from estimators import step_times
from matplotlib.figure import Figure

from aevb.checkpoints import load_run, read_config
from aevb.compare import Difference, Summary, difference, summaries
from aevb.data import DataSet, load
from aevb.data.named.binarized_mnist import TEST_ORDER
from aevb.files import write_table
from aevb.inference import log_evidence
from aevb.plots import SHOWN_DENSITIES, Shown, codes_of, prior_pictures, samples_of
from aevb.plots.images import image_rows
from aevb.plots.priors import prior_densities
from aevb.runs import RESULT_COLUMNS, Result, cached_data, evidence_data

OUT = Path(__file__).parent / "priors"
PRIORS = (
    *("StandardNormal", "LearnedNormal", "LearnedNormal:covariance=full", "NormalMixture:components=500"),
    *("VampPrior:components=500", "FlowPrior", "FlowPrior:transform=autoregressive", "Laplace", "Logistic", "StudentT"),
)
GUIDES = (
    *("AmortizedNormal", "AmortizedMultivariateNormal", "AmortizedLowRank", "AmortizedLaplace", "AmortizedStudentT"),
    *("AmortizedFlow", "AmortizedFlow:transform=planar"),
)
SPHERE = "HypersphericalUniform, AmortizedPowerSpherical"
FIGURES = {"test_elbo": "ELBO, test", "test_log_evidence": "log p(x), test"}


@dataclass(frozen=True)
class Study:
    """A comparison along one axis, whose first value the others are compared to; and the pair of the sphere."""

    folder: str
    title: str
    axis: str
    values: tuple[str, ...]
    seeds: int = 3
    sphere: str | None = None

    def value(self, row: Result) -> str:
        """What the study varies, of a run."""
        return SPHERE if row["prior"] == "HypersphericalUniform" else str(row[self.axis])


STUDIES = (
    Study("priors-mnist", "Priors, binarised MNIST", "prior", (*PRIORS, SPHERE), sphere="sphere-mnist"),
    Study("posteriors-mnist", "Posteriors, binarised MNIST", "guide", GUIDES),
    Study("priors-plane", "Priors of two latents, binarised MNIST", "prior", PRIORS, seeds=1),
    Study("priors-fashion", "Priors, Fashion-MNIST", "prior", (*PRIORS, SPHERE), sphere="sphere-fashion"),
    Study("posteriors-fashion", "Posteriors, Fashion-MNIST", "guide", GUIDES),
)


def read(runs: Path, study: Study) -> list[tuple[Path, Result]]:
    """The finished runs of a study in the order of its values, each as it was last measured."""
    found = []
    folders = [runs / name for name in (study.folder, study.sphere) if name]
    for path in [path for folder in folders for path in folder.glob("runs/*/result.json")]:
        again = path.with_name("evaluation-last.json")
        found.append(
            (path.parent, json.loads(path.read_text()) | (json.loads(again.read_text()) if again.exists() else {}))
        )
    return sorted(found, key=lambda run: (study.values.index(study.value(run[1])), run[1]["seed"]))


def missing(study: Study, runs: list[tuple[Path, Result]]) -> Iterator[str]:
    """What there should be and is not; and what was measured on other test images than are had now."""
    there = {(study.value(row), row["seed"]) for _, row in runs}
    for value in study.values:
        if absent := [str(seed) for seed in range(study.seeds) if (value, seed) not in there]:
            yield f"MISSING of {study.folder}: {value}, seed {', '.join(absent)}."
    for folder, row in runs:
        if row["test_log_evidence"] < row["test_elbo"]:
            yield f"log p(x) is below its bound, so of other images: aevb evaluate {folder} --evidence-samples 1000"


def table(study: Study, groups: list[Summary]) -> Iterator[str]:
    """A row for each value, in Markdown."""
    base = study.values[0]
    gains = [f"{title} - {base}'s" for title in ("ELBO", "log p(x)")]
    yield f"| | seeds | {' | '.join([*FIGURES.values(), *gains])} | KL | active units |"
    yield "|---" * 8 + "|"
    against = by_figure(groups) if study.value(groups[0].results[0]) == base else {}
    for group in groups:
        own = group.results[0]
        cells = [
            study.value(own),
            str(len(group.results)),
            *(spread(group, figure) for figure in FIGURES),
            *(said(against.get((group.key, figure))) for figure in FIGURES),
            f"{group.mean('kl'):.2f}",
            f"{group.mean('active_units'):.1f} of {own['latents']}",
        ]
        yield f"| {' | '.join(cells)} |"


def by_figure(groups: list[Summary]) -> dict[tuple[tuple[object, ...], str], Difference]:
    """The difference of each combination from the first, by its key and the figure."""
    first, *others = groups
    return {(group.key, f): difference(group.label, group, first, f) for group in others for f in FIGURES}


def spread(group: Summary, figure: str) -> str:
    """Mean and standard error, where there are several seeds."""
    error = group.standard_error(figure)
    return f"{group.mean(figure):.2f}" + ("" if error is None else f" ± {error:.2f}")


def said(difference: Difference | None) -> str:
    """A difference and its standard error, in brackets where the verdict is that it cannot be told from 0."""
    if difference is None:
        return ""
    if difference.standard_error is None:
        return f"{difference.mean:+.2f}"
    text = f"{difference.mean:+.2f} ± {difference.standard_error:.2f}"
    return f"({text})" if difference.verdict.startswith("not") else text


def best(study: Study, groups: list[Summary]) -> Iterator[str]:
    """The value of the highest mean, and those whose paired difference from it cannot be told from 0."""
    for figure, title in FIGURES.items():
        first, *rest = sorted(groups, key=lambda group: -group.mean(figure))
        against = by_figure([first, *rest])
        equal = [study.value(g.results[0]) for g in rest if against[g.key, figure].verdict.startswith("not")]
        told = f"; not distinguishable from it: {', '.join(equal)}" if equal else ""
        yield f"Best {title}: {study.value(first.results[0])}{told}{'' if study.seeds > 1 else ' (one seed)'}."


def shown(runs: list[tuple[Path, Result]], study: Study) -> dict[str, Shown]:
    """The trained pairs of seed 0, test digits with their labels."""
    pairs = ((study.value(row), load_run(folder)) for folder, row in runs if row["seed"] == 0)
    return {label: Shown(p.model, p.guide, labelled(cached_data(p.config)), 0) for label, p in pairs}


def labelled(data: DataSet) -> DataSet:
    """Binarised MNIST with the test labels of MNIST, which it comes without: its file is sorted by them."""
    if data.name != "binarized_mnist":
        return data
    labels = load("mnist").test.labels
    assert labels is not None
    return replace(data, test=replace(data.test, labels=labels.sort().values[TEST_ORDER]))


def draw(study: Study, pairs: dict[str, Shown]) -> Iterator[tuple[str, Figure]]:
    """The pictures of a study of priors: densities for two latents, else samples, pseudo-inputs and components."""
    if not pairs or study.axis != "prior":
        return
    name, first = study.folder, next(iter(pairs.values()))
    if first.model.prior.latents == 2:
        few = dict(list(pairs.items())[:SHOWN_DENSITIES])
        with torch.no_grad():
            codes = {label: codes_of(s) for label, s in few.items()}
            yield f"{name}_density", prior_densities({label: s.model.prior for label, s in few.items()}, codes)
        return
    rows = {"test data": first.data.test.batch(torch.arange(12))} | {v: samples_of(s) for v, s in pairs.items()}
    yield f"{name}_samples", image_rows(rows, first.data.shape)
    for picture, figure in prior_pictures(pairs).items():
        yield f"{name}_{picture}", figure


def write(study: Study, runs: list[tuple[Path, Result]]) -> None:
    """Every run's figures, and the pictures."""
    columns = [*RESULT_COLUMNS, "test_log_evidence_samples", "test_log_evidence_sampling_error"]
    write_table(OUT / f"{study.folder}.csv", [{column: row.get(column) for column in columns} for _, row in runs])
    for name, figure in draw(study, shown(runs, study)):
        figure.savefig(OUT / f"{name}.png", dpi=150)


def check_samples(runs: Path) -> Iterator[str]:
    """log p(x) by 5,000 samples minus that by 1,000, of the same test images, for seed 0 of each prior."""
    yield "| | K = 1,000 | K = 5,000 | difference | of an image, from - to | effective samples of 5,000, median |"
    yield "|---" * 6 + "|"
    for folder, row in read(runs, STUDIES[0]):
        if row["seed"]:
            continue
        model, guide, config = load_run(folder)
        data = evidence_data(cached_data(config))
        few, many = (log_evidence(model, guide, data, samples=k, seed=config.seed) for k in (1000, 5000))
        gain = many.values - few.values
        error = gain.std().item() / len(gain) ** 0.5
        cells = [
            row["prior"],
            f"{few.mean():.2f}",
            f"{many.mean():.2f}",
            f"{gain.mean().item():+.3f} ± {error:.3f}",
            f"{gain.min().item():+.2f}, {gain.max().item():+.2f}",
            f"{many.effective_sample_sizes.median().item():.0f}",
        ]
        yield f"| {' | '.join(cells)} |"


def steps(runs: Path) -> Iterator[str]:
    """Milliseconds of a step of each, in turns, and what that is of the first of its study."""
    for study in (STUDIES[0], STUDIES[1]):
        configs = {study.value(row): read_config(folder) for folder, row in read(runs, study) if row["seed"] == 0}
        taken = step_times(configs)
        yield f"| | ms a step | of {study.values[0]}'s |"
        yield "|---" * 3 + "|"
        for name, milliseconds in taken.items():
            yield f"| {name} | {milliseconds:.1f} | {milliseconds / taken[study.values[0]]:.2f} |"
        yield ""


def main(runs: Path) -> None:
    OUT.mkdir(exist_ok=True)
    for study in STUDIES:
        found = read(runs, study)
        say(f"\n## {study.title}\n")
        for line in missing(study, found):
            say(line)
        if found:
            groups = summaries(row for _, row in found)
            for line in ("", *table(study, groups), "", *best(study, groups)):
                say(line)
            write(study, found)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    for option, lines in (("--check-samples", check_samples), ("--steps", steps)):
        if option in sys.argv:
            for text in lines(Path(sys.argv[1])):
                say(text)
            sys.exit()
    main(Path(sys.argv[1]))
