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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_given_gradients_move_parameters_as_torchs_optimizer_does(name: str) -> None:
    expected, moved = parameters(), parameters()
    reference, optimizer = optimizer_of(name, expected), optimizer_of(name, moved)
    update = Update(optimizer, moved)
    for step in range(12):
        rate = 0.1 / (1 + step)
        for parameter, gradient in zip(expected, gradients(step), strict=True):
            parameter.grad = None if gradient is None else gradient.contiguous()
        for group in reference.param_groups:
            group["lr"] = rate
        reference.step()
        if step == 7:  # a resumed run
            optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
            update.forget()
        update(gradients(step), rate)
        assert all(map(torch.equal, moved, expected)), step
    states = zip(reference.state.values(), optimizer.state.values(), strict=True)
    assert all(torch.equal(one[key], two[key]) for one, two in states for key in one if isinstance(one[key], Tensor))
    assert bool(update.adams) == (name == "Adam")


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
