"""The two engines make the same run; what cannot be replayed is not."""

import os
import random
import types
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions.transforms import affine_autoregressive
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.fx import GraphModule

from aevb.contract import two_latents
from aevb.guides import AmortizedBernoulli, AmortizedNormal, ExactPosterior
from aevb.inference import ESTIMATORS, History, Training, fit
from aevb.inference.engines import fast, graph, products
from aevb.inference.engines.fuse import fuse
from aevb.inference.engines.python_state import changed, python_state
from aevb.inference.engines.shorten import shorten
from aevb.inference.engines.trace import CannotReplay, trace
from aevb.models import (
    MLP,
    VAE,
    Bernoulli,
    BernoulliVAE,
    Categorical,
    ContinuousBernoulli,
    Conv,
    ConvTransposed,
    FactorialBernoulli,
    Gaussian,
    InputError,
    LinearGaussian,
    StandardNormal,
)

Pair = tuple[Callable[..., Any], Callable[..., Any]]
DATA = (torch.arange(110 * 6).reshape(110, 6) * 7 % 5 < 2).float()


@pytest.fixture(autouse=True)
def onednn_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix products by oneDNN where it is there, however small they are and whatever is faster here."""
    if torch.backends.mkldnn.is_available():
        monkeypatch.setattr(fast, "fastest_library", lambda: "onednn")
        monkeypatch.setattr(products, "FEWEST", 0)
        monkeypatch.setattr(products, "FEWEST_ACTIVATED", 0)


def vae(likelihood: Any = None) -> Pair:
    likelihood = likelihood or Bernoulli()
    return VAE(StandardNormal(2), MLP(2, 5, likelihood.outputs(6)), likelihood), AmortizedNormal(MLP(6, 5, 4))


def train(make: Callable[[], Pair], engine: str, **settings: Any) -> tuple[History, Pair]:
    """A run of 50 steps unless told otherwise, five an epoch; each epoch's last batch is a smaller one."""
    torch.manual_seed(0)
    settings = {"epochs": 10, "batch_size": 25, "estimator": "L_A", "data": DATA, "device": "cpu"} | settings
    if isinstance(settings["data"], Tensor):
        settings["data"] = settings["data"].to(torch.get_default_dtype())
    with pyro.get_param_store().scope():
        pyro.clear_param_store()
        pair = make()
        return fit(*pair, **settings, engine=engine), pair


def check_same(one: History, two: History, tolerance: float) -> None:
    for column in ("train_bound", "train_elbo", "reconstruction", "kl", "kl_global"):
        assert two[column] == pytest.approx(one[column], rel=tolerance, abs=tolerance), column


def check_same_run(make: Callable[[], Pair], tolerance: float = 1e-5, **settings: Any) -> None:
    """Both engines reach the same bounds, epoch by epoch; the second did replay."""
    svi, _ = train(make, "svi", **settings)
    replayed, _ = train(make, "fast", **settings)
    assert (svi.engine, replayed.engine) == ("svi", "fast")
    check_same(svi, replayed, tolerance)


def check_not_replayed(make: Callable[[], Pair], reason: str) -> History:
    """The run is by svi, and says why; ``fast`` by name is refused."""
    history, _ = train(make, "auto", epochs=100)
    assert history.engine == "svi"
    assert reason in history.engine_note
    with pytest.raises(InputError, match="cannot train this pair"):
        train(make, "fast", epochs=100)
    return history


def by_svi(make: Callable[[], Pair]) -> History:
    return train(make, "svi", epochs=100)[0]


def whole(estimator: str) -> dict[str, Any]:
    """500 steps, with a warm-up of 100 where there is a KL to weigh."""
    return {"estimator": estimator, "epochs": 100} | ({"warm_up": 20} if ESTIMATORS[estimator].has_beta else {})


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_makes_the_same_run_of_500_steps(estimator: str) -> None:
    check_same_run(vae, 1e-5, **whole(estimator))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_makes_the_same_run_in_float64(estimator: str, float64: None) -> None:
    check_same_run(vae, 1e-10, **whole(estimator))


def convolutional(activation: Any = "tanh") -> Pair:
    options: dict[str, Any] = {"layers": 1, "channels": 2, "activation": activation}
    likelihood = Bernoulli()
    model = VAE(StandardNormal(2), ConvTransposed((3, 2), 2, 5, likelihood.outputs(6), **options), likelihood)
    return model, AmortizedNormal(Conv((3, 2), 5, 4, **options))


