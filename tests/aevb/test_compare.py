"""The arithmetic of a comparison, and the page it ends with."""

import html
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from aevb.__main__ import main
from aevb.cli import _tables
from aevb.compare import AXES, AfterSeconds, after_equal_seconds, combinations, differences, last_tenth, summaries
from aevb.config import Config
from aevb.report import CAPTIONS, COLUMNS, tells


def result(value: float, **key: Any) -> dict[str, Any]:
    base = {"estimator": "L_A", "samples": 1, "prior": "P", "guide": "G", "likelihood": "B", "latents": 2, "seed": 0}
    figures = dict.fromkeys(("train_elbo", "test_elbo", "test_log_evidence"), value)
    return base | {"binarisation": "dynamic"} | key | figures


def test_the_grid_is_every_combination_with_every_seed() -> None:
    axes: dict[str, list[Any]] = {axis: [getattr(Config, axis)] for axis in AXES}
    configs = combinations(Config(seed=5), axes | {"estimator": ["L_A", "L_B"], "latents": [2, 3]}, 2)
    assert [(c.seed, c.estimator, c.latents) for c in configs] == [
        (s, e, d) for s in (5, 6) for e in ("L_A", "L_B") for d in (2, 3)
    ]


def test_differences_are_paired_by_seed_with_their_standard_error() -> None:
    values = {"L_A": (-10.0, -20.0, -30.0), "L_B": (-9.0, -18.9, -29.2)}
    rows = [result(v, estimator=e, seed=s) for e, seeds in values.items() for s, v in enumerate(seeds)]
    difference = differences(summaries(rows))[1]
    assert (difference.label, difference.figure, difference.seeds) == ("L_B - L_A", "test_elbo", 3)
    assert difference.mean == pytest.approx((1.0 + 1.1 + 0.8) / 3)
    assert difference.standard_error == pytest.approx(math.sqrt((0.0333**2 + 0.1333**2 + 0.1667**2) / 2 / 3), rel=1e-3)
    assert difference.verdict == "above 0"


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1.0, 1.1, 0.8), "above 0"),
        ((-1.0, -1.1, -0.8), "below 0"),
        ((0.1, 0.5, 0.9), "not distinguishable from 0"),  # 0.5 +- 0.23: two standard errors are not enough for three
        ((3.0,), "one seed: not known"),
    ],
)
def test_verdicts_are_those_of_a_t_interval(gains: tuple[float, ...], verdict: str) -> None:
    rows = [result(0.0, seed=s) for s in range(len(gains))]
    rows += [result(gain, estimator="L_B", seed=s) for s, gain in enumerate(gains)]
    assert {d.verdict for d in differences(summaries(rows))} == {verdict}


def test_combinations_are_compared_along_one_axis_at_a_time_and_never_across_likelihoods() -> None:
    rows = [
        result(0.0, estimator=e, likelihood=lik, latents=d)
        for e in ("L_A", "L_B")
        for lik in ("B", "G")
        for d in (2, 3)
    ]
    labels = [d.label for d in differences(summaries(rows)) if d.figure == "test_elbo"]
    assert labels == [
        *("L_B - L_A (B N_z=2)", "L_B - L_A (B N_z=3)", "L_B - L_A (G N_z=2)", "L_B - L_A (G N_z=3)"),
        *("N_z=3 - N_z=2 (L_A B)", "N_z=3 - N_z=2 (L_A G)", "N_z=3 - N_z=2 (L_B B)", "N_z=3 - N_z=2 (L_B G)"),
    ]


def test_the_gain_over_the_last_tenth() -> None:
    rising = [{"test_elbo": float(epoch)} for epoch in range(100)]
    assert last_tenth(rising) == pytest.approx(10)
    assert math.isnan(last_tenth(rising[:2]))


def _measured(last: dict[str, float], gap: float) -> list[dict[str, float]]:
    """log p(x) at four seconds, so far above the bound, and at the end."""
    at_four = {"seconds": 4.0, "test_elbo": -10.0, "test_log_evidence": -10.0 + gap}
    return [at_four, last | {"test_log_evidence": 0.0}]


def test_what_each_had_reached_after_the_seconds_of_the_quickest() -> None:
    """The slow one is between its epochs, at a third of the way in the logarithm of the seconds, in each seed."""
    quick = [[{"seconds": 1.0, "test_elbo": -9.0}, {"seconds": 2.0, "test_elbo": -8.0}]] * 2
    slow = [[{"seconds": 1.0, "test_elbo": v}, {"seconds": 8.0, "test_elbo": v + 3}] for v in (-12.0, -10.0)]
    evidence = {"slow": [_measured(rows[1], gap) for rows, gap in zip(slow, (4.0, 3.0), strict=True)]}
    seconds, found = after_equal_seconds({"quick": quick, "slow": slow}, evidence)
    assert seconds == 2.0
    assert found[0].test_elbo == (-8.0, 0.0)
    assert found[1].test_elbo == (pytest.approx(-10.0), pytest.approx(1.0))
    assert found[1].elbo_gain == (pytest.approx(-2.0), pytest.approx(1.0))
    assert found[0].test_log_evidence is None
    assert found[1].test_log_evidence == (pytest.approx(-6.5), pytest.approx(0.5))  # 4 and 3 above, seen at 4 seconds
    far = {"slow": [[{"seconds": 8.0, "test_elbo": -9.0, "test_log_evidence": -6.0}]] * 2}
    assert after_equal_seconds({"quick": quick, "slow": slow}, far)[1][1].test_log_evidence is None


