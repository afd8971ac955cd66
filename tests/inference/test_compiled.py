"""A compiled step is the step; what cannot be compiled is replayed as it is."""

import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from aevb.guides import AmortizedNormal
from aevb.inference import ESTIMATORS, History, Training, fit
from aevb.inference.engines import choose, compiled, fast, inductor, products, whole
from aevb.inference.engines.choose import make_engine
from aevb.inference.engines.compiled import Compiled
from aevb.models import MLP, VAE, Bernoulli, InputError, StandardNormal

DATA = (torch.arange(110 * 6).reshape(110, 6) * 7 % 5 < 2).float()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile from step 7 on, in the second epoch; products by oneDNN where it is there, however small they are."""
    monkeypatch.setattr(compiled, "COMPILED_AT", 7)
    if torch.backends.mkldnn.is_available():
        monkeypatch.setattr(fast, "fastest_library", lambda: "onednn")
        monkeypatch.setattr(products, "FEWEST", 0)
        monkeypatch.setattr(products, "FEWEST_ACTIVATED", 0)


@pytest.fixture
def auto_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run need not be long for ``auto`` to compile it."""
    monkeypatch.setattr(choose, "FEWEST_STEPS", 0)
    monkeypatch.setattr(choose, "FEWEST_COMPILED", 0)


def training(engine: str, encoder: Callable[[], nn.Module] = lambda: MLP(6, 5, 4), **settings: Any) -> Training:
    """Five steps an epoch, the last one a smaller batch."""
    torch.manual_seed(0)
    model, guide = VAE(StandardNormal(2), MLP(2, 5, 6), Bernoulli()), AmortizedNormal(encoder())
    defaults: dict[str, Any] = {
        **{"estimator": "L_B", "epochs": 20, "batch_size": 25, "samples": None, "beta": None, "optimizer": "Adam"},
        **{"learning_rate": 0.01, "schedule": "cosine", "weight_decay": 0.1, "validation": None, "patience": None},
        **{"test": None, "evaluation_samples": 1, "seed": 0, "device": "cpu"},
    }
    return Training(model, guide, DATA.to(torch.get_default_dtype()), engine=engine, **(defaults | settings))


def finished(run: Training) -> History:
    while not run.done:
        run.epoch()
    return run.history


def check_same(one: History, two: History, tolerance: float) -> None:
    for column in ("train_bound", "train_elbo", "reconstruction", "kl"):
        assert two[column] == pytest.approx(one[column], rel=tolerance, abs=tolerance), column


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("estimator", ["L_A", "L_B", "DReG", "RWS"])
def test_a_compiled_run_is_the_pairs(estimator: str) -> None:
    """RWS draws what depends on parameters; both ways of the draw are the same."""
    warm_up = {"warm_up": 5} if ESTIMATORS[estimator].has_beta else {}
    run = training("compiled", estimator=estimator, **warm_up)
    history = finished(run)
    assert (history.engine, "compiled from step 7" in history.engine_note) == ("compiled", True)
    assert run.engine.checks >= 2 * fast.CHECKED_FIRST
    assert run.engine.whole is not None
    check_same(finished(training("svi", estimator=estimator, **warm_up)), history, 1e-5)


@pytest.mark.usefixtures("compiler")
def test_a_compiled_run_is_the_pairs_in_float64(float64: None) -> None:
    check_same(finished(training("svi")), finished(training("compiled")), 1e-10)


@pytest.mark.usefixtures("compiler")
def test_a_resumed_compiled_run_equals_an_unbroken_one() -> None:
    unbroken, resumed = training("compiled", epochs=6), training("compiled", epochs=6)
    for _ in range(3):
        unbroken.epoch()
    resumed.restore(unbroken.state())
    assert finished(resumed)["train_bound"] == finished(unbroken)["train_bound"]
    assert resumed.engine.state() == unbroken.engine.state()


@pytest.mark.usefixtures("auto_compiles")
def test_without_a_compiler_steps_are_replayed_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    with config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}):
        run = training("auto", epochs=4)
        history = finished(run)
        assert history.engine == "fast"
        assert "not compiled: " in history.engine_note
        assert "ompiler" in history.engine_note
        resumed = training("auto", epochs=4)
        resumed.restore(run.state())
        assert resumed.engine.name == "fast"
        check_same(finished(training("fast", epochs=4)), history, 0.0)
        with pytest.raises(InputError, match="'compiled' cannot train this pair: it cannot be compiled"):
            finished(training("compiled", epochs=4))


def batch_normal() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4))


@pytest.mark.usefixtures("auto_compiles")
def test_what_writes_to_its_tensors_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    history = finished(training("auto", batch_normal, epochs=4))
    assert (history.engine, history.engine_note.endswith("; not compiled: it writes to tensors")) == ("fast", True)
    check_same(finished(training("fast", batch_normal, epochs=4)), history, 0.0)


