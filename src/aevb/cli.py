"""What the commands do; imported once one has been named, since it imports torch."""

import argparse
import textwrap
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from joblib import cpu_count
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .amortisation import amortisation
from .batch import Outcome, finished, planned, run_all, write_plan
from .build import make_estimator
from .checkpoints import load_run, read_config
from .compare import (
    AXES,
    Difference,
    Summary,
    after_equal_seconds,
    combinations,
    differences,
    last_tenth,
    pairings,
    run_name,
    summaries,
)
from .config import Config
from .files import atomic, fresh_folder, read_metrics, write_json, write_table
from .gradients import HEADINGS, Row, cells, checkpoints, measure_noise, minibatch, ranking, usable
from .inference import Estimator
from .models import InputError
from .models.errors import check_at_least, check_seed
from .parts import catalogue, known_parts
from .plots import Curves, Shown, gradient_pictures, pictures, write_figures
from .progress import Reporter, activity
from .report import COLUMNS, write_report
from .runs import Result, Run, cached_data, measure

GAPS = {
    "amortisation_gap": "what {refined_steps} steps on each test datum's q(z|x) add to its ELBO, in nats",
    "approximation_gap": "log p(x) minus the ELBO after them: what the family of q(z|x) cannot follow",
}
FEW_DIFFERENCES = 12
"""Said in a sentence each; more of them are a table."""
ESTIMATORS, SEEDS = ("L_A", "L_B"), 3
"""Of a comparison that names none."""
COMPARED_DRAWS = 100
"""Draws of each gradient for a comparison's report."""


def list_parts(arguments: argparse.Namespace) -> int:
    """``aevb list``."""
    console = _console()
    for kind, entries in catalogue(arguments.parts).items():
        table = Table(
            "name", "what it is", "paper", title=kind, title_justify="left", box=box.SIMPLE, title_style="bold"
        )
        for entry in entries:
            line = Text(entry.line)
            if entry.options:
                line.append(f"\n:{', '.join(entry.options)}", "dim")
            table.add_row(entry.name, line, entry.paper)
        console.print(table)
    console.print("Options go behind a colon, as in NormalMixture:components=50,floor=1e-3; here each has its default.")
    return 0


def train(arguments: argparse.Namespace) -> int:
    """``aevb train``."""
    config = _config(arguments)
    if arguments.resume:
        out = _existing(arguments.out)
        before = read_config(out, arguments.parts)
        config = replace(before, **_given(arguments))
        result = finished(config, out)
    else:
        result, out = None, None
    if result is None:
        run = Run(config, cached_data(config))
        out = out or fresh_folder(arguments.out, f"train-{config.data_name}")
        with Reporter(1) as reporter:
            result = run.train(out, lambda row: reporter.epoch(out.name, config.epochs, row), arguments.resume)
    assert out is not None
    _show_run(out, config, result)
    return 0


def evaluate(arguments: argparse.Namespace) -> int:
    """``aevb evaluate``."""
    out = Path(arguments.run)
    model, guide, config = load_run(out, arguments.checkpoint, parts=arguments.parts)
    samples = check_at_least(1, "evidence_samples", arguments.evidence_samples)
    data = cached_data(config)
    gaps: Result = {}
    steps = check_at_least(0, "refine", arguments.refine)
    with activity() as say:
        if steps:
            gaps = amortisation(model, guide, data, steps=steps, evidence_samples=samples, seed=config.seed, say=say)
        say(f"bounds, and log p(x) by {samples:,} samples of each datum")
        measured = measure(model, guide, data, evidence_samples=samples, seed=config.seed)
    result = {"checkpoint": arguments.checkpoint} | measured | gaps
    with atomic(out / f"evaluation-{arguments.checkpoint}.json") as part:
        write_json(part, result)
    _show_run(out, config, result, arguments.checkpoint)
    return 0


def gradients(arguments: argparse.Namespace) -> int:
    """``aevb gradients``."""
    out, draws, seed = Path(arguments.run), arguments.draws, check_seed("seed", arguments.seed)
    parts = arguments.parts
    estimators = _estimators(arguments.estimators, parts)
    batch = minibatch(out, arguments.batch_size, seed, parts)
    moments = list(checkpoints(out, arguments.checkpoints, parts))
    if not arguments.estimators:
        estimators = usable(moments[-1], batch, estimators)
    rows, sweep = [], []
    with activity() as say:
        for number, at in enumerate(moments, start=1):
            checkpoint = f"checkpoint {number} of {len(moments)}, {at.name} (epoch {at.epoch})"
            say(f"{checkpoint}: {len(estimators)} estimators, {draws} draws each")
            rows += measure_noise(at, batch, estimators, draws=draws, seed=seed)
        for k in arguments.sweep:
            swept = _with_samples(list(estimators), k, parts)
            say(f"{moments[-1].name}: {len(swept)} estimators with {k} samples")
            sweep += measure_noise(moments[-1], batch, swept, draws=draws, effort=1, seed=seed) if swept else []
    write_table(out / "gradients.csv", rows)
    if sweep:
        write_table(out / "gradients_sweep.csv", sweep)
    write_figures(out, gradient_pictures(rows, sweep))
    _print_gradients(rows, moments[-1].name)
    _console().print(f"Every figure in {out / 'gradients.csv'}, pictures in {out / 'figures'}")
    return 0


