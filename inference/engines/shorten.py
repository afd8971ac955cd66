"""Taking out of a traced step what does not depend on the step."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten

SHAPE_ONLY = (aten.zeros_like.default, aten.ones_like.default, aten.full_like.default, aten.new_zeros.default)
VIEWS = (
    *(aten.alias.default, aten.detach.default, aten.t.default, aten.transpose.int, aten.permute.default),
    *(aten.view.default, aten._unsafe_view.default, aten.expand.default, aten.unsqueeze.default),
    *(aten.squeeze.default, aten.squeeze.dim, aten.squeeze.dims),
)
"""Operations whose result shares storage, and its offset, with their input."""
ELEMENTWISE = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor)
REDUCTIONS = (aten.sum.dim_IntList, aten.mean.dim)


def shorten(module: GraphModule) -> GraphModule:
    """Take out of a graph, in place, what is not needed and what is the same at every replay.

    Unused results go; constants are computed once; a product with 1, a sum with 0, a view of the same shape or a mean
    over one element is its input. What is left computes the same bits. Random operations stay, used or not: the
    stream that they advance is part of the result.
    """
    erase_unused(module.graph)
    if not writes(module):
        _fold_constants(module)
        while any(_simplify(module, node) for node in module.graph.nodes if node.op == "call_function"):
            erase_unused(module.graph)
    module.recompile()
    return module


def erase_unused(graph: Graph) -> None:
    """Erase operations whose results nobody uses."""
    for node in reversed(graph.nodes):
        if node.op in ("call_function", "get_attr") and not (node.users or is_random(node) or _is_mutable(node)):
            graph.erase_node(node)


def arguments(node: Node) -> list[Any]:
    """The positional arguments of an operation: nodes, numbers and lists of them."""
    return list(node.args)


def value(node: Node) -> Tensor:
    """Shape, strides and dtype of a node's result, as a tensor without data."""
    return node.meta["val"]


def is_random(node: Node) -> bool:
    """Whether an operation draws from a random stream."""
    return _has_tag(node, torch.Tag.nondeterministic_seeded)


def writes(module: GraphModule) -> bool:
    """Whether the step writes into anything but memory that it has just asked for, and that nobody has read yet."""
    read: set[Any] = set()
    for node in module.graph.nodes:
        if _is_mutable(node) and (not _is_fresh(arguments(node)[0]) or arguments(node)[0] in read):
            return True
        read.update(() if _is_mutable(node) else node.all_input_nodes)
    return False


def _has_tag(node: Node, tag: torch.Tag) -> bool:
    return tag in getattr(node.target, "tags", ())


def _is_mutable(node: Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_fresh(node: Any) -> bool:
    return isinstance(node, Node) and any(name in str(node.target) for name in ("empty", "zeros", "ones", "full"))


def _is_written(node: Node) -> bool:
    return any(_is_mutable(user) and arguments(user)[0] is node for user in node.users)


def _fold_constants(module: GraphModule) -> None:
    """Compute once what depends on no input, parameter, buffer or noise."""
    known: dict[Node, Any] = {}
    for node in module.graph.nodes:
        if node.op == "call_function" and _is_constant(node, known):
            known[node] = _compute(module, node, known)
    for number, (node, constant) in enumerate(known.items()):
        if isinstance(constant, Tensor) and any(user not in known for user in node.users):
            name = f"_constant{number}"
            module.register_buffer(name, constant, persistent=False)
            with module.graph.inserting_before(node):
                folded = module.graph.get_attr(name)
            folded.meta["val"] = value(node)
            node.replace_all_uses_with(folded, delete_user_cb=lambda user: user not in known)
    erase_unused(module.graph)


def _is_constant(node: Node, known: dict[Node, Any]) -> bool:
    if is_random(node) or _is_mutable(node) or _is_written(node) or "empty" in str(node.target):
        return False
    if node.target in SHAPE_ONLY or _is_lifted(node):
        return True
    return all(argument in known for argument in node.all_input_nodes)


def _is_lifted(node: Node) -> bool:
    """Whether it is a number that Python made a tensor of while tracing."""
    return node.target is aten.lift_fresh_copy.default and arguments(node)[0].op == "get_attr"


def _compute(module: GraphModule, node: Node, known: dict[Node, Any]) -> Any:
    def load(argument: Node) -> Any:
        if argument in known:
            return known[argument]
        if argument.op == "get_attr":
            return getattr(module, str(argument.target))
        shape = value(argument)  # is all that is used
        return torch.empty_strided(shape.shape, shape.stride(), dtype=shape.dtype, device=shape.device)

    args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), load)
    with torch.no_grad():
        target: Any = node.target
        return target(*args, **kwargs)


