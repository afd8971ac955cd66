"""Writing a Bernoulli's log density with half the passes over its pixels."""

import torch
from torch.fx import GraphModule

from .shorten import arguments, value

aten = torch.ops.aten


def fuse(module: GraphModule) -> None:
    """Write -log p(x) = softplus(l) - x l, in place, where torch makes six passes of it.

    l are the logits. In the last bits the two differ: by 1e-7 of l.
    """
    for node in list(module.graph.nodes):
        if node.target is aten.binary_cross_entropy_with_logits.default:
            logits, x, *rest = arguments(node)
            if rest == [None, None, 0] and not node.kwargs:
                with module.graph.inserting_before(node):
                    softplus = module.graph.call_function(aten.softplus.default, (logits,))
                    softplus.meta["val"] = value(logits)
                    fused = module.graph.call_function(aten.addcmul.default, (softplus, x, logits), {"value": -1})
                fused.meta["val"] = value(node)
                node.replace_all_uses_with(fused)
                module.graph.erase_node(node)
    module.recompile()
