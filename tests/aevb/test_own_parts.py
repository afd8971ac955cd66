"""A user's own parts on the command line, from a file that is code and is not run unasked."""

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml

import aevb
from aevb.__main__ import main
from aevb.models import InputError
from aevb.own_parts import extends, own_parts
from aevb.parts import known_parts

PARTS = '''
import pyro.distributions as dist
import torch
from torch import nn

from neighbour import START
from aevb.guides import AmortizedNormal
from aevb.inference import Estimate, Estimator, Target
from aevb.models import Bernoulli, MLP, Prior


class Gumbel(Prior):
    """p(z) = prod_d exp(-z_d / s - exp(-z_d / s)) / s, of a learned scale s."""

    def __init__(self, latents, *, scale: float = START, bare=1):
        super().__init__(latents)
        self.log_scale = nn.Parameter(torch.full((latents,), scale).log())

    def forward(self):
        return dist.Gumbel(torch.zeros_like(self.log_scale), self.log_scale.exp()).to_event(1)


class Plain(Estimator):
    target = Target("ELBO", "below", model="ELBO", guide="ELBO")

    def estimate(self, *batch):
        draws = self.draw(*batch)
        bound = draws.log_weights(self.beta).mean(0)
        return Estimate.of(draws, bound, surrogate=bound.mean())


class Same(AmortizedNormal):
    """q(z|x), by another name."""


class Pixels(Bernoulli):
    """p(x|z), by another name."""


class Net(MLP):
    """The same network."""
'''
SMALL = ["--epochs", "2", "--hidden", "8", "--evidence-samples", "10", "--latents", "3"]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neighbour.py").write_text("START = 1.0\n")
    path = tmp_path / "mine.py"
    path.write_text(PARTS)
    return path