def _estimators(names: list[str], parts: str | None) -> dict[str, Estimator]:
    """By the names they were given; all, where none is."""
    names = names or list(known_parts("estimator", parts))
    return {name: make_estimator(Config(estimator=name, parts=parts)) for name in names}


def _with_samples(names: list[str], samples: int, parts: str | None) -> dict[str, Estimator]:
    """Those among the named whose number of samples is free, and may be this."""
    made = {}
    for name in names:
        with suppress(InputError):
            if "samples=" not in name:
                made[name] = make_estimator(Config(estimator=name, samples=samples, parts=parts))
    return made


def _print_gradients(rows: list[Row], last: str) -> None:
    """Tables of the last checkpoint: for each target, the best first."""
    console = _console()
    for part in ("guide", "model"):
        table = Table(title=f"gradient of the {part}, {last}", title_justify="left", box=box.SIMPLE)
        for heading in ("target", "estimator"):
            table.add_column(heading)
        for heading in HEADINGS:
            table.add_column(heading, justify="right")
        for target, found in ranking([row for row in rows if row["checkpoint"] == last], part):
            for place, row in enumerate(found):
                table.add_row("" if place else target, row["estimator"], *cells(row))
        console.print(table)
    console.print(
        "Within a target the best come first, by squared error times seconds. Across targets compare the last column, "
        "which says nothing of which bound is the better one: for that, train both and compare log p(x)."
    )


def compare(arguments: argparse.Namespace) -> int:
    """``aevb compare``."""
    _check_named_once(arguments)
    before = planned(_existing(arguments.out), arguments.parts) if arguments.resume else []
    base = _base(arguments, before)
    before = [replace(base, **{name: getattr(config, name) for name in (*AXES, "seed")}) for config in before]
    named = _grid(arguments, base, before)
    for config in {replace(config, seed=base.seed): None for config in named}:
        Run(config, cached_data(config))  # says what is wrong before anything is written
    out = Path(arguments.out) if arguments.resume else fresh_folder(arguments.out, f"compare-{base.data_name}")
    known = sorted(dict.fromkeys([*before, *named]), key=lambda config: config.seed)
    done = {config for config in known if finished(config, out / "runs" / run_name(config))}
    configs = [config for config in known if config in done or config in named]
    if left := [run_name(config) for config in known if config not in configs]:
        text = f"Not finished, and not gone on with here: {', '.join(left)}. aevb compare --out {out} --resume does."
        Console(stderr=True, highlight=False).print(text, soft_wrap=True, markup=False)
    write_plan(known, out)
    workers = min(arguments.workers or (1 if _on_cuda(base) else cpu_count()), len(configs))
    with Reporter(len(configs)) as reporter:
        outcomes = run_all(configs, out, workers, reporter)
    failed = [outcome for outcome in outcomes if outcome.failure]
    if len(failed) < len(outcomes):
        _report([outcome for outcome in outcomes if outcome.result], out, base, arguments.command_line)
    return 1 if failed else 0


def _check_named_once(arguments: argparse.Namespace) -> None:
    for axis, values in _axes(arguments).items():
        if twice := sorted({str(value) for value in values if values.count(value) > 1}):
            option = f"--{axis.removesuffix('s')}s"
            raise InputError(f"{option} {', '.join(twice)} is named twice: a combination is run once for each seed.")


def _axes(arguments: argparse.Namespace) -> dict[str, list[Any]]:
    """What is named on the command line for each axis; nothing, where it is not given."""
    return {axis: getattr(arguments, f"{axis.removesuffix('s')}s") for axis in AXES}


def _base(arguments: argparse.Namespace, before: list[Config]) -> Config:
    """What all runs of a comparison share: what is given, then what those before have.

    The first seed stays: runs of one combination are paired in the order of their seeds.
    """
    given = {name: value for name, value in _given(arguments).items() if name not in AXES}
    base = replace(before[0] if before else Config(), **given)
    if before and base.seed != before[0].seed:
        raise InputError(
            f"{arguments.out} was started with --seed {before[0].seed}, not {base.seed}. Leave out --seed; "
            "more seeds after the first are had by --seeds N."
        )
    return replace(base, threads=base.threads or 1)  # the same result with any number of workers


