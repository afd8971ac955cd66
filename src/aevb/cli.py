"""What the commands do; imported once one has been named, since it imports torch."""

import argparse
from dataclasses import fields
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from .build import load_data
from .compare import Difference, Summary, combinations, differences, last_tenth, pairings, run_all, summaries
from .config import Config
from .files import fresh_folder
from .parts import catalogue
from .plots import Curves, pictures
from .progress import Reporter
from .report import COLUMNS, write_figures, write_report
from .runs import Run


def list_parts(_: argparse.Namespace) -> None:
    """``aevb list``."""
    console = _console()
    for kind, entries in catalogue().items():
        table = Table(
            "name", "what it is", "paper", title=kind, title_justify="left", box=box.SIMPLE, title_style="bold"
        )
        for entry in entries:
            table.add_row(entry.name, entry.line, entry.paper)
        console.print(table)


def train(arguments: argparse.Namespace) -> None:
    """``aevb train``."""
    config = _config(arguments)
    run = Run(config, load_data(config))
    out = fresh_folder(arguments.out, f"train-{config.data_name}")
    with Reporter(1) as reporter, reporter.run(config.estimator, config.epochs) as on_epoch:
        result = run.train(out, on_epoch)
    write_figures(out, pictures({config.estimator: run}, {config.estimator: [run.training.history.rows]}, {}))
    table = Table(title=str(out), title_justify="left", box=box.SIMPLE, show_header=False)
    for name, (title, meaning) in COLUMNS.items():
        table.add_row(title, _figure(result[name]), meaning.format(**result))
    table.add_row("KL path", result["kl_path"], "how each latent's KL entered the bound")
    _console().print(table)


def compare(arguments: argparse.Namespace) -> None:
    """``aevb compare``."""
    axes = {
        "estimator": arguments.estimators,
        "prior": arguments.priors,
        "guide": arguments.guides,
        "likelihood": arguments.likelihoods,
        "latents": arguments.latents,
    }
    base = _config(argparse.Namespace(**vars(arguments) | {"latents": arguments.latents[0]}))
    configs = combinations(base, axes, arguments.seeds)
    data = {c.likelihood: load_data(c) for c in configs}
    runs = [Run(config, data[config.likelihood]) for config in configs]
    out = fresh_folder(arguments.out, f"compare-{base.data_name}")
    with Reporter(len(runs)) as reporter:
        finished = list(run_all(runs, out, reporter))
    groups = summaries(result for _, result in finished)
    found = differences(groups)
    shown: dict[str, Run] = {}
    curves: Curves = {}
    for run, result in finished:
        label = next(group.label for group in groups if result in group.results)
        shown.setdefault(label, run)
        curves.setdefault(label, []).append(run.training.history.rows)
    gains = [last_tenth(rows) for seeds in curves.values() for rows in seeds]
    write_report(
        out / "report.html",
        groups=groups,
        found=found,
        figures=pictures(shown, curves, {name: (a.label, b.label) for name, a, b in pairings(groups)}),
        config=base,
        how=data[base.likelihood].how,
        command=arguments.command_line,
        gain=sum(gains) / len(gains),
    )
    _print_comparison(groups, found, out)


def _config(arguments: argparse.Namespace) -> Config:
    given = {f.name: getattr(arguments, f.name) for f in fields(Config) if hasattr(arguments, f.name)}
    return Config(**given | {"hidden": tuple(arguments.hidden)})


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)


def _print_comparison(groups: list[Summary], found: list[Difference], out: Path) -> None:
    console = _console()
    table = Table(title="nats per datum, mean ± standard error over seeds", title_justify="left", box=box.SIMPLE)
    table.add_column("")
    for title, _ in COLUMNS.values():
        table.add_column(title, justify="right")
    for group in groups:
        table.add_row(group.label, *(_cell(group, name) for name in COLUMNS))
    console.print(table)
    for difference in found:
        error = "" if difference.standard_error is None else f" ± {difference.standard_error:.3f}"
        title = COLUMNS[difference.figure][0]
        console.print(f"{difference.label}, {title}: {difference.mean:+.3f}{error}  ({difference.verdict})")
    if len({(g.results[0]["likelihood"], g.results[0]["binarisation"]) for g in groups}) > 1:
        console.print("Rows of different likelihoods are different densities: do not rank them against each other.")
    console.print(f"\nOpen {out / 'report.html'}")


def _cell(group: Summary, name: str) -> str:
    error = group.standard_error(name)
    if error is None or name in ("seconds", "images_per_second"):
        return _figure(group.mean(name))
    return f"{_figure(group.mean(name))} ± {_figure(error)}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
