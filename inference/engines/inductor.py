"""From a graph to a function whose small operations TorchInductor has compiled."""

import copy
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node

from .emit import emit
from .products import linear
from .shorten import arguments, erase_unused, is_random, value, writes
from .step import Outcome

aten = torch.ops.aten

OPTIONS = {
    "cpp_wrapper": True,  # kernels and products are called from C++
    "compile_threads": 1,  # no pool of processes for a file or two
    "max_autotune": False,  # nothing is chosen by timing, so that a run repeats its bits
    "max_autotune_gemm": False,
    "pattern_matcher": False,  # which may make of oneDNN's product one that cannot be called
}


class CannotCompile(Exception):
    """Why a graph is replayed as it is."""


@dataclass(frozen=True)
class Flat:
    """A step as a function of tensors alone, without draws: of (beta, *batch, *draws, *held), to (sums, *gradients).

    Attributes:
        graph: the function.
        draw: makes the draws, in their order.
        held: parameters, buffers and constants.
        given: for each parameter, whether it has a gradient.
    """

    graph: GraphModule
    draw: Callable[[], Sequence[Tensor]]
    held: list[Tensor]
    given: list[bool]

    def outcome(self, sums: Tensor, *gradients: Tensor) -> Outcome:
        """What the function returns, by parameter."""
        left = iter(gradients)
        return Outcome(sums, tuple(next(left) if is_given else None for is_given in self.given))


def flat(module: GraphModule) -> Flat:
    """A step's graph made ready for Inductor. Its products stay with the library that was chosen for them.

    Raises:
        CannotCompile: the step is on a GPU, writes to tensors, or draws what depends on its batch.
    """
    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    if any(value(node).device.type != "cpu" for node in inputs):
        raise CannotCompile("it is not on a CPU")
    if writes(module):
        raise CannotCompile("it writes to tensors")
    graph = copy.deepcopy(module.graph)
    draw = emit(GraphModule(module, _without_draws(graph)))
    held = _without_attributes(graph, module)
    given = _without_outcome(graph)
    _without_products(graph)
    _share_exponentials(graph)
    return Flat(GraphModule(nn.Module(), graph), draw, held, given)


def by_inductor(step: Flat) -> Callable[..., Outcome]:
    """The function of (beta, *batch) that a step is, with what lies between its matrix products compiled.

    Raises:
        Exception: whatever Inductor raises, where there is no C++ compiler for instance.
    """
    function = compile_graph(step.graph)
    return lambda *inputs: step.outcome(*function(*inputs, *step.draw(), *step.held))


def _without_draws(graph: Graph) -> Graph:
    """Make inputs of a graph's random numbers; the graph that draws them."""
    draws = [node for node in graph.nodes if is_random(node)]
    needed, left = set(draws), list(draws)
    while left:
        left += (more := set(left.pop().all_input_nodes) - needed)
        needed |= more
    if any(node.op == "placeholder" for node in needed):
        raise CannotCompile("it draws what depends on its batch")
    drawing, copies = Graph(), dict[Node, Node]()
    for node in graph.nodes:
        if node in needed:
            copies[node] = drawing.node_copy(node, copies.__getitem__)
    drawing.output(tuple(copies[node] for node in draws))
    for node in draws:
        node.replace_all_uses_with(_input(graph, node))
        graph.erase_node(node)
    return drawing


def _without_attributes(graph: Graph, module: GraphModule) -> list[Tensor]:
    """Make inputs of a graph's parameters, buffers and constants; what they are."""
    held: dict[int, tuple[Tensor, Node]] = {}
    for node in graph.nodes:
        if node.op == "get_attr" and node.users:
            tensor = getattr(module, str(node.target))
            if id(tensor) not in held:
                held[id(tensor)] = tensor, _input(graph, node)
            node.replace_all_uses_with(held[id(tensor)][1])
    erase_unused(graph)
    return [tensor for tensor, _ in held.values()]


def _input(graph: Graph, node: Node) -> Node:
    """One more input, after those that a graph has, in the place of a node."""
    last = [other for other in graph.nodes if other.op == "placeholder"][-1]
    with graph.inserting_after(last):
        new = graph.placeholder(f"{node.name}_")
    new.meta["val"] = value(node)
    return new


