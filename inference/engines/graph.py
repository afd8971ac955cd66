"""From a function that runs a pair to the graph that is replayed."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.fx import GraphModule

from .fuse import fuse
from .products import use_onednn
from .shorten import shorten
from .trace import CannotReplay, in_a_line, trace


def graph_of(function: Callable[..., Any], *inputs: Tensor, products: str) -> tuple[GraphModule, str]:
    """A function's graph for inputs of these shapes, with what it does twice or slowly done once and fast.

    Args:
        function: runs a pair; see :func:`trace`.
        products: the library of large matrix products, ``torch`` or ``onednn``.

    Returns:
        The graph, and the library that it got.

    Raises:
        CannotReplay: there is no graph that would do the same.
    """
    graph = trace(function, *inputs)
    try:
        shorten(graph)
        fuse(graph)
        swapped = products == "onednn" and use_onednn(graph)
    except Exception as error:  # whatever a graph of somebody's operations may hold, the pair itself can be run
        raise CannotReplay(f"the graph cannot be made: {in_a_line(error)}") from error
    return graph, "onednn" if swapped else "torch"
