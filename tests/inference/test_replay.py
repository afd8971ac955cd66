"""Replaying a pair on held-out data gives what running it gives; what cannot be replayed is run."""

import importlib
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn

from aevb.guides import AmortizedBernoulli, AmortizedFlow, AmortizedNormal, Hierarchical, Refined
from aevb.inference import LogEvidence, log_evidence
from aevb.inference.engines import products, replay
from aevb.inference.engines.trace import CannotReplay
from aevb.models import (
    MLP,
    VAE,
    Bernoulli,
    BernoulliVAE,
    Categorical,
    FactorialBernoulli,
    Gaussian,
    HierarchicalVAE,
    NormalMixture,
    StandardNormal,
)

Pair = tuple[Callable[..., Any], Callable[..., Any]]
DATA = (torch.arange(50 * 6).reshape(50, 6) * 7 % 5 < 2).float()
module = importlib.import_module("aevb.inference.log_evidence")  # whose name is the function's in the package


@pytest.fixture(autouse=True)
def onednn_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products by oneDNN where it is there, however small they are and whatever is faster here."""
    if torch.backends.mkldnn.is_available():
        monkeypatch.setattr(replay, "fastest_library", lambda: "onednn")
        monkeypatch.setattr(products, "FEWEST", 0)
        monkeypatch.setattr(products, "FEWEST_ACTIVATED", 0)
    monkeypatch.setattr(replay, "CHECKED_EVERY", 5)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The graphs that are made from here on, however small the work."""
    made: list[Any] = []

    def graph_of(*args: Any, **kwargs: Any) -> Any:
        made.append(right(*args, **kwargs))
        return made[-1]

    right = replay.graph_of
    monkeypatch.setattr(replay, "graph_of", graph_of)
    monkeypatch.setattr(module, "REPLAYED_FROM", 0)
    return made


def vae(likelihood: Any = None, prior: Any = None, guide: Callable[[nn.Module], Any] = AmortizedNormal) -> Pair:
    likelihood = likelihood or Bernoulli()
    model = VAE(prior or StandardNormal(2), MLP(2, 5, likelihood.outputs(6)), likelihood)
    return model, guide(MLP(6, 5, 4))


def flow() -> Pair:
    model, _ = vae()
    return model, AmortizedFlow(MLP(6, 5, 4 + 5), 2, transform="planar", layers=1)


def layers() -> Pair:
    model = HierarchicalVAE(StandardNormal(2), [MLP(2, 5, 6)], MLP(3, 5, 6), Bernoulli())
    return model, Hierarchical([AmortizedNormal(MLP(6, 5, 6)), AmortizedNormal(MLP(3, 5, 4))])


def binary() -> Pair:
    return BernoulliVAE(FactorialBernoulli(2), MLP(2, 5, 6), Bernoulli()), AmortizedBernoulli(MLP(6, 5, 2))


PAIRS: dict[str, Callable[[], Pair]] = {
    "Bernoulli": vae,
    "Gaussian": lambda: vae(Gaussian()),
    "Categorical": lambda: vae(Categorical(levels=3)),
    "NormalMixture": lambda: vae(prior=NormalMixture(2)),
    "AmortizedFlow": flow,
    "HierarchicalVAE": layers,
    "BernoulliVAE": binary,
}


def evidence(pair: Pair, **settings: Any) -> LogEvidence:
    """By chunks of 64 samples and one of 6, of batches of 20 data and one of 10."""
    settings = {"samples": 198, "draws_at_once": 20 * 64} | settings
    return log_evidence(*pair, DATA.to(torch.get_default_dtype()), **settings)


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_replayed_is_what_running_the_pair_gives(
    name: str, graphs: list[Any], monkeypatch: pytest.MonkeyPatch, float64: None
) -> None:
    pair = PAIRS[name]()
    replayed = evidence(pair)
    assert len(graphs) == 2
    monkeypatch.setattr(module, "REPLAYED_FROM", float("inf"))
    expected = evidence(pair)
    assert len(graphs) == 2
    for figure in ("values", "standard_errors", "effective_sample_sizes"):
        torch.testing.assert_close(getattr(replayed, figure), getattr(expected, figure), rtol=1e-9, atol=1e-9)