def test_every_kind_is_found_and_listed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"prior": "Gumbel", "estimator": "Plain", "guide": "Same", "likelihood": "Pixels", "network": "Net"}
    assert {kind: list(found) for kind, found in own_parts(file).items()} == {k: [n] for k, n in names.items()}
    assert main(["list", "--parts", "mine.py"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names.values())
    assert main(["list"]) == 0
    assert "Gumbel" not in capsys.readouterr().out, "nothing stays behind"
    assert "Gumbel" not in known_parts("prior", None)


def test_they_are_compared_with_ours_and_give_the_same_where_they_are_the_same(file: Path) -> None:
    """In worker processes too; what differs from ours by its name alone has our bits."""
    axes = ["--priors", "StandardNormal", "Gumbel:scale=0.5", "--estimators", "L_A", "Plain", "--out", "c"]
    assert main(["compare", *SMALL, "--seeds", "1", "--workers", "2", "--parts", "mine.py", *axes]) == 0
    with Path("c/results.csv").open() as table:
        bound = {(row["prior"], row["estimator"]): float(row["test_elbo"]) for row in csv.DictReader(table)}
    assert len(bound) == 4
    assert bound["StandardNormal", "L_A"] == bound["StandardNormal", "Plain"]
    assert bound["Gumbel:scale=0.5", "L_A"] == bound["Gumbel:scale=0.5", "Plain"]
    assert bound["Gumbel:scale=0.5", "L_A"] != bound["StandardNormal", "L_A"]

    names = ["--guide", "Same", "--likelihood", "Pixels", "--network", "Net", "--threads", "1"]
    assert main(["train", *SMALL, "--estimator", "L_A", "--parts", "mine.py", *names, "--out", "one"]) == 0
    assert json.loads(Path("one/result.json").read_text())["test_elbo"] == bound["StandardNormal", "L_A"]


def test_a_run_holds_a_copy_that_is_run_only_where_it_is_given(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--prior", "Gumbel", "--parts", "mine.py", "--out", "run"]) == 0
    assert Path("run/parts.py").read_text() == PARTS
    assert yaml.safe_load(Path("run/config.yaml").read_text())["parts"] == str(file)

    for command in (["evaluate", "run"], ["gradients", "run"], ["train", "--resume", "--out", "run"]):
        assert main(command) == 2
        assert "--parts run/parts.py" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"not run unasked: give it, .* parts='run/parts.py' in Python"):
        aevb.load_run("run")

    model, guide, config = aevb.load_run("run", parts="mine.py")
    assert type(model.prior).__name__ == "Gumbel"
    assert isinstance(guide.encode(torch.zeros(2, 64)).mean, torch.Tensor)
    assert config.parts == "mine.py"
    assert main(["evaluate", "run", "--parts", "run/parts.py", "--evidence-samples", "10"]) == 0
    few = ["--estimators", "L_A", "Plain", "--draws", "20", "--checkpoints", "last"]
    assert main(["gradients", "run", "--parts", "mine.py", *few]) == 0
    assert main(["train", "--resume", "--out", "run", "--parts", "mine.py"]) == 0

    file.write_text(PARTS.replace("START\n", "START, OTHER\n").replace("scale).log()", "2 * scale).log()"))
    assert main(["evaluate", "run", "--parts", "mine.py"]) == 2
    assert "mine.py is not what run was trained with, or that with more" in capsys.readouterr().err


def test_a_file_may_grow_by_parts_and_not_change(file: Path) -> None:
    one_more = "\nclass Cauchy(Prior):\n    def forward(self):\n        return None\n"
    assert extends(PARTS, PARTS)
    assert extends(PARTS + one_more + "\nimport math\nSCALE = 2\n", PARTS)
    assert extends("# said in a comment\n" + PARTS, PARTS)
    for changed in (
        PARTS.replace("to_event(1)", "to_event(0)"),
        PARTS + one_more.replace("Cauchy", "Gumbel"),  # the last one of a name is what counts
        PARTS + "\nGumbel.forward = None\n",
        PARTS + "\nfor x in range(3):\n    pass\n",
        PARTS + "\nfrom neighbour import *\n",
        PARTS + "\nfrom os import path as dist\n",
        PARTS.replace("class Net(MLP)", "class Net2(MLP)"),
        "(",
    ):
        assert not extends(changed, PARTS), changed


def test_an_estimator_of_ones_own_is_measured_on_a_run_without(file: Path) -> None:
    assert main(["train", *SMALL, "--out", "run"]) == 0
    few = ["--estimators", "L_A", "Plain", "--draws", "20", "--checkpoints", "last"]
    assert main(["gradients", "run", "--parts", "mine.py", *few]) == 0
    with Path("run/gradients.csv").open() as table:
        assert {row["estimator"] for row in csv.DictReader(table)} == {"L_A", "Plain"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "mine.py defines no part: a class that is a Prior, Likelihood, Guide, Network, Estimator"),
        ("x = 1\ny = x / 0", r"mine.py, line 2: ZeroDivisionError: division by zero"),
        ("x = (", r"mine.py, line 1: SyntaxError: '\(' was never closed"),
        ("from aevb.models import Prior\nclass Half(Prior): pass", "mine.py: the prior Half lacks forward"),
        (
            "from aevb.models import StandardNormal as S\nclass A(S):\n  def __init__(self): pass",
            r"the prior A is made as A\(latents, \*, option=value\): too many positional arguments",
        ),
        (
            "from aevb.models import Likelihood as L\nclass A(L):\n  def forward(self, x): return x",
            "the likelihood A lacks binarisations, the treatments of pixels that it is for",
        ),
        (
            "from aevb.guides import AmortizedNormal as N\nclass A(N):\n  def outputs(self, latents): return 2",
            "the guide A has outputs as a method of an object",
        ),
        (
            "from aevb.guides import AmortizedNormal as N\nclass A(N):\n  def __init__(self, net): pass",
            r"the guide A is made as A\(encoder, \*, option=value\): its first argument is called encoder",
        ),
        (
            "from aevb.models import StandardNormal as S\nclass StandardNormal(S): pass",
            "mine.py defines the prior StandardNormal, and so does aevb. Give it another name",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, message: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        known_parts("prior", str(file))
    assert not list(file.parent.glob("__pycache__")), "nothing is written beside it"


def test_what_is_wrong_with_making_a_part_is_said_with_its_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(
        "from typing import Optional\n"
        "from aevb.models import StandardNormal as S\n"
        "class Bare(S):\n"
        "    def __init__(self, latents):\n"
        "        self.scale = __import__('torch').nn.Parameter()\n"
        "class Some(S):\n"
        "    def __init__(self, latents, order=1, *,\n"
        "                 deep: Optional[int] = None, shape: tuple = (), flag: bool = True, least: float):\n"
        "        super().__init__(latents)\n"
    )
    for spec, message in (
        ("Bare", "mine.py, line 5: Bare cannot be made: AttributeError: cannot assign parameters before"),
        ("Bare:a=1", "Bare has no options; here 'a'"),
        ("Some", "Some needs its option least: Some:least=value"),
        ("Some:deep=x,least=1", "Some:deep takes int or none; it is 'x'"),
        ("Some:shape=x,least=1", "Some:shape takes tuple; it is 'x'"),
        ("Some:flag=1,least=1", "Some:flag takes true or false; it is '1'"),
        ("Some:order=1,least=1", "order is no option, since it is not keyword-only: put *, before it in Some.__init__"),
    ):
        assert main(["train", *SMALL, "--parts", "mine.py", "--prior", spec]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert main(["train", *SMALL, "--parts", "mine.py", "--prior", "Some:deep=3,least=1", "--out", "a"]) == 0
    assert main(["train", *SMALL, "--parts", "mine.py", "--prior", "Some:deep=none,least=1", "--out", "b"]) == 0


def test_what_is_wrong_with_the_command_is_said(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        (["--parts", "other.py"], "There is no file"),
        (["--prior", "Gumbel"], "There is no prior 'Gumbel'"),
        (["--prior", "Gumbl", "--parts", "mine.py"], "Did you mean Gumbel"),
        (["--prior", "Gumbel:bare=2", "--parts", "mine.py"], "Gumbel:bare has no type, by which to read '2'"),
    ):
        assert main(["train", *SMALL, *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not Path("runs").exists()