def _without_outcome(graph: Graph) -> list[bool]:
    """Make the output of a step a tuple of tensors: its sums, and the gradients that it has; which it has."""
    output = next(iter(reversed(graph.nodes)))
    (outcome,) = output.all_input_nodes
    sums, gradients = arguments(outcome)
    output.args = ((sums, *(gradient for gradient in gradients if gradient is not None)),)
    graph.erase_node(outcome)
    return [gradient is not None for gradient in gradients]


def _without_products(graph: Graph) -> None:
    """Name oneDNN's operation where a graph has ours."""
    for node in graph.nodes:
        if node.target is linear:
            x, weight, bias, activation = arguments(node)
            node.target = _onednn()
            node.args = (x, weight, bias, activation, [], "")


def _share_exponentials(graph: Graph) -> None:
    """Let sigmoid(|l|) and sigmoid(l), of which a Bernoulli's density and its gradient are made, share an exponential.

    With e = exp(-|l|) the one is 1 / (1 + e), and so is the other, or e / (1 + e) where l is negative. What two kernels
    use of an exponential, Inductor computes once.
    """
    call = graph.call_function
    for absolute in [node for node in graph.nodes if node.target is aten.abs.default]:
        (logits,) = absolute.all_input_nodes
        sigmoids = [n for n in graph.nodes if n.target is aten.sigmoid.default and n.args[0] in (absolute, logits)]
        if len({node.args[0] for node in sigmoids}) < 2:
            continue
        with graph.inserting_before(sigmoids[0]):
            e = call(aten.exp.default, (call(aten.neg.default, (call(aten.abs.default, (logits,)),)),))
            larger = call(aten.reciprocal.default, (call(aten.add.Scalar, (e, 1)),))
            smaller, negative = call(aten.mul.Tensor, (e, larger)), call(aten.lt.Scalar, (logits, 0))
            either = call(aten.where.self, (negative, smaller, larger))
        for node in sigmoids:
            node.replace_all_uses_with(larger if node.args[0] is absolute else either)
            graph.erase_node(node)


def example_inputs(module: GraphModule) -> list[Tensor]:
    """Tensors, of any values, such as a graph takes."""
    inputs = [value(node) for node in module.graph.nodes if node.op == "placeholder"]
    return [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype) for x in inputs]


def compile_graph(module: GraphModule) -> Callable[..., Any]:
    """A graph of torch's operations on a CPU, compiled."""
    from torch._subclasses import FakeTensorMode

    inputs = [node for node in module.graph.nodes if node.op == "placeholder"]
    example: list[Any] = example_inputs(module)
    fakes = FakeTensorMode()
    for node, tensor in zip(inputs, example, strict=True):
        node.meta["val"] = fakes.from_tensor(tensor)  # the C++ wrapper wants them of one mode
    with torch.no_grad(), _quiet(), _heard():
        from torch import _inductor  # takes a second

        with _opaque_products() if torch.backends.mkldnn.is_available() else nullcontext():
            return _inductor.compile(module, example, options=OPTIONS)


@contextmanager
def _opaque_products() -> Iterator[None]:
    """Let Inductor call oneDNN's product as it is: its own rule wants weights that are constant.

    A left operand that is transposed, of which oneDNN would make a copy, Inductor's kernels write as oneDNN wants it.
    """
    from torch._inductor import ir, lowering

    rules, product = lowering.lowerings, _onednn()
    rule = rules.get(product)
    call = lowering.fallback_handler(product, add_to_fallback_set=False)
    rules[product] = lambda x, *others: call(ir.ExternKernel.require_contiguous(x), *others)
    try:
        yield
    finally:
        if rule is None:
            del rules[product]
        else:
            rules[product] = rule


def _onednn() -> Any:
    return torch.ops.mkldnn._linear_pointwise.default  # which not every build of torch has


@contextmanager
def _quiet() -> Iterator[None]:
    """Importing Inductor warns where CUDA is installed and no GPU is; compiling, of how it calls an operation."""
    loggers = [logging.getLogger(name) for name in ("torch.utils.cpp_extension", "torch._inductor.ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _heard() -> Iterator[None]:
    """Lose no Ctrl-C: what imports and compiles for seconds may swallow a KeyboardInterrupt, or make an error of it."""
    default = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not default:
        yield
        return
    interrupts: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        interrupts.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, default)
        if interrupts:
            raise KeyboardInterrupt