def test_little_work_makes_no_graph(graphs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = 50 * 198 * 6
    monkeypatch.setattr(module, "REPLAYED_FROM", numbers + 1)
    evidence(vae())
    assert graphs == []
    monkeypatch.setattr(module, "REPLAYED_FROM", numbers)
    evidence(vae())
    assert len(graphs) == 2


def with_a_counter() -> Pair:
    calls = [0]

    def model(x: Tensor) -> None:
        calls[0] += 1
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(0.0 * calls[0], 1.0))
            pyro.sample("x", dist.Bernoulli(logits=z[..., None].expand(*z.shape, 6)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x.sum(1) / 6, 1.0))

    return model, guide


def on_values() -> Pair:
    model, _ = vae()

    def guide(x: Tensor) -> None:
        scale = 1.0 if x.mean() > 0.4 else 2.0
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(x[:, :2], scale).to_event(1))

    return model, guide


class Counting(nn.Module):
    """Counts its calls in a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MLP(6, 5, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x)


def refined() -> Pair:
    model, guide = vae()
    return model, Refined(guide, steps=2).attach(model)


@pytest.mark.parametrize("make", [with_a_counter, on_values, refined, lambda: (vae()[0], AmortizedNormal(Counting()))])
def test_what_cannot_be_replayed_is_run(
    make: Callable[[], Pair], graphs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: the failed attempt leaves no trace in the noise."""
    pair = make()
    result = evidence(pair)
    monkeypatch.setattr(module, "REPLAYED_FROM", float("inf"))
    assert torch.equal(result.values, evidence(pair).values)


def test_a_replay_that_goes_wrong_is_noticed_and_everything_computed_anew(
    graphs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair, replayed, wrong = vae(), replay._replayed, [0]

    def sometimes_wrong(*args: Any) -> Tensor:
        wrong[0] += 1
        return replayed(*args) * (1.001 if wrong[0] > 4 else 1.0)

    monkeypatch.setattr(replay, "CHECKED_EVERY", 2)
    monkeypatch.setattr(replay, "_replayed", sometimes_wrong)
    result = evidence(pair, samples=1000)
    assert 4 < wrong[0] < 3 * 15  # it was given up in the midst
    monkeypatch.setattr(module, "REPLAYED_FROM", float("inf"))
    assert torch.equal(result.values, evidence(pair, samples=1000).values)


def test_a_replay_says_what_is_wrong() -> None:
    calls = [0]

    def function(x: Tensor) -> Tensor:
        calls[0] += 1
        return x * (1.0 if calls[0] < 6 else 2.0)

    replayed = replay.Replay(function, {}, 0)
    for _ in range(2):
        assert replayed(torch.ones(3)).tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(CannotReplay, match="differs from the pair by 1"):
        replayed(torch.ones(3))


def test_where_the_pair_is_infinite_the_rest_is_compared_all_the_same() -> None:
    wrong = [0.0]

    def function(x: Tensor) -> Tensor:
        return x.log() + wrong[0]

    for amount, there in ((0.0, [0.0, 1.0]), (1.0, [0.0, 1.0]), (float("inf"), [1.0, 1.0])):
        wrong[0] = 0.0
        replayed = replay.Replay(function, {}, 0)
        x = torch.tensor([0.0, 1.0])
        for _ in range(3):
            assert replayed(x).tolist() == [-float("inf"), 0.0]
        (graph,) = replayed.graphs.values()
        wrong[0] = amount
        if amount:
            with pytest.raises(CannotReplay, match=r"differs from the pair by 1|not infinite where"):
                replayed._compared(graph, (torch.tensor(there),))
        else:
            assert replayed._compared(graph, (x,)).tolist() == [-float("inf"), 0.0]


def test_a_graph_is_made_of_the_first_shapes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    replayed = replay.Replay(torch.exp, {}, 0)
    for size in range(1, 8):
        for _ in range(4):
            assert torch.equal(replayed(torch.zeros(size)), torch.ones(size))
    assert len(replayed.graphs) == replay.MOST