def binary() -> Pair:
    return BernoulliVAE(FactorialBernoulli(2), MLP(2, 5, 6), Bernoulli()), AmortizedBernoulli(MLP(6, 5, 2))


def linear_gaussian() -> Pair:
    return LinearGaussian(torch.randn(6, 2), torch.zeros(6), 1.0), AmortizedNormal(MLP(6, 4))


def at_the_posterior() -> Pair:
    model = LinearGaussian(torch.randn(6, 2), torch.zeros(6), 1.0)
    return model, ExactPosterior(model)


SUITE: dict[str, tuple[Callable[[], Pair], str]] = {
    "Bernoulli": (vae, "L_B"),
    "ContinuousBernoulli": (lambda: vae(ContinuousBernoulli()), "L_B"),
    "Gaussian": (lambda: vae(Gaussian()), "L_B"),
    "Gaussian, one variance": (lambda: vae(Gaussian(variance="shared")), "STL"),
    "Gaussian, one variance a pixel": (lambda: vae(Gaussian(variance="per_pixel")), "STL"),
    "Gaussian, a fixed variance": (lambda: vae(Gaussian(variance="fixed")), "L_B"),
    "Categorical": (lambda: vae(Categorical(levels=3)), "L_B"),
    "Conv": (convolutional, "L_B"),
    "Conv, gated": (lambda: convolutional("gated"), "IWAE"),
    "BernoulliVAE, REINFORCE": (binary, "REINFORCE"),
    "BernoulliVAE, VIMCO": (binary, "VIMCO"),
    "BernoulliVAE, RWS": (binary, "RWS"),
    "LinearGaussian": (linear_gaussian, "L_B"),
    "ExactPosterior": (at_the_posterior, "L_A"),
}


@pytest.mark.parametrize("name", SUITE)
def test_every_pair_of_the_suite_is_replayed(name: str) -> None:
    make, estimator = SUITE[name]
    check_same_run(make, estimator=estimator)