def _grid(arguments: argparse.Namespace, base: Config, before: list[Config]) -> list[Config]:
    """Every combination of what is named; what is not is as in the runs before, or the default."""
    axes = _axes(arguments)
    if before and not any(axes.values()):
        points = dict.fromkeys(replace(config, seed=base.seed) for config in before)
        more = [replace(point, seed=base.seed + n) for n in range(arguments.seeds or 0) for point in points]
        return more or before
    default = [replace(base, estimator=estimator) for estimator in ESTIMATORS]
    for axis, values in axes.items():
        axes[axis] = values or list(dict.fromkeys(getattr(config, axis) for config in before or default))
    return combinations(base, axes, arguments.seeds or len({config.seed for config in before}) or SEEDS)


def _report(outcomes: list[Outcome], out: Path, base: Config, command: str) -> None:
    groups = summaries([outcome.result for outcome in outcomes if outcome.result])
    found = differences(groups)
    shown: dict[str, Shown] = {}
    curves: Curves = {}
    evidences: Curves = {}
    shared = set.intersection(*(group.seeds for group in groups))  # curves are paired by their place
    for outcome in [o for o in outcomes if o.config.seed in shared] or outcomes:
        if (outcome.folder / "evidence.csv").exists():
            evidences.setdefault(_label(outcome, groups), []).append(read_metrics(outcome.folder, "evidence.csv"))
        label = _label(outcome, groups)
        curves.setdefault(label, []).append(read_metrics(outcome.folder))
        if label not in shown:
            model, guide, config = load_run(outcome.folder, parts=outcome.config.parts)
            shown[label] = Shown(model, guide, cached_data(config), config.seed)
    gains = [last_tenth(rows) for seeds in curves.values() for rows in seeds]
    figures = pictures(shown, curves, {name: (a.label, b.label) for name, a, b in pairings(groups)})
    noise = _compare_gradients(outcomes, out)
    write_report(
        out / "report.html",
        groups=groups,
        found=found,
        figures=figures | (gradient_pictures(noise, []) if noise else {}),
        noise=noise,
        race=after_equal_seconds(curves, evidences),
        config=base,
        command=command,
        gain=sum(gains) / len(gains),
    )
    _print_comparison(groups, found, out)


def _label(outcome: Outcome, groups: list[Summary]) -> str:
    return next(group.label for group in groups if outcome.result in group.results)


def _compare_gradients(outcomes: list[Outcome], out: Path) -> list[Row]:
    """The instrument on the first run's pair, at its checkpoints, for every estimator of the comparison."""
    first = outcomes[0]
    names = dict.fromkeys(outcome.config.estimator for outcome in outcomes)
    if len(names) < 2:
        return []
    config = first.config
    estimators = {name: make_estimator(replace(config, estimator=name, beta=1.0)) for name in names}
    batch = minibatch(first.folder, config.batch_size, config.seed, config.parts)
    rows = []
    for at in checkpoints(first.folder, parts=config.parts):
        able = usable(at, batch, estimators)
        rows += measure_noise(at, batch, able, draws=COMPARED_DRAWS, effort=2, seed=config.seed)
    write_table(out / "gradients.csv", rows)
    return rows


def _show_run(out: Path, config: Config, result: Result, checkpoint: str = "last") -> None:
    model, guide, _ = load_run(out, checkpoint, parts=config.parts)
    label = config.estimator if checkpoint == "last" else f"{config.estimator}, {checkpoint}"
    curves = {label: [read_metrics(out)]}
    write_figures(out, pictures({label: Shown(model, guide, cached_data(config), config.seed)}, curves, {}))
    table = Table(title=str(out), title_justify="left", box=box.SIMPLE, show_header=False)
    for name, (title, meaning) in COLUMNS.items():
        if name in result:
            table.add_row(title, _figure(result[name]), meaning.format(**result))
    text = "not known: the KL of the posterior from this prior has no closed form, or none for a latent alone"
    if result["kl_per_latent"]:
        largest = sorted(result["kl_per_latent"], reverse=True)
        text = " ".join(f"{kl:.2f}" for kl in largest[:12]) + (" ..." if len(largest) > 12 else "") + ", largest first"
    table.add_row("KL per latent", "", text)
    if "refined_steps" in result:
        for name, meaning in GAPS.items():
            text = f"± {result[f'{name}_se']:.2f}, {meaning.format(**result)}"
            table.add_row(name.replace("_", " "), _figure(result[name]), text)
    if "kl_path" in result:
        table.add_row("KL path", "", f"{result['kl_path']}: how each latent's KL entered the bound")
    if "engine" in result:
        table.add_row("engine", "", ", ".join(filter(None, (result["engine"], result.get("engine_note")))))
    console = _console()
    console.print(table)
    console.print(f"Pictures in {out / 'figures'}")


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    given = {f.name: getattr(arguments, f.name) for f in fields(Config) if hasattr(arguments, f.name)}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _config(arguments: argparse.Namespace) -> Config:
    return Config(**_given(arguments))


