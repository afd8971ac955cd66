"""A step of the optimizer is that of torch's: to the last bit, or compiled."""

import copy
import shutil

import pytest
import torch
from torch import Tensor

from aevb.inference.engines import adam
from aevb.inference.engines.adam import CompiledAdam
from aevb.inference.engines.update import Update
from aevb.inference.optimizers import OPTIMIZERS

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "clang++", "c++"))), reason="there is no C++ compiler"
)
SHAPES = ((40, 30), (40,), (3,), (2, 5, 7))


def parameters() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in SHAPES]


def optimizer_of(name: str, moved: list[Tensor]) -> torch.optim.Optimizer:
    return OPTIMIZERS[name]([{"params": moved[:1], "weight_decay": 0.1}, {"params": moved[1:]}], lr=0.1)


def gradients(step: int) -> list[Tensor | None]:
    """One of them lies in memory as its parameter does not; another comes and goes."""
    generator = torch.Generator().manual_seed(step)
    first, *others = (torch.randn(shape, generator=generator) for shape in SHAPES)
    return [first.t().contiguous().t(), *others[:2], others[2] if step % 3 else None]


def moved_by_torch(optimizer: torch.optim.Optimizer, moved: list[Tensor], step: int, rate: float) -> None:
    for parameter, gradient in zip(moved, gradients(step), strict=True):
        parameter.grad = None if gradient is None else gradient.contiguous()
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_given_gradients_move_parameters_as_torchs_optimizer_does(name: str) -> None:
    expected, moved = parameters(), parameters()
    reference, optimizer = optimizer_of(name, expected), optimizer_of(name, moved)
    update = Update(optimizer, moved)
    for step in range(12):
        rate = 0.1 / (1 + step)
        moved_by_torch(reference, expected, step, rate)
        if step == 7:  # a resumed run
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            update.forget()
        update(gradients(step), rate)
        assert all(map(torch.equal, moved, expected)), step
    states = zip(reference.state.values(), optimizer.state.values(), strict=True)
    assert all(torch.equal(one[key], two[key]) for one, two in states for key in one if isinstance(one[key], Tensor))
    assert bool(update.adams) == (name == "Adam")


@needs_compiler
@pytest.mark.parametrize("maximize", [False, True])
def test_a_compiled_adam_is_torchs(maximize: bool, float64: None) -> None:
    """Over twelve steps, of two groups with and without weight decay, to 1e-12."""
    expected, moved = parameters(), parameters()
    reference, optimizer = optimizer_of("Adam", expected), optimizer_of("Adam", moved)
    for group in (*reference.param_groups, *optimizer.param_groups):
        group["maximize"] = maximize
    update = Update(optimizer, moved)
    for step in range(12):
        moved_by_torch(reference, expected, step, 0.1 / (1 + step))
        update(gradients(step), 0.1 / (1 + step), CompiledAdam)
        torch.testing.assert_close(moved, expected, rtol=1e-12, atol=1e-12)
        assert all(isinstance(adam, CompiledAdam) for adam in update.adams)
    assert update.adams
    states = zip(reference.state.values(), optimizer.state.values(), strict=True)
    assert all(torch.allclose(one[key], two[key], rtol=1e-12, atol=0.0) for one, two in states for key in one)


@needs_compiler
def test_another_step_than_torchs_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adam, "_adam", lambda factors, *tensors, **settings: tensors[0].sub_(factors[0] * tensors[3]))
    moved = parameters()
    update = Update(optimizer_of("Adam", moved), moved)
    update(gradients(1), 0.1, CompiledAdam)
    before = [parameter.detach().clone() for parameter in moved]
    with pytest.raises(ArithmeticError, match="it ends in other parameters than torch's"):
        update(gradients(2), 0.1, CompiledAdam)
    assert all(map(torch.equal, moved, before))


def test_a_gradient_that_comes_late_and_goes_again() -> None:
    expected, moved = parameters()[:2], parameters()[:2]
    reference, optimizer = torch.optim.Adam(expected, lr=0.1), torch.optim.Adam(moved, lr=0.1, fused=True)
    update = Update(optimizer, moved)
    for step, is_there in enumerate([False, False, True, False, False, True, True]):
        given = [gradients(step)[0], gradients(step)[1] if is_there else None]
        for parameter, gradient in zip(expected, given, strict=True):
            parameter.grad = gradient
        reference.step()
        update(given, 0.1)
        torch.testing.assert_close(moved, expected, rtol=1e-5, atol=1e-7)
    counts = [[state["step"].item() for state in o.state.values()] for o in (reference, optimizer)]
    assert counts == [[7.0, 3.0], [7.0, 3.0]]


def test_a_gradient_may_be_another_parameter() -> None:
    """Those of v w are w and v: each is moved by what the other was before."""
    expected, moved = ([torch.tensor([[3.0, 4.0]], requires_grad=True) for _ in range(3)] for _ in range(2))
    reference, optimizer = torch.optim.Adam(expected, lr=0.1), torch.optim.Adam(moved, lr=0.1, fused=True)
    update = Update(optimizer, moved)
    for _ in range(5):
        for parameter, gradient in zip(expected, (expected[1], expected[2], expected[0]), strict=True):
            parameter.grad = gradient.detach().clone()
        reference.step()
        with torch.no_grad():
            update((moved[1], moved[2].detach().view(1, 2), moved[0].t().t()), 0.1)
        torch.testing.assert_close(moved, expected, rtol=1e-6, atol=0.0)


def test_where_steps_are_recorded_their_count_stays_where_it_is() -> None:
    """What a launch has recorded moves the same tensors for ever; this Adam stands for one on a GPU."""
    moved = parameters()
    optimizer = torch.optim.Adam(moved, lr=0.1, fused=False)
    update = Update(optimizer, moved)
    update(gradients(1), 0.1)
    counts = [state["step"] for state in optimizer.state.values()]
    update(gradients(2), 0.1)
    assert all(one is state["step"] for one, state in zip(counts, optimizer.state.values(), strict=True))
    assert {count.item() for count in counts} == {2.0}