def in_pyro_param() -> Pair:
    def model(x: Tensor) -> None:
        scale = pyro.param("scale", torch.tensor(1.0), constraint=dist.constraints.positive)
        with pyro.plate("data", 110, subsample=x):
            z = pyro.sample("z", dist.Normal(0.0, scale))
            pyro.sample("x", dist.Bernoulli(logits=z[:, None] * torch.ones(6)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        weight = pyro.param("weight", torch.zeros(6))
        with pyro.plate("data", 110, subsample=x):
            pyro.sample("z", dist.Normal(x @ weight, 1.0))

    return model, guide


class Regression(PyroModule):
    """Global latents: the weights of a regression of the last pixel on the others."""

    def forward(self, x: Tensor) -> None:
        weight = pyro.sample("weight", dist.Normal(torch.zeros(5), 1.0).to_event(1))
        with pyro.plate("data", 110, subsample=x):
            pyro.sample("y", dist.Bernoulli(logits=x[:, :5] @ weight), obs=x[:, 5])


def global_latents() -> Pair:
    model = Regression()
    guide = AutoNormal(model)
    guide(DATA[:25].to(torch.get_default_dtype()))
    return model, guide


class Dropped(nn.Module):
    """A guide with dropout and batch normalisation, whose buffers move."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Dropout(0.3), nn.Linear(5, 4))

    def forward(self, x: Tensor) -> None:
        pyro.module("network", self.network)
        loc, scale = self.network(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def with_dropout() -> Pair:
    return vae()[0], Dropped()


def of_two_latents() -> Pair:
    pair = two_latents()
    return pair.model, pair.guide


USERS: dict[str, tuple[Callable[[], Pair], dict[str, Any]]] = {
    "pyro.param and a subsampled plate": (in_pyro_param, {"estimator": "L_B"}),
    "global latents": (global_latents, {"estimator": "L_B_mixed"}),
    "dropout and batch normalisation": (with_dropout, {"estimator": "L_A"}),
    "two latents, L_B_mixed": (of_two_latents, {"estimator": "L_B_mixed", "data": DATA[:, 0]}),
    "two latents, the guide run twice by STL": (of_two_latents, {"estimator": "STL", "data": DATA[:, 0]}),
    "two latents, the guide run twice by DReG": (of_two_latents, {"estimator": "DReG", "data": DATA[:, 0]}),
}


@pytest.mark.parametrize("name", USERS)
def test_a_users_own_pair_is_replayed(name: str) -> None:
    make, settings = USERS[name]
    check_same_run(make, 1e-5, **settings)


def pair_with(act: Callable[[Tensor], Any], encoder: nn.Module | None = None) -> Pair:
    """A pair whose latent's prior has a mean that the program computes as it likes."""
    decoder, encoder = nn.Linear(1, 6), encoder or nn.Linear(6, 2)

    def model(x: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(act(x), 1.0).expand([len(x), 1]).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=decoder(z)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("encoder", encoder)
        loc, scale = encoder(x).chunk(2, -1)
        with pyro.plate("data", len(x)):
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

    return model, guide


def on_values() -> Pair:
    return pair_with(lambda x: 1.0 if x.mean() > 0.4 else 0.0)


def on_arrays() -> Pair:
    return pair_with(lambda x: float(x.numpy().mean()))


def with_a_counter() -> Pair:
    calls = [0]

    def act(x: Tensor) -> float:
        calls[0] += 1
        return 1.0 if calls[0] > 400 else 0.0

    return pair_with(act)


def with_a_private_counter() -> Pair:
    numbers = iter(range(10**6))
    return pair_with(lambda x: 0.0 * next(numbers))


def with_pythons_noise() -> Pair:
    return pair_with(lambda x: random.gauss(0, 1))


def with_numpys_noise() -> Pair:
    generator = np.random.default_rng(0)
    return pair_with(lambda x: generator.normal())


def with_a_generator() -> Pair:
    generator = torch.Generator().manual_seed(0)
    return pair_with(lambda x: torch.randn(1, generator=generator))


@pytest.mark.parametrize("make", [on_values, on_arrays])
def test_what_acts_on_values_trains_as_by_svi(make: Callable[[], Pair]) -> None:
    check_same(by_svi(make), check_not_replayed(make, "the value of a tensor"), 0.0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (with_a_counter, "calls"),
        (with_a_private_counter, "numbers"),
        (with_pythons_noise, "random"),
        (with_numpys_noise, "generator"),
        (with_a_generator, "generator"),
    ],
)
def test_what_python_remembers_is_not_replayed(make: Callable[[], Pair], reason: str) -> None:
    check_not_replayed(make, reason)


def test_a_counter_that_changes_the_pair_late_is_right_all_the_same() -> None:
    """The counter reaches 400 in the middle of the run; a replay would never see it do so."""
    svi, _ = train(with_a_counter, "svi", epochs=100)
    auto, _ = train(with_a_counter, "auto", epochs=100)
    assert auto["train_bound"][-1] == pytest.approx(svi["train_bound"][-1], abs=0.05)
    assert abs(svi["kl"][-1] - svi["kl"][10]) > 0.1  # it did matter


def with_a_counting_function() -> Pair:
    def act(x: Tensor) -> float:
        act.calls += 1  # type: ignore[attr-defined]
        return 1.0 if act.calls > 300 else 0.0  # type: ignore[attr-defined]

    act.calls = 0  # type: ignore[attr-defined]
    return pair_with(act)


def with_a_map() -> Pair:
    numbers = map(float, range(10**6))
    return pair_with(lambda x: 1.0 if next(numbers) > 300 else 0.0)


class Recurrent(nn.Module):
    """What the traced graph of cannot be replayed: an LSTM of oneDNN's, whose gradient has a workspace of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.out = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.recurrent(x[..., None])[0][:, -1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (with_a_counting_function, "calls"),
        (with_a_map, "numbers"),
        (lambda: pair_with(lambda x: 0.0, Recurrent()), "cannot be replayed"),
    ],
)
def test_more_that_is_not_replayed(make: Callable[[], Pair], reason: str) -> None:
    check_not_replayed(make, reason)


def spectral() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(6, 4)), nn.Linear(4, 2))


def batch_normal() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))  # it undoes a bias


LAYOUTS: dict[str, Callable[[Tensor], Any]] = {
    "a sum of bools": lambda x: ((x[:, :1] > 0).sum(1) + (x[:, 1:2] > 0).sum(1)).float()[:, None],
    "one less a sum of bools": lambda x: 1.0 - (x[:, :1] > 0).sum(1, keepdim=True),
    "a constant and a transpose": lambda x: (torch.zeros(6, len(x)) + x.t()).reshape(-1)[: len(x), None] * 0.1,
    "a stack of one transpose": lambda x: torch.stack([x.t()]).reshape(-1)[: len(x), None] * 0.1,
    "nothing": lambda x: (torch.ones(len(x), 0) * torch.zeros(0) + x[:, :0]).sum(1, keepdim=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_types_and_layouts_stay_what_they_were(name: str) -> None:
    check_same_run(lambda: pair_with(LAYOUTS[name]), epochs=30)


@pytest.mark.parametrize("encoder", [batch_normal, spectral])
def test_buffers_of_modules_in_closures_move_once_a_step(encoder: Callable[[], nn.Module]) -> None:
    found = []
    for engine in ("svi", "fast"):
        torch.manual_seed(0)
        network = encoder()
        history, _ = train(lambda network=network: pair_with(lambda x: 0.0, network), engine, epochs=40)
        found.append((history, [buffer.double() for buffer in network.buffers()]))
    (svi, expected), (replayed, buffers) = found
    check_same(svi, replayed, 1e-5)
    torch.testing.assert_close(buffers, expected, rtol=1e-4, atol=1e-6)


def test_a_tensor_that_the_program_moves_is_right_whoever_moves_it() -> None:
    def run(engine: str) -> tuple[History, float]:
        average = torch.zeros(())
        act = lambda x: average.mul_(0.9).add_(0.1 * x.mean()).clone()  # noqa: E731
        return train(lambda: pair_with(act), engine, epochs=100)[0], average.item()

    (svi, expected), (auto, average) = run("svi"), run("auto")
    assert average == pytest.approx(expected, rel=1e-6)
    check_same(svi, auto, 1e-5)


class Settings:
    temperature = 0.0


class Slotted:
    __slots__ = ("value",)


def changes_between_epochs() -> dict[str, tuple[Callable[[Tensor], Any], Callable[[], object]]]:
    """What a program reads, and how a user changes it."""
    slotted, variable, long = Slotted(), ContextVar("variable", default=0.0), [0.0] * 2000
    slotted.value = 0.0  # type: ignore[attr-defined]
    Settings.temperature = 0.0
    os.environ.pop("AEVB_TEST", None)

    def own(x: Tensor) -> float:
        return own.value  # type: ignore[attr-defined]

    own.value = 0.0  # type: ignore[attr-defined]
    return {
        "an attribute of a class": (lambda x: Settings.temperature, lambda: setattr(Settings, "temperature", 1.0)),
        "an attribute of a function": (own, lambda: setattr(own, "value", 1.0)),
        "a slot": (lambda x: slotted.value, lambda: setattr(slotted, "value", 1.0)),  # type: ignore[attr-defined]
        "a module's variable": (lambda x: test_parameters.SCALE, lambda: setattr(test_parameters, "SCALE", 1.0)),
        "a context variable": (lambda x: variable.get(), lambda: variable.set(1.0)),
        "far in a list": (lambda x: long[1500], lambda: long.__setitem__(1500, 1.0)),
        "the environment": (
            lambda x: float(os.environ.get("AEVB_TEST", "0")),
            lambda: os.environ.__setitem__("AEVB_TEST", "1"),
        ),
    }


test_parameters = types.ModuleType("test_parameters")


@pytest.mark.parametrize("name", changes_between_epochs())
def test_whatever_is_changed_between_epochs_is_seen(name: str) -> None:
    def run(engine: str) -> History:
        test_parameters.SCALE = 0.0  # type: ignore[attr-defined]
        act, change = changes_between_epochs()[name]
        return train(lambda: pair_with(act), engine, epochs=100, on_epoch=lambda r: r["epoch"] == 50 and change())[0]

    svi, auto = run("svi"), run("auto")
    assert auto.engine == "fast"
    assert abs(svi["kl"][-1] - svi["kl"][48]) > 1e-3
    check_same(svi, auto, 1e-5)
    os.environ.pop("AEVB_TEST", None)


def test_a_parameter_put_into_pyros_store_is_seen() -> None:
    def run(engine: str) -> History:
        def replace(row: dict[str, float]) -> None:
            if row["epoch"] == 50:
                pyro.get_param_store()["weight"] = torch.full((6,), 0.5)

        return train(in_pyro_param, engine, epochs=100, estimator="L_B", on_epoch=replace)[0]

    check_same(run("svi"), run("auto"), 1e-5)


class Padded:
    """Batches as wide as their longest row."""

    def __len__(self) -> int:
        return 110

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return DATA[indices][:, : 2 + int(indices.max()) % 5]


def test_batches_of_another_shape_are_not_replayed_by_its_graph() -> None:
    def make() -> Pair:
        encoder, decoder = nn.Linear(1, 2), nn.Linear(1, 1)

        def model(x: Tensor) -> None:
            pyro.module("decoder", decoder)
            with pyro.plate("data", len(x)):
                z = pyro.sample("z", dist.Normal(torch.zeros(1), 1.0).to_event(1))
                pyro.sample("x", dist.Bernoulli(logits=decoder(z).expand(-1, x.shape[1])).to_event(1), obs=x)

        def guide(x: Tensor) -> None:
            pyro.module("encoder", encoder)
            loc, scale = encoder(x.mean(1, keepdim=True)).chunk(2, -1)
            with pyro.plate("data", len(x)):
                pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))

        return model, guide

    def run(engine: str) -> History:
        torch.manual_seed(0)
        return fit(*make(), Padded(), estimator="L_A", epochs=30, batch_size=25, device="cpu", engine=engine)

    check_same(run("svi"), run("fast"), 1e-5)


def with_a_flow() -> Pair:
    flow = affine_autoregressive(2, [4])
    model = VAE(StandardNormal(2), MLP(2, 5, 6), Bernoulli())

    def guide(x: Tensor) -> None:
        pyro.module("flow", flow)
        with pyro.plate("data", len(x)):
            base = dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1)
            pyro.sample("z", dist.TransformedDistribution(base, [flow]))

    return model, guide


def test_a_flow_whose_transform_keeps_its_last_value_is_replayed() -> None:
    check_same_run(with_a_flow, epochs=30)


class Annealed(VAE):
    """A model that reads a plain attribute, which the user changes between epochs."""

    power = 1.0

    def forward(self, x: Tensor) -> Tensor:
        with pyro.plate("data", len(x)):
            z: Tensor = pyro.sample("z", dist.Normal(torch.zeros(2), self.power).to_event(1))
            pyro.sample("x", self.decode(z), obs=x)
        return z


@pytest.mark.parametrize(("changes", "engine"), [(2, "fast"), (8, "svi")])
def test_a_pair_changed_between_epochs_is_traced_anew_but_not_for_ever(changes: int, engine: str) -> None:
    def run(name: str) -> History:
        torch.manual_seed(0)
        model, guide = Annealed(StandardNormal(2), MLP(2, 5, 6), Bernoulli()), AmortizedNormal(MLP(6, 5, 4))

        def on_epoch(row: dict[str, float]) -> None:
            model.power = 1.0 + 0.5 * min(row["epoch"], changes)

        settings: dict[str, Any] = {"epochs": 100, "batch_size": 25, "on_epoch": on_epoch, "device": "cpu"}
        return fit(model, guide, DATA, estimator="L_A", engine=name, **settings)

    auto = run("auto")
    assert auto.engine == engine
    check_same(run("svi"), auto, 1e-5)


def test_a_wrong_graph_is_seen_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(module: GraphModule) -> GraphModule:
        node = next(n for n in module.graph.nodes if n.target is torch.ops.aten.exp.default)
        node.target = torch.ops.aten.tanh.default
        module.recompile()
        return module

    monkeypatch.setattr(graph, "shorten", spoil)
    check_same(by_svi(vae), check_not_replayed(vae, "a replayed step has"), 0.0)


def test_a_graph_that_goes_wrong_later_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step in a thousand is compared: here, one in twenty. What was done since the one before is done anew."""
    monkeypatch.setattr(fast, "CHECKED_EVERY", 20)
    replay = fast.Fast.replay
    count = 0

    def spoilt(self: Any, beta: Tensor, batch: Any) -> Any:
        nonlocal count
        count += 1
        sums, gradients = replay(self, beta, batch)
        return fast.Outcome(sums * (1.0 if count < 30 else 1.001), gradients)

    monkeypatch.setattr(fast.Fast, "replay", spoilt)
    history, _ = train(vae, "auto", epochs=100)
    assert history.engine == "svi"
    assert history["epoch"] == [*range(1, 101)]
    check_same(by_svi(vae), history, 1e-5)


def test_one_step_in_a_thousand_is_compared() -> None:
    """Over a million steps, to 4.5 standard errors of a mean of uniform gaps."""
    engine = training().engine
    assert isinstance(engine, fast.Fast)
    engine.traced_at = number = engine.check_next = 0
    while number < 1_000_000:
        engine.checked(number)
        number = engine.check_next
    checks = engine.checks - fast.CHECKED_FIRST
    assert abs(number / checks - fast.CHECKED_EVERY) < 4.5 * fast.CHECKED_EVERY / (3 * checks) ** 0.5


def test_the_note_says_who_multiplied_and_not_who_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of five hidden units are too small for oneDNN, wherever large ones go."""
    monkeypatch.undo()
    run = training()
    assert isinstance(run.engine, fast.Fast)
    run.engine.products = "onednn"
    assert finished(run).engine_note == "matrix products by torch"


def test_a_short_run_is_not_worth_a_graph() -> None:
    history, _ = train(vae, "auto", epochs=2)
    assert (history.engine, history.engine_note) == ("svi", "10 steps are over before a graph pays")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InputError, match="auto, svi, fast"):
        train(vae, "jax")


class Binarised:
    """Grey data that become black and white anew at each batch."""

    def __init__(self, count: int = 110) -> None:
        self.grey = torch.linspace(0, 1, count * 6).reshape(count, 6)

    def __len__(self) -> int:
        return len(self.grey)

    def batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.grey[indices], generator=generator)


def training(**settings: Any) -> Training:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {
        **{"estimator": "L_B", "epochs": 6, "batch_size": 25, "samples": None, "beta": None, "optimizer": "Adam"},
        **{"learning_rate": 0.01, "schedule": "cosine", "weight_decay": 0.0, "validation": None, "patience": None},
        **{"test": None, "evaluation_samples": 1, "seed": 0, "device": "cpu", "engine": "fast"},
    }
    return Training(*vae(), settings.pop("data", DATA), **(defaults | settings))


def finished(run: Training) -> History:
    while not run.done:
        run.epoch()
    return run.history


def recorded(run: Training, record: Any) -> Training:
    """A run whose steps are launched several at a time, as on a GPU, the recording itself apart."""
    run.loop.record = record
    return run


def as_it_is(work: Callable[[], None]) -> Callable[[], None]:
    """Stands for a CUDA graph: recording does the work, and so does every replay."""
    work()
    return work


@pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
def test_launched_steps_are_the_steps_one_by_one(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "CHECKED_EVERY", 50)
    settings: dict[str, Any] = {"data": Binarised(620), "optimizer": optimizer, "warm_up": 3}
    one_by_one = finished(training(**settings))
    run = recorded(training(**settings), as_it_is)
    launched = finished(run)
    assert run.loop.launch is not None
    assert run.engine.checks > fast.CHECKED_FIRST
    check_same(one_by_one, launched, 1e-6)
    assert launched["learning_rate"] == one_by_one["learning_rate"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_on_a_gpu_steps_are_launched_and_the_run_is_the_same(estimator: str) -> None:
    settings: dict[str, Any] = {"data": Binarised(620), "device": "cuda", "estimator": estimator, "epochs": 20}
    run = training(**settings)
    launched = finished(run)
    assert run.loop.launch is not None, launched.engine_note
    check_same(finished(training(**settings | {"engine": "svi"})), launched, 1e-4)


def test_a_resumed_run_of_launches_equals_an_unbroken_one() -> None:
    settings = {"data": Binarised(620)}
    unbroken = recorded(training(**settings), as_it_is)
    for _ in range(3):
        unbroken.epoch()
    state = unbroken.state()
    resumed = recorded(training(**settings), as_it_is)
    resumed.restore(state)
    assert finished(resumed)["train_bound"] == finished(unbroken)["train_bound"]


def test_a_device_that_cannot_record_steps_takes_them_one_by_one() -> None:
    def record(work: Callable[[], None]) -> Callable[[], None]:
        work()
        raise RuntimeError("operation not permitted when stream is capturing")

    run = recorded(training(data=Binarised(620)), record)
    history = finished(run)
    assert history.engine == "fast"
    assert "not permitted when stream is capturing" in history.engine_note
    check_same(finished(training(data=Binarised(620))), history, 0.0)


def test_a_launch_that_does_something_else_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "CHECKED_EVERY", 1)
    run = recorded(training(data=Binarised(620), engine="auto", epochs=20), lambda work: lambda: None)
    history = finished(run)
    assert history.engine == "svi"
    assert "launched steps sum to" in history.engine_note
    check_same(finished(training(data=Binarised(620), engine="svi", epochs=20)), history, 0.0)


def test_a_resumed_run_equals_an_unbroken_one() -> None:
    unbroken, resumed = training(), training()
    for _ in range(3):
        unbroken.epoch()
    resumed.restore(unbroken.state())
    assert finished(resumed)["train_bound"] == finished(unbroken)["train_bound"]
    assert resumed.engine.state() == unbroken.engine.state()


def test_shortening_keeps_every_bit_and_every_draw() -> None:
    def step(x: Tensor) -> tuple[Tensor, ...]:
        torch.rand(3)  # nobody uses it, but the stream moves on
        scale = torch.ones(4, 2) * 1.0
        z = (torch.randn(4, 2) * scale + torch.zeros(2)) / 1.0
        y = (z.unsqueeze(0).mean(0) + torch.full((2,), 0.1)).expand(4, 2).view(4, 2) ** 1.0
        return (y * x).sum(0), torch.stack([y]).sum(0)

    x = torch.randn(4, 2)
    module = trace(step, x)  # type: ignore[arg-type]
    before = len(module.graph.nodes)
    torch.manual_seed(1)
    expected, noise = step(x), torch.get_rng_state()
    shorten(module)
    torch.manual_seed(1)
    assert all(map(torch.equal, module(x), expected))
    assert torch.equal(torch.get_rng_state(), noise)
    names = [str(node.target) for node in module.graph.nodes if node.op == "call_function"]
    assert len(names) <= 8, names
    assert len(module.graph.nodes) < before / 2


def test_a_bernoulli_in_fewer_passes_is_the_bernoulli() -> None:
    logits, x = torch.cat([20 * torch.randn(50, 6), torch.full((1, 6), 1e4)]), (torch.rand(51, 6) < 0.5).float()

    def step(logits: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        return (dist.Bernoulli(logits=logits, validate_args=False).to_event(1).log_prob(x),)

    module = shorten(trace(step, logits, x))  # type: ignore[arg-type]
    exact = dist.Bernoulli(logits=logits.double()).to_event(1).log_prob(x.double())
    assert torch.equal(*module(logits, x), *step(logits, x))
    fuse(module)
    targets = [node.target for node in module.graph.nodes]
    assert torch.ops.aten.binary_cross_entropy_with_logits.default not in targets
    assert targets.count(torch.ops.aten.neg.default) == 1
    torch.testing.assert_close(module(logits, x)[0].double(), exact, rtol=1e-6, atol=1e-5)


def test_a_bernoulli_in_fewer_passes_rounds_as_well_as_torch_does() -> None:
    """Logits from -110 to 110: beyond what float32's exp can hold, and with a 0, where the two branches meet."""
    logits = torch.linspace(-110, 110, 200_001)
    for x in (torch.zeros_like(logits), torch.ones_like(logits)):
        module = shorten(trace(lambda x: (-dist.Bernoulli(logits=logits, validate_args=False).log_prob(x),), x))  # type: ignore[arg-type,return-value]
        exact = -dist.Bernoulli(logits=logits.double()).log_prob(x.double())
        unit = torch.finfo(torch.float32).eps * logits.double().abs().clamp(min=1)
        fuse(module)
        errors = (module(x)[0].double() - exact) / unit
        assert errors.abs().max() < 2.5, "two roundings and a half"
        assert errors.mean().abs() < 0.01, "and none that adds up over the pixels"


def test_what_is_written_to_stays_written_to() -> None:
    total = torch.zeros(())

    def step(x: Tensor) -> tuple[Tensor, ...]:
        before = total * 1.0  # is total, but for what is written to that afterwards
        total.add_(x.sum() * torch.ones(()))
        return before, total * 1.0

    module = shorten(trace(step, torch.ones(2)))  # type: ignore[arg-type]
    total.zero_()
    module(torch.ones(2))
    before, after = module(torch.ones(2))
    assert (before.item(), after.item(), total.item()) == (2.0, 4.0, 4.0)


def test_tracing_refuses_what_differs_from_run_to_run() -> None:
    numbers = iter(range(100))
    with pytest.raises(CannotReplay, match="differ at"):
        trace(lambda x: (x * next(numbers),), torch.ones(2))  # type: ignore[arg-type,return-value]


def test_pythons_state_is_what_a_program_can_reach() -> None:
    class Program:
        limit = 3

        def __init__(self) -> None:
            self.network, self.calls, self.names = nn.Linear(2, 2), 0, ["a"]

        def __call__(self, x: Tensor) -> Tensor:
            return self.network(x) * GLOBAL[0]

    program = Program()

    def seen(act: Callable[[], object]) -> str | None:
        before = python_state(program=program)
        act()
        return changed(before, python_state(program=program))

    assert seen(lambda: program.network(torch.ones(2))) is None
    assert seen(lambda: nn.init.zeros_(program.network.weight)) is None  # a tensor's values are read at every replay
    assert "calls" in (seen(lambda: setattr(program, "calls", 1)) or "")
    assert "names" in (seen(lambda: program.names.append("b")) or "")
    assert "training" in (seen(program.network.eval) or "")
    assert "limit" in (seen(lambda: setattr(Program, "limit", 4)) or "")
    assert "GLOBAL" in (seen(lambda: GLOBAL.__setitem__(0, 2.0)) or "")
    assert "weight" in (seen(lambda: setattr(program.network, "weight", nn.Parameter(torch.ones(2, 2)))) or "")
    assert "random" in (seen(random.random) or "")


GLOBAL = [1.0]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="oneDNN is not in this build of torch")
@pytest.mark.parametrize("decide", [torch.bernoulli, lambda p: p.argmax(1)])
def test_where_a_last_bit_decides_products_stay_as_they_are(decide: Callable[[Tensor], Tensor]) -> None:
    weight = torch.randn(6, 5)
    module = shorten(trace(lambda x: (decide((x @ weight).sigmoid()),), DATA[:25]))  # type: ignore[arg-type,return-value]
    assert not products.use_onednn(module)
    assert torch.ops.aten.mm.default in [node.target for node in module.graph.nodes]
    smooth = shorten(trace(lambda x: (torch.randn(25, 5) * (x @ weight),), DATA[:25]))  # type: ignore[arg-type,return-value]
    assert products.use_onednn(smooth)
    assert torch.ops.aten.mm.default not in [node.target for node in smooth.graph.nodes]


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="oneDNN is not in this build of torch")
def test_onednn_is_given_what_it_is_faster_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    weight, bias, small = torch.randn(500, 400), torch.randn(500), torch.randn(3, 400)

    def step(x: Tensor) -> tuple[Tensor, ...]:
        hidden = torch.addmm(bias, x, weight.t()).tanh()
        return hidden, hidden.t() @ x, x @ small.t()

    x = torch.randn(100, 400)
    module = shorten(trace(step, x))  # type: ignore[arg-type]
    products.use_onednn(module)
    targets = [node.target for node in module.graph.nodes if node.op == "call_function"]
    assert targets.count(products.linear) == 2
    assert torch.ops.aten.mm.default in targets  # too small to gain
    assert torch.ops.aten.tanh.default not in targets
    for one, two in zip(module(x), step(x), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
    assert products.fastest_library() in products.LIBRARIES


def test_the_faster_library_is_measured_in_float32_whatever_the_default(float64: None) -> None:
    products._fastest_library.cache_clear()
    assert products.fastest_library() in ("torch", "onednn")


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="oneDNN is not in this build of torch")
def test_an_activation_is_found_behind_the_view_that_many_samples_bring() -> None:
    weight, square, bias, z = torch.randn(5, 4), torch.randn(5, 5), torch.randn(5), torch.randn(3, 7, 4)

    def step(z: Tensor) -> tuple[Tensor, ...]:
        hidden = nn.functional.linear(z, weight, bias)
        first = nn.functional.linear(z[0], weight, bias)
        twice = torch.addmm(bias, first, square).tanh()  # of the second product, not the first
        return hidden.tanh(), nn.functional.linear(z, weight).relu(), twice

    module = shorten(trace(step, z))  # type: ignore[arg-type]
    assert products.use_onednn(module)
    targets = [node.target for node in module.graph.nodes]
    assert targets.count(products.linear) == 4
    assert not {torch.ops.aten.tanh.default, torch.ops.aten.relu.default} & set(targets)
    for one, two in zip(module(z), step(z), strict=True):
        torch.testing.assert_close(one, two)