def _existing(out: str | None) -> Path:
    if out is None:
        raise InputError("--resume needs the folder to go on with: --out DIR --resume.")
    if not Path(out).is_dir():
        raise InputError(f"There is no folder {out} to go on with. Leave out --resume to start a run.")
    return Path(out)


def _on_cuda(config: Config) -> bool:
    return config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def _print_comparison(groups: list[Summary], found: list[Difference], out: Path) -> None:
    console = _console()
    console.print("\nnats per datum, mean ± standard error over seeds")
    for table in _tables(groups, console):
        console.print(table)
    told = [difference for difference in found if difference.standard_error is not None]
    if len(told) > FEW_DIFFERENCES:
        console.print("differences, paired by seed; in brackets what cannot be told from 0")
        console.print(_differences(told))
    else:
        for difference in told:
            console.print(
                f"{difference.label}, {COLUMNS[difference.figure][0]}: {difference.mean:+.3f} ± "
                f"{difference.standard_error:.3f}  ({difference.verdict})"
            )
    if found and found[0].standard_error is None:
        console.print("With one seed there is no telling whether a difference is one: see --seeds.")
    if len({(g.results[0]["likelihood"], g.results[0]["binarisation"]) for g in groups}) > 1:
        console.print("Rows of different likelihoods are different densities: do not rank them against each other.")
    console.print(f"\nOpen {out / 'report.html'}")


def _differences(found: list[Difference]) -> Table:
    """A row for each pair, a column for each figure."""
    figures = list(dict.fromkeys(difference.figure for difference in found))
    table = Table("", box=box.SIMPLE)
    for figure in figures:
        table.add_column(COLUMNS[figure][0], justify="right", no_wrap=True)
    for label in dict.fromkeys(difference.label for difference in found):
        row = {d.figure: f"{d.mean:+.2f} ± {d.standard_error:.2f}" for d in found if d.label == label}
        unsure = {d.figure for d in found if d.label == label and d.verdict.startswith("not")}
        table.add_row(_spaced(label), *(f"({row[f]})" if f in unsure else row[f] for f in figures))
    return table


def _tables(groups: list[Summary], console: Console) -> list[Table]:
    """All figures in one table; where labels had no room, errors below means; where they still have none, more tables.

    A label has room where its longest part fits, of those that spaces, colons and commas end.
    """
    names = list(COLUMNS)
    least = max(len(part) for group in groups for part in _spaced(group.label).split())
    for between, *ends in ((" ", 8), ("\n", 8), ("\n", 5, 8), ("\n", 3, 5, 8)):
        parts = [names[start:end] for start, end in zip((0, *ends), ends, strict=False)]
        rooms = [console.width - _full_width(_table(groups, part, between, 0), console) for part in parts]
        if min(rooms) >= least:
            break
    return [_table(groups, part, between, room) for part, room in zip(parts, rooms, strict=True)]


def _table(groups: list[Summary], names: list[str], between: str, room: int) -> Table:
    """Labels in so many characters, 0 for none of them; and figures, with what stands between a mean and its error."""
    table = Table(box=box.SIMPLE)
    table.add_column("", overflow="fold")
    for name in names:
        table.add_column(between.join(COLUMNS[name][0].rsplit(" ", 1)), justify="right", no_wrap=True)
    for group in groups:
        lines = textwrap.wrap(_spaced(group.label), max(room, 1), break_on_hyphens=False)
        label = "\n".join(lines).replace(": ", ":").replace(", ", ",") if room else ""
        table.add_row(label, *(_cell(group, name, between) for name in names))
    return table


def _spaced(label: str) -> str:
    """With a space wherever a line may end."""
    return label.replace(":", ": ").replace(",", ", ")


def _full_width(table: Table, console: Console) -> int:
    return console.measure(table, options=console.options.update_width(1000)).maximum


def _cell(group: Summary, name: str, between: str) -> str:
    error = group.standard_error(name)
    if error is None or name in ("seconds", "images_per_second"):
        return _figure(group.mean(name))
    return f"{_figure(group.mean(name))}{between}± {_figure(error)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
