"""From a step to a flat graph of tensor operations, with no Pyro left in it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..randomness import forked_rng, random_state, set_random_state, taped


class CannotReplay(Exception):
    """Why a step cannot be traced, or is not what its graph replays."""


class WrongReplay(CannotReplay):
    """A graph that was seen to be right is no longer."""


def trace(function: Callable[..., Any], *inputs: Tensor) -> GraphModule:
    """The graph of a step, or of anything else that runs a pair, of ``inputs`` of these shapes.

    Parameters and buffers are read anew at every replay. Every other value that Python computes on the way is in the
    graph for good. So it is traced twice, on the same noise: what differs is not to be replayed.

    Raises:
        CannotReplay: it reads a tensor's value, or is not the same twice.
    """
    noise = random_state()
    first = _trace(function, inputs)
    with forked_rng():
        set_random_state(noise)
        second = _trace(function, inputs)
    if (place := _difference(first, second)) is not None:
        raise CannotReplay(f"two runs of the pair on the same batch and noise differ at {place}")
    return first


def in_a_line(error: Exception) -> str:
    """What an error says first, after its type."""
    message = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {message}"


def _trace(function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> GraphModule:
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

    def guarded(*inputs: Tensor) -> Any:
        with _NoReading(), _NoConversion(), taped():
            return function(*inputs)

    with forked_rng():
        try:
            return make_fx(guarded)(*inputs)
        except CannotReplay:
            raise
        except Exception as error:  # whatever it was that the program did with a proxy; as it is, it trains on svi
            raise CannotReplay(f"tracing raised {in_a_line(error)}") from error


class _NoReading(TorchDispatchMode):
    """Refuses operations whose value or shape Python would act upon."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags:
            raise CannotReplay(f"the pair acts on the value of a tensor ({func})")
        return func(*args, **(kwargs or {}))


class _NoConversion(TorchFunctionMode):
    """Refuses to make NumPy arrays or lists of tensors."""

    refused = (Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.tolist)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.refused:
            raise CannotReplay(f"the pair acts on the value of a tensor (Tensor.{func.__name__})")
        return func(*args, **(kwargs or {}))


def _difference(first: GraphModule, second: GraphModule) -> str | None:
    """Where two graphs differ, in an operation or in a constant."""
    nodes, others = list(first.graph.nodes), list(second.graph.nodes)
    for node, other in zip(nodes, others, strict=False):
        if (node.op, str(node.target), str(node.args), str(node.kwargs)) != (
            other.op,
            str(other.target),
            str(other.args),
            str(other.kwargs),
        ):
            return f"{node.format_node()} and {other.format_node()}"
        if node.op == "get_attr":
            one, two = getattr(first, node.target), getattr(second, node.target)
            if one is not two and not _same(one, two):
                return f"a constant of shape {tuple(one.shape)}"
    return None if len(nodes) == len(others) else f"their length, {len(nodes)} and {len(others)} operations"


def _same(one: Tensor, two: Tensor) -> bool:
    """Whether two constants, each made while tracing, are equal."""
    return one.shape == two.shape and one.dtype == two.dtype and torch.equal(one, two)
