"""A step that is compiled with Adam's after it moves what the two would, one after the other."""

import copy

import pytest
import torch
from torch import Tensor

from aevb.inference.engines import whole
from aevb.inference.engines.adam import FusedAdam, check_moved, factors, move
from aevb.inference.engines.inductor import flat
from aevb.inference.engines.shorten import shorten
from aevb.inference.engines.step import Outcome
from aevb.inference.engines.trace import CannotReplay, trace
from aevb.inference.engines.update import Update
from aevb.inference.engines.whole import Whole

pytestmark = pytest.mark.usefixtures("float64")
X = torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3)
BETA = torch.tensor(0.5, dtype=torch.float64)


class Regression:
    """A noisy one, whose last parameter has no gradient and whose first lies in memory the other way round."""

    def __init__(self, maximize: bool = False) -> None:
        torch.manual_seed(0)
        first = torch.randn(3, 2).t().requires_grad_()
        self.parameters = (
            first,
            torch.randn(2, requires_grad=True),
            torch.zeros((), requires_grad=True),
            torch.ones(3),
        )
        self.parameters[3].requires_grad_()
        groups = [{"params": self.parameters[:2], "weight_decay": 0.1}, {"params": self.parameters[2:]}]
        self.optimizer = torch.optim.Adam(groups, lr=0.1, fused=True, maximize=maximize)
        self.update = Update(self.optimizer, self.parameters)

    def step(self, beta: Tensor, x: Tensor) -> Outcome:
        weight, bias, log_scale, _ = self.parameters
        error = x @ weight.t() + bias + log_scale.exp() * torch.randn(4, 2)
        loss = error.square().sum() + beta * log_scale.square()
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        return Outcome(loss.detach().expand(5), gradients)

    def whole(self) -> Whole:
        graph = trace(self.step, BETA, X)
        shorten(graph)
        step = flat(graph)
        return Whole(step, self.update.adams_of(step.given, 0.1))

    def states(self) -> list[Tensor]:
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*self.parameters, *states]


@pytest.fixture(params=["eager", "compiled"])
def compile_graph(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph itself is a function as well, if a slow one."""
    if request.param == "eager":
        monkeypatch.setattr(whole, "compile_graph", lambda graph: graph)
    else:
        request.getfixturevalue("compiler")


@pytest.mark.usefixtures("compile_graph")
@pytest.mark.parametrize("maximize", [False, True])
def test_it_moves_what_a_step_and_then_adam_do(maximize: bool) -> None:
    """To 1e-12 over twelve steps, in the midst of which Adam moves some parameters alone, and is restored."""
    expected, moved = Regression(maximize), Regression(maximize)
    for each in (expected, moved):
        torch.manual_seed(1)
        each.update(each.step(BETA, X).gradients, 0.1)
    step = moved.whole()
    for number in range(12):
        rate = 0.1 / (1 + number)
        noise = torch.get_rng_state()
        outcome = expected.step(BETA + number, X)
        expected.update(outcome.gradients, rate)
        torch.set_rng_state(noise)
        adams = moved.update.adams_of(step.step.given, rate)
        sums, gradients = step(BETA + number, (X,), rate, adams)
        torch.testing.assert_close(sums, outcome.sums, rtol=1e-12, atol=0.0)
        torch.testing.assert_close(gradients[:3], outcome.gradients[:3], rtol=1e-12, atol=1e-12)
        assert gradients[3] is None
        assert step.step.given == [True, True, True, False]
        torch.testing.assert_close(moved.states(), expected.states(), rtol=1e-12, atol=1e-12)
        if number == 4:  # from now on, counts are not all the same
            for each in (expected, moved):
                each.update([torch.ones(2, 3), None, None, None], rate)
        if number == 8:
            moved.optimizer.load_state_dict(copy.deepcopy(moved.optimizer.state_dict()))
            moved.update.forget()
    assert moved.parameters[0].stride() == (1, 2)


@pytest.mark.usefixtures("compile_graph")
def test_a_gradient_is_used_before_what_it_is_made_of_moves() -> None:
    """Those of beta v w are beta w and beta v."""

    def begun() -> tuple[list[Tensor], Update]:
        parameters = [torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor([5.0, -1.0], requires_grad=True)]
        update = Update(torch.optim.Adam(parameters, lr=0.1, fused=True), parameters)
        update([parameter.detach().clone() for parameter in reversed(parameters)], 0.1)
        return parameters, update

    (expected, reference), (moved, update) = begun(), begun()

    def step(beta: Tensor, x: Tensor) -> Outcome:
        loss = (moved[0] * moved[1] * beta).sum()
        return Outcome(loss.detach().expand(5), torch.autograd.grad(loss, moved))

    one = torch.tensor(1.0)
    adams = update.adams_of([True, True], 0.1)
    function = Whole(flat(trace(step, one, X)), adams)
    for _ in range(5):
        reference([expected[1].detach().clone(), expected[0].detach().clone()], 0.1)
        function(one, (X,), 0.1, adams)
        torch.testing.assert_close(moved, expected, rtol=1e-12, atol=0.0)


def test_other_settings_than_the_compiled_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "compile_graph", lambda graph: graph)
    regression = Regression()
    regression.update(regression.step(BETA, X).gradients, 0.1)
    step = regression.whole()
    others = [
        FusedAdam(a.places, a.parameters, a.first_moments, a.second_moments, a.count, a.settings | {"beta1": 0.5})
        for a in step.adams
    ]
    with pytest.raises(CannotReplay, match="the optimizer's settings have changed"):
        step(BETA, (X,), 0.1, others)


@pytest.mark.parametrize("size", [1.0, 1e-8, 1e-21])
def test_a_right_step_of_a_number_that_nearly_vanishes_passes_the_check(size: float) -> None:
    """Where a mean is what is left of a difference, its last places are those of what it is the difference of."""
    torch.manual_seed(0)
    settings = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8, "maximize": False}
    tensors = [[torch.tensor([start], dtype=torch.float32)] for start in (1.0, 0.0, 0.0)]
    adam = FusedAdam([0], *tensors, torch.tensor(0.0, dtype=torch.float32), settings)
    for _ in range(4000):
        gradient, before = torch.randn(1, dtype=torch.float32) * size, [adam.copy()]
        adam.count.add_(1)
        numbers = torch.tensor(factors(adam, 1e-3))
        move(adam.parameters[0], adam.first_moments[0], adam.second_moments[0], gradient, numbers, settings)
        check_moved([adam], before, [gradient], 1e-3)