def test_a_race_is_shown_where_runs_are_long_and_half_of_it_is_measured() -> None:
    first, full = AfterSeconds("a", (1.0, 0.1), (1.0, 0.1), None, None), AfterSeconds("b", *[(1.0, 0.1)] * 4)
    bound_alone = AfterSeconds("b", (1.0, 0.1), None, (1.0, 0.1), None)
    nothing = AfterSeconds("b", None, None, None, None)
    assert tells(10.0, [first, full])
    assert tells(10.0, [first, bound_alone])
    assert not tells(9.9, [first, full])
    assert not tells(10.0, [first])
    assert not tells(10.0, [first, nothing, nothing])


@pytest.mark.parametrize("width", [50, 80, 140, 200])
@pytest.mark.parametrize("long", ["NormalMixture", "APriorOfOnesOwnWithAVeryLongName"])
def test_the_printed_table_cuts_neither_names_nor_figures(long: str, width: int) -> None:
    priors = ("StandardNormal", f"{long}:components=5", f"{long}:components=50,scale=0.25")
    rows = [
        result(0.0, estimator=e, prior=p, seed=seed) | dict.fromkeys(COLUMNS, -1234.5 + 10 * seed)
        for e in ("L_A", "L_B_mixed")
        for p in priors
        for seed in (0, 1)
    ]
    groups, console = summaries(rows), Console(width=width, file=io.StringIO(), highlight=False)
    tables = _tables(groups, console)
    with console.capture() as captured:
        for table in tables:
            console.print(table)
    words = captured.get().split()
    names = "".join(word for word in words if not re.fullmatch(r"[-±]?[\d.,]*", word))
    assert all(names.count(group.label.replace(" ", "")) >= len(tables) for group in groups)
    assert words.count("-1,230") == len(groups) * len(COLUMNS)
    assert words.count("5.00") == len(groups) * (len(COLUMNS) - 2)  # seconds have no error
    assert len(tables) == 1 or width < 140
    assert max(map(len, captured.get().splitlines())) <= width


class Page(HTMLParser):
    """What a page would load, and whether its tags match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "br", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_file_that_explains_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aevb.report.tells", lambda *race: True)  # of runs of a tenth of a second
    arguments = [
        "--epochs",
        "3",
        "--hidden",
        "8",
        "--evidence-samples",
        "10",
        "--seeds",
        "2",
        "--latents",
        "2",
        "--out",
        "here",
    ]
    assert main(["compare", *arguments]) == 0
    source = (tmp_path / "here" / "report.html").read_text()
    page, text = Page(source), html.unescape(source)
    assert page.open == []
    assert page.loads
    assert all(load.startswith("data:") for load in page.loads)
    assert re.search(r"<pre>aevb compare --epochs 3 --hidden 8 .*--out here</pre>", text)
    for title, meaning in COLUMNS.values():
        assert title in text
        assert meaning.partition("{")[0] in text
    applying = CAPTIONS.keys() - {"pseudo_inputs", "components"}  # of priors that are not here
    assert all(CAPTIONS[name] in text for name in applying)
    assert "After equal seconds" in text
    assert "gradient of the guide" in text
    assert re.search(r"<strong>L_B - L_A, ELBO, test: [-+]0\.\d{3} ± 0\.\d{3}</strong> nats: \w+", text)
    assert "<h2>Figures</h2>\n" in text.partition("<table")[0]  # one pair: sentences, no table of differences
    assert (tmp_path / "here" / "gradients.csv").exists()
    assert "z:monte-carlo" in text
    assert "z:analytic" in text
    assert {p.name for p in (tmp_path / "here" / "figures").iterdir()} == {
        f"{name}.{suffix}" for name in applying for suffix in ("png", "svg")
    }


@pytest.mark.parametrize(("prior", "said"), [("StandardNormal", "largest first"), ("NormalMixture", "no closed form")])
def test_a_run_says_why_no_kl_per_latent_is_known(
    prior: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--epochs", "1", "--hidden", "8", "--evidence-samples", "5", "--latents", "2"]
    assert main(["train", *small, "--prior", prior, "--estimator", "L_A", "--out", str(tmp_path / "run")]) == 0
    row = capsys.readouterr().out.partition("KL per latent")[2].partition("KL path")[0]
    assert said in " ".join(row.split())
