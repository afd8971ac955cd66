"""Table and picture of what was measured: ``python -m benchmarks.picture results/speed``."""

import csv
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

Row = dict[str, str]
OURS = ("aevb compiled", "aevb fast", "aevb svi")
TITLES = {
    "batch20": "784-500-20, batch 20",
    "batch100": "784-500-20, batch 100",
    "batch1000": "784-500-20, batch 1000",
    "iwae-k1": "784-200-200-50, IWAE k = 1, batch 20",
    "iwae-k5": "784-200-200-50, IWAE k = 5, batch 20",
    "iwae-k50": "784-200-200-50, IWAE k = 50, batch 20",
}


def draw(folder: Path) -> None:
    """Write ``tables.md``, ``speed.png`` and ``speed.svg`` beside the figures."""
    rows = read(folder / "steps.csv")
    cases = list(dict.fromkeys(row["case"] for row in rows))
    text = "\n".join(table([row for row in rows if row["case"] == case]) for case in cases)
    if (folder / "to_bounds.csv").exists():
        text += "\n" + bounds_table(read(folder / "to_bounds.csv"))
    (folder / "tables.md").write_text(text)
    figure = picture(rows, cases)
    for suffix in ("png", "svg"):
        figure.savefig(folder / f"speed.{suffix}", dpi=150)


def table(rows: list[Row]) -> str:
    """Rows of one case as Markdown, with each peer's speed against Pyro's and NumPyro's."""
    speed = {row["peer"]: float(row["images_per_second"]) for row in rows}
    case = rows[0]["case"]
    lines = [
        f"| {TITLES.get(case, case)} | ms a step | fastest to slowest | images/s | against Pyro | against NumPyro "
        "| first epoch, s | peak MB | test bound |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        against = [f"{speed[row['peer']] / speed[p]:.2f}" if p in speed else "" for p in ("pyro", "numpyro")]
        spread = f"{float(row['fastest']):.2f} to {float(row['slowest']):.2f}"
        lines.append(
            f"| {row['peer']} | {float(row['ms_per_step']):.2f} | {spread} | {speed[row['peer']]:,.0f} | {against[0]} "
            f"| {against[1]} | {float(row['first_epoch_seconds']):.1f} | {float(row['peak_mb']):.0f} "
            f"| {float(row['test_bound']):.2f} |"
        )
    return "\n".join(lines) + "\n"


def bounds_table(rows: list[Row]) -> str:
    """Seconds of training until each bound was passed."""
    bounds = sorted({float(row["bound"]) for row in rows})
    lines = [
        "| | " + " | ".join(f"s to {bound:g} (epochs)" for bound in bounds) + " |",
        "|---" * (1 + len(bounds)) + "|",
    ]
    for peer in dict.fromkeys(row["peer"] for row in rows):
        passed = {float(row["bound"]): row for row in rows if row["peer"] == peer}
        cells = [f"{float(passed[b]['seconds']):.1f} ({passed[b]['epoch']})" if b in passed else "-" for b in bounds]
        lines.append(f"| {peer} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(rows: list[Row], cases: list[str]) -> Figure:
    """A panel for each case: a bar for each peer, ours in colour."""
    with mpl.rc_context({"font.size": 8, "svg.hashsalt": "aevb"}):
        figure = Figure(figsize=(9, 2.3 * -(-len(cases) // 2)), layout="constrained")
        for place, case in enumerate(cases, 1):
            axes = figure.add_subplot(-(-len(cases) // 2), 2, place)
            found = [row for row in rows if row["case"] == case][::-1]
            speeds = [float(row["images_per_second"]) for row in found]
            colours = ["#c44e52" if row["peer"] in OURS else "#b0b7c3" for row in found]
            axes.barh([row["peer"] for row in found], speeds, color=colours)
            for position, speed in enumerate(speeds):
                axes.text(speed, position, f" {speed:,.0f}", va="center")
            axes.set_xlim(0, 1.18 * max(speeds))
            axes.set_title(TITLES.get(case, case), loc="left", fontsize=9)
            axes.set_xlabel("images a second")
            axes.spines[["top", "right"]].set_visible(False)
        return figure


def read(path: Path) -> list[Row]:
    """Rows of a table."""
    with path.open() as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