OPTIMIZERS = pytest.mark.parametrize("optimizer", ["Adam", "SGD"])
"""One whose step is compiled with that of the pair, and one whose is not."""


def compiling(monkeypatch: pytest.MonkeyPatch, compile_graph: Callable[[GraphModule], Callable[..., Any]]) -> None:
    for place in (inductor, whole):
        monkeypatch.setattr(place, "compile_graph", compile_graph)


@OPTIMIZERS
@pytest.mark.usefixtures("auto_compiles")
def test_what_is_compiled_wrongly_is_not_used(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(graph: GraphModule) -> Callable[..., Any]:
        def function(*inputs: Tensor) -> tuple[Tensor, ...]:
            sums, *gradients = graph(*inputs)
            return sums * 1.01, *gradients

        return function

    compiling(monkeypatch, wrong)
    history = finished(training("auto", epochs=4, optimizer=optimizer))
    assert (history.engine, "a replayed step has the sums" in history.engine_note) == ("fast", True)
    check_same(finished(training("fast", epochs=4, optimizer=optimizer)), history, 0.0)


@pytest.mark.usefixtures("compiler", "auto_compiles")
def test_a_wrong_step_of_adam_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(w: Tensor, m: Tensor, v: Tensor, g: Tensor, factors: Tensor, settings: dict[str, Any]) -> None:
        w.sub_(factors[0] * g)

    monkeypatch.setattr(whole, "move", wrong)
    history = finished(training("auto", epochs=4))
    assert (history.engine, "a compiled step of Adam ends in another tensor" in history.engine_note) == ("fast", True)
    check_same(finished(training("fast", epochs=4)), history, 0.0)


@pytest.mark.usefixtures("compiler", "auto_compiles")
@pytest.mark.parametrize("tensor", ["parameter", "moment"])
def test_a_step_of_adam_that_goes_wrong_later_is_noticed(tensor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes back to where it was seen to be right, and on by running the pair."""
    monkeypatch.setattr(fast, "CHECKED_EVERY", 1)
    run = training("auto", epochs=8)
    for _ in range(4):
        run.epoch()
    step = run.engine.whole
    right = step.function

    def wrong(*inputs: Tensor) -> Any:
        results = right(*inputs)
        step.states[0][0 if tensor == "parameter" else 2].mul_(1.001)
        return results

    step.function = wrong
    history = finished(run)
    assert (history.engine, "a compiled step of Adam ends in another tensor" in history.engine_note) == ("svi", True)
    check_same(finished(training("svi", epochs=8)), history, 1e-5)


class Late(nn.Module):
    """Uses some of its parameters only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.more, self.uses_more = MLP(6, 5, 4), nn.Linear(6, 4), False

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + (self.more(x) if self.uses_more else 0.0)


@pytest.mark.usefixtures("compiler")
def test_a_run_whose_pair_changes_after_it_was_compiled_resumes_as_it_would_have_gone_on() -> None:
    unbroken, resumed = (training("compiled", Late, epochs=8) for _ in range(2))
    for _ in range(3):
        unbroken.epoch()
    unbroken.guide.encoder.uses_more = resumed.guide.encoder.uses_more = True
    unbroken.epoch()
    assert unbroken.engine.whole is not None
    resumed.restore(unbroken.state())
    assert finished(resumed)["train_bound"] == finished(unbroken)["train_bound"]


class Aliased(nn.Module):
    """Reads its parameter's memory by another tensor, too."""

    def __init__(self) -> None:
        super().__init__()
        self.network = MLP(6, 5, 4)
        (weight, *_) = self.network.parameters()
        self.same = weight.detach()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + 0.1 * self.same.mean()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("reason", ["aliased", "SGD"])
def test_where_adam_cannot_be_compiled_the_rest_is(reason: str) -> None:
    settings: dict[str, Any] = {"epochs": 6} | ({"optimizer": "SGD"} if reason == "SGD" else {"encoder": Aliased})
    run = training("compiled", **settings)
    history = finished(run)
    assert (history.engine, run.engine.whole) == ("compiled", None)
    check_same(finished(training("svi", **settings)), history, 1e-5)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="oneDNN is not in this build of torch")
def test_inductor_is_left_as_it_was() -> None:
    from torch._inductor.lowering import fallbacks, lowerings

    product = torch.ops.mkldnn._linear_pointwise.default
    before, by_fallback = lowerings.get(product), set(fallbacks)
    with inductor._opaque_products():
        assert lowerings[product] is not before
    assert lowerings.get(product) is before
    assert set(fallbacks) == by_fallback


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_an_interrupt_that_a_compiler_swallows_is_not_lost(error: type[Exception] | None) -> None:
    def swallow() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if error:
                raise error from None

    with pytest.raises(KeyboardInterrupt), inductor._heard():
        swallow()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with inductor._heard():
        pass


class LeftOperands(TorchDispatchMode):
    """Sees whether the left operands of oneDNN's products lie as oneDNN wants them."""

    def __init__(self) -> None:
        super().__init__()
        self.are_contiguous: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.mkldnn._linear_pointwise.default:
            self.are_contiguous.append(args[0].is_contiguous())
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("compiler")
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="oneDNN is not in this build of torch")
def test_onednn_need_not_copy_what_it_multiplies() -> None:
    run = training("compiled", epochs=3)
    finished(run)
    with LeftOperands() as seen:
        run.engine.replayed((DATA[:25],), 0.1, run.loop.update)
    assert len(seen.are_contiguous) == 11  # four forward, four gradients of weights, three of what is below
    assert all(seen.are_contiguous)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("sigmoid_first", [True, False])
