"""A step of the optimizer is that of torch's, to the last bit."""

import copy

import pytest
import torch
from torch import Tensor

from aevb.inference.engines.update import Update
from aevb.inference.optimizers import OPTIMIZERS

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


def test_what_lies_in_the_memory_of_a_parameter() -> None:
    moved = parameters()
    update = Update(optimizer_of("Adam", moved), moved)
    elsewhere = [moved[0].detach().clone(), torch.ones(3)]
    assert update.are_alone([*moved, *elsewhere], gradients(1))
    assert not update.are_alone([*moved, moved[1].detach()], gradients(1))
    assert not update.are_alone(moved, [moved[1].view(40, 1), None])
    halves = [half.requires_grad_() for half in torch.randn(6).split(3)]
    assert not Update(optimizer_of("Adam", halves), halves).are_alone(halves, [])