def _simplify(module: GraphModule, node: Node) -> bool:
    """Replace one operation by less; whether it was."""
    for rule in (_drop_view, _squeeze, _scalar, _neutral, _sum_of_negated):
        replacement = rule(module, node)
        if replacement is not None and replacement is not node:
            node.replace_all_uses_with(replacement)
            module.graph.erase_node(node)
            return True
    return False


def _drop_view(module: GraphModule, node: Node) -> Node | None:
    """A view that looks as what it is a view of, at any distance, is that."""
    ancestor, found = node, None
    while ancestor.target in VIEWS:
        ancestor = arguments(ancestor)[0]
        if _alike(value(ancestor), value(node)):
            found = ancestor
    return found


def _squeeze(module: GraphModule, node: Node) -> Node | None:
    """A sum or mean over dimensions of one element each, or a stack of one tensor, is a view."""
    if node.target in REDUCTIONS and not node.kwargs:
        source, dims, *keep = arguments(node)
        before = value(source)
        plain = before.is_contiguous() and before.dtype == value(node).dtype  # a sum of bools is an integer
        if dims and plain and all(before.shape[d] == 1 for d in dims):
            return source if keep and keep[0] else _insert(module, node, aten.squeeze.dims, (source, dims))
    if node.target is aten.stack.default and len(arguments(node)[0]) == 1:
        (source,), *dim = arguments(node)
        if not value(source).is_contiguous():
            return None  # a stack lies in memory in its own order, a view in its source's
        return _insert(module, node, aten.unsqueeze.default, (source, *(dim or (0,))))
    return None


def _scalar(module: GraphModule, node: Node) -> Node | None:
    """A constant with one value at every place is a number."""
    if node.target not in ELEMENTWISE or node.kwargs or not value(node).is_floating_point():
        return None
    left, right = arguments(node)[:2]
    if node.target in (aten.add.Tensor, aten.mul.Tensor) and _uniform(module, left) is not None:
        left, right = right, left
    number = _uniform(module, right)
    if number is None or not isinstance(left, Node) or not _alike(value(left), value(node)):
        return None
    return _insert(module, node, node.target, (left, number))


def _uniform(module: GraphModule, node: Any) -> float | None:
    if not (isinstance(node, Node) and node.op == "get_attr" and str(node.target).startswith("_constant")):
        return None
    constant = getattr(module, str(node.target))
    if not constant.is_floating_point() or not constant.numel():
        return None
    first = constant.flatten()[0]
    return first.item() if bool((constant == first).all()) else None


def _neutral(module: GraphModule, node: Node) -> Node | None:
    """x + 0, x - 0, x * 1, x / 1 and x ^ 1 are x."""
    if node.target not in (*ELEMENTWISE, aten.pow.Tensor_Scalar) or node.kwargs:
        return None
    left, right = arguments(node)[:2]
    neutral = 0 if node.target in (aten.add.Tensor, aten.sub.Tensor) else 1
    same = isinstance(left, Node) and not isinstance(right, Node) and right == neutral
    return left if same and _alike(value(left), value(node)) else None


def _sum_of_negated(module: GraphModule, node: Node) -> Node | None:
    """sum(-x) is -sum(x), and negates less."""
    if node.target is not aten.sum.dim_IntList or getattr(arguments(node)[0], "target", None) is not aten.neg.default:
        return None
    (source,) = arguments(arguments(node)[0])
    total = _insert(module, node, aten.sum.dim_IntList, (source, *arguments(node)[1:]))
    total.kwargs = node.kwargs
    return _insert(module, node, aten.neg.default, (total,))


def _alike(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and one.dtype == two.dtype and one.stride() == two.stride()


def _insert(module: GraphModule, node: Node, target: Callable[..., Any], args: Iterable[Any]) -> Node:
    """A new operation before a node, with the node's result."""
    with module.graph.inserting_before(node):
        new = module.graph.call_function(target, tuple(args))
    new.meta["val"] = value(node)
    return new
