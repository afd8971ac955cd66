"""Which library multiplies matrices, chosen by measuring."""

import time
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from ..randomness import forked_rng
from .shorten import arguments, erase_unused, is_random, value

aten = torch.ops.aten

LIBRARIES = ("torch", "onednn")
CLEARLY = 1.4
"""oneDNN is taken where it is so many times as fast: what is about equal is left alone, however noisy the machine."""
FEWEST = 2_500_000
"""Smaller products, in multiplications, are no faster there: 100 x 50 by 50 x 500 is one ..."""
FEWEST_ACTIVATED = 500_000
"""... but an activation in the same pass is."""

_RESHAPES = (aten.view.default, aten._unsafe_view.default)
_ACTIVATIONS: dict[Any, str] = {aten.tanh.default: "tanh", aten.sigmoid.default: "sigmoid", aten.relu.default: "relu"}


def fastest_library() -> str:
    """The library that multiplies float32 matrices in the least time here: ``torch`` (which asks MKL) or ``onednn``.

    MKL leaves half of the speed of an AMD processor unused. Measured once in a process for a number of threads.
    """
    return _fastest_library(torch.get_num_threads())


@lru_cache
def _fastest_library(threads: int) -> str:
    if not torch.backends.mkldnn.is_available():
        return "torch"
    with forked_rng(0), torch.no_grad():
        x, weight = (torch.randn(units, 784, dtype=torch.float32) for units in (100, 500))
    seconds = {"torch": float("inf"), "onednn": float("inf")}
    for _ in range(10):
        for library, product in (("torch", torch.nn.functional.linear), ("onednn", linear)):
            started = time.perf_counter()
            product(x, weight)
            seconds[library] = min(seconds[library], time.perf_counter() - started)
    return "onednn" if seconds["torch"] > CLEARLY * seconds["onednn"] else "torch"


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """activation(x W^T + b) by oneDNN, which takes a transposed W as it is."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")


def use_onednn(module: GraphModule) -> bool:
    """Give a graph's large float32 matrix products on a CPU to oneDNN, in place, each with its activation.

    Returns whether it was given any.

    A graph that draws discrete values is left alone: where the last bits of a product flip one, the step is no longer
    the one that the pair would have made.
    """
    if any(map(_is_decision, module.graph.nodes)):
        return False
    for node in list(module.graph.nodes):
        if _is_product(node):
            _swap_if_large(module, node)
    erase_unused(module.graph)
    module.recompile()
    return any(node.target is linear for node in module.graph.nodes)


def _is_decision(node: Node) -> bool:
    """Whether a result depends on computed numbers other than smoothly: a draw of a pixel, an argmax."""
    name = str(node.target).removeprefix("aten.")
    if not is_random(node):
        return name.startswith(("argmax", "argmin", "max.dim", "min.dim", "topk", "sort", "round"))
    smooth = name.startswith(("normal", "rand", "uniform", "exponential"))
    return not smooth and any("empty" not in str(n.target) for n in node.all_input_nodes)


def _is_product(node: Node) -> bool:
    if node.target not in (aten.mm.default, aten.addmm.default) or node.kwargs:
        return False
    *bias, left, right = (value(argument) for argument in arguments(node))
    fits = all(x.dtype is torch.float32 and x.device.type == "cpu" for x in (*bias, left, right))
    return fits and all(b.ndim == 1 for b in bias)


def _swap_if_large(module: GraphModule, node: Node) -> None:
    *bias, left, right = arguments(node)
    *views, result = _followers(node)
    activation = _ACTIVATIONS.get(result.target, "none")
    if value(left).numel() * value(right).shape[1] < (FEWEST if activation == "none" else FEWEST_ACTIVATED):
        return
    with module.graph.inserting_before(node):
        if right.target is aten.t.default:
            weight = arguments(right)[0]
        else:
            weight = module.graph.call_function(aten.t.default, (right,))
            weight.meta["val"] = value(right).t()
        product = module.graph.call_function(linear, (left, weight, bias[0] if bias else None, activation))
    product.meta["val"] = value(node)
    node.replace_all_uses_with(product)
    if activation != "none":
        result.replace_all_uses_with(views[-1] if views else product)


def _followers(node: Node) -> list[Node]:
    """The views through which a result alone is used, and what then uses it; or nothing that matters."""
    followers = [node]
    while len(followers[-1].users) == 1 and (followers[-1] is node or followers[-1].target in _RESHAPES):
        followers += followers[-1].users
    return followers[1:] or [node]
