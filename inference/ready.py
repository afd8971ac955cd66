"""Everything about a pair that can be known to be wrong before the first step of training."""

import weakref
from typing import Any

import pyro
from torch import Tensor, nn

from ..models.errors import InputError
from .batches import Batch, Loader
from .estimators import Estimate, Estimator, KLPath
from .pair import Pair, check_observed, check_plate, inspect
from .parameters import private_parameters
from .randomness import forked_rng
from .sites import Program


def ready(
    model: Program, guide: Program, data: Loader, estimator: Estimator, batch_size: int
) -> tuple[Pair, dict[str, KLPath]]:
    """Look at a pair, its data and its estimator; return what the pair declares, and how each KL comes about.

    Raises:
        InputError: one of them cannot be used, or a parameter would not be trained; it is named.
    """
    batches = Loader(data.data, data.device).in_order(batch_size)
    first = next(batches)
    with private_parameters(), forked_rng(0):  # what an estimator takes from its first batch is the same every time
        kept = set(pyro.get_param_store().keys())
        pair = inspect(model, guide, first)
        check_trainable(pair, model, guide, batch_size, len(data))
        _check_owner(sorted(kept & set(pair.parameters)), model, guide)
        for number, batch in enumerate(batches, 1):
            check_observed(pair, batch, number * batch_size)
        estimate = _estimate(model, guide, estimator, first)
        check_gradients(estimate.surrogate, [*pair.parameters.values(), *estimator.parameters().values()])
    with private_parameters(), forked_rng():
        _check_same(pair, inspect(model, guide, first))
    return pair, estimate.kl_path


def _estimate(model: Program, guide: Program, estimator: Estimator, batch: Batch) -> Estimate:
    with pyro.validation_enabled(True):
        try:
            return check_estimate(estimator.estimate(model, guide, *batch), estimator, len(batch[0]))
        except InputError:
            raise
        except (ValueError, RuntimeError, NotImplementedError) as error:
            raise InputError(f"The pair is not one that Pyro can train: {error}") from error


def check_estimate(estimate: Any, estimator: Estimator, batch_size: int) -> Estimate:
    """Check that an estimator has returned what one is to return.

    Raises:
        InputError: it is no :class:`Estimate`, or a part of it is of a wrong shape; the part is named.
    """
    rule = f"{type(estimator).__name__}.estimate is to return an Estimate"
    if not isinstance(estimate, Estimate):
        raise InputError(
            f"{rule}; it returned a {type(estimate).__name__}.\n"
            "  Where all is sampled, return Estimate.of(draws, bound, surrogate), the bound of shape (B,)."
        )
    per_datum = dict.fromkeys(("bound", "reconstruction", "kl"), (batch_size,))
    for name, shape in {**per_datum, "surrogate": (), "kl_global": ()}.items():
        found = tuple(getattr(getattr(estimate, name), "shape", ()))
        if found != shape:
            raise InputError(
                f"{rule} whose {name} is of shape {'(B,)' if shape else '()'}, {shape} for this batch; it is of "
                f"shape {found}.\n  A mean over draws of shape (L, B) is .mean(0)."
            )
    return estimate


def _check_same(pair: Pair, again: Pair) -> None:
    for name, parameter in pair.parameters.items():
        if again.parameters.get(name) is not parameter:
            raise InputError(
                f"The pair makes its parameter '{name}' anew at each call, so that it cannot be trained.\n"
                "  Make modules and nn.Parameters outside of the programs, or give pyro.param a plain tensor."
            )


def check_trainable(pair: Pair, model: Program, guide: Program, batch_size: int, data_size: int) -> None:
    """Check that training would reach every parameter, and that the plate says how many data there are.

    Raises:
        InputError: no parameter is declared, a module's are not, or the plate ``data`` is of a wrong size.
    """
    check_plate(pair, batch_size, data_size, f"or train with batch_size={data_size}")
    if not pair.parameters:
        raise InputError(
            "Nothing would be trained: neither program declares a parameter to Pyro.\n"
            "  Call pyro.module(name, network) in the program, make it a PyroModule, or use pyro.param."
        )
    declared = {id(p) for p in pair.parameters.values()}
    for role, program in (("model", model), ("guide", guide)):
        named = program.named_parameters() if isinstance(program, nn.Module) else ()
        if silent := [name for name, p in named if p.requires_grad and id(p) not in declared]:
            raise InputError(
                f"Parameters of the {role} would not be trained: {silent} are not declared to Pyro.\n"
                "  Call pyro.module(name, network) in the program, make it a PyroModule, or set requires_grad=False."
            )
    if pair.plate.size not in (batch_size, data_size):
        raise InputError(
            f"The plate 'data' stands for {pair.plate.size} data, but the batch has {batch_size} of {data_size}.\n"
            f'  Write pyro.plate("data", len(x)) or pyro.plate("data", {data_size}, subsample=x).'
        )


def check_gradients(surrogate: Tensor, trained: list[Tensor]) -> None:
    """Check that whatever the bound could be differentiated by will be trained.

    Raises:
        InputError: a tensor that requires a gradient takes part without being declared.
    """
    declared = {id(p) for p in trained}
    seen, left = set(), [surrogate.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        left += [parent for parent, _ in node.next_functions]
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in declared:
            raise InputError(
                f"A parameter of shape {tuple(variable.shape)} would not be trained: it takes part in the bound, "
                "but is not declared to Pyro.\n"
                "  Call pyro.module(name, network) in the program, make it a PyroModule, or set requires_grad=False."
            )


_trained_by: dict[str, tuple[Any, Any]] = {}
"""Weak references to the pair that trained a bare parameter in Pyro's store last."""


def _reference(program: Program) -> Any:
    return weakref.WeakMethod(program) if hasattr(program, "__self__") else weakref.ref(program)


def remember(pair: Pair, model: Program, guide: Program) -> None:
    """Note that the pair trains its bare parameters, so that no other pair takes them for its own."""
    bare = (name for name, p in pair.parameters.items() if not isinstance(p, nn.Parameter))
    _trained_by.update(dict.fromkeys(bare, (_reference(model), _reference(guide))))


def _check_owner(names: list[str], model: Program, guide: Program) -> None:
    own = (_reference(model), _reference(guide))
    if stale := [name for name in names if _trained_by.get(name, own) != own]:
        raise InputError(
            f"Pyro's parameter store already holds {stale}, which another pair has trained.\n"
            "  Call pyro.clear_param_store() first, or fit inside `with pyro.get_param_store().scope():`."
        )