def test_a_density_and_its_gradient_share_an_exponential(sigmoid_first: bool, float64: None) -> None:
    """1 / (1 + exp(-l)) and 1 / (1 + exp(-|l|)) to the last places, wherever the logits are."""

    def both(logits: Tensor) -> tuple[Tensor, ...]:
        if sigmoid_first:
            return logits.sigmoid(), logits.abs().sigmoid(), (logits + 1).abs().sigmoid()
        of_absolute = logits.abs().sigmoid()
        return logits.sigmoid(), of_absolute, (logits + 1).abs().sigmoid()

    logits = torch.cat(
        [torch.linspace(-110, 110, 1001), torch.tensor([0.0, -0.0, 1e-300, float("inf"), float("-inf")])]
    )
    graph = make_fx(both)(logits).graph
    inductor._share_exponentials(graph)
    assert [node.target for node in graph.nodes].count(torch.ops.aten.exp.default) == 1
    assert [node.target for node in graph.nodes].count(torch.ops.aten.sigmoid.default) == 1  # nothing to share it with
    for shared, plain in zip(GraphModule(nn.Module(), graph)(logits), both(logits), strict=True):
        torch.testing.assert_close(shared, plain, rtol=1e-15, atol=0.0)


@OPTIMIZERS
@pytest.mark.parametrize("fails", ["while compiling", "when it is called"])
@pytest.mark.usefixtures("auto_compiles")
def test_whatever_fails_in_compiling_the_run_goes_on(
    fails: str, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(graph: GraphModule) -> Callable[..., Any]:
        def function(*inputs: Tensor) -> None:
            raise RuntimeError(fails)

        return function() if fails == "while compiling" else function

    compiling(monkeypatch, failing)
    history = finished(training("auto", epochs=4, optimizer=optimizer))
    assert (history.engine, history.engine_note.endswith(f"not compiled: RuntimeError: {fails}")) == ("fast", True)
    check_same(finished(training("fast", epochs=4, optimizer=optimizer)), history, 0.0)


@pytest.mark.usefixtures("auto_compiles")
def test_an_interrupted_epoch_is_begun_anew_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that has given up compiling in the epoch that is interrupted says so in the end."""

    def flat(module: nn.Module) -> Any:
        raise compiled.CannotCompile("there is none")

    monkeypatch.setattr(compiled, "flat", flat)
    run = training("auto", epochs=4)
    run.epoch()
    step, steps = run.loop.step, iter(range(5))

    def interrupted(number: int, batch: Any) -> Tensor:
        if next(steps) == 4:
            raise KeyboardInterrupt
        return step(number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(run.loop, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.epoch()
    history = finished(run)
    assert (history.engine, history.engine_note.endswith("; not compiled: there is none")) == ("fast", True)
    check_same(finished(training("fast", epochs=4)), history, 0.0)


@pytest.mark.usefixtures("auto_compiles")
def test_a_run_of_before_there_was_a_compiler_goes_on_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    old, run = training("fast", epochs=4), training("auto", epochs=4)
    old.epoch()
    run.restore(old.state())
    history = finished(run)
    assert history.engine == "fast"
    check_same(finished(old), history, 0.0)


@pytest.mark.parametrize(("steps", "name"), [(499, "svi"), (500, "fast"), (99_999, "fast"), (100_000, "compiled")])
def test_long_runs_are_compiled(steps: int, name: str) -> None:
    step = training("svi").engine.step
    engine = make_engine("auto", step, steps=steps, batch_size=25, seed=0)
    assert (engine.name, isinstance(engine, Compiled)) == (name, name == "compiled")
    assert make_engine("fast", step, steps=steps, batch_size=25, seed=0).name == "fast"


def test_fit_takes_it_by_name() -> None:
    with pytest.raises(InputError, match="auto, svi, fast, compiled"):
        fit(VAE(StandardNormal(2), MLP(2, 6), Bernoulli()), AmortizedNormal(MLP(6, 4)), DATA, engine="jit")
