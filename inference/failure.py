"""What to say of a program that cannot be run on a batch: the cause that Python, torch or Pyro names, and a remedy."""

import re
from inspect import Signature, signature
from textwrap import shorten
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import nn

from ..models.errors import InputError
from .batches import Batch
from .sites import Program

ONE_DRAW = "Numbers that belong to one datum are one draw: dist.Normal(...).to_event(1)."
"""Advice where a draw has more or fewer dimensions than is expected of it."""


class Distributions(Messenger):
    """Refuses to sample a site of a program from anything but a distribution."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role

    def _pyro_sample(self, msg: Any) -> None:
        if not hasattr(msg["fn"], "log_prob"):
            raise InputError(
                f"Site '{msg['name']}' of the {self.role} is given a {type(msg['fn']).__name__}, not a distribution.\n"
                "  Give it one, such as pyro.distributions.Normal(loc, scale).to_event(1)."
            )


def explained(role: str, program: Program, batch: Batch, error: Exception) -> InputError:
    """What a program raised on a batch, and the advice that goes with it."""
    text = re.sub(r"\s*Trace Shapes:.*", "", str(error), flags=re.DOTALL).strip()  # as Pyro adds
    if isinstance(error, InputError):
        return InputError(text)
    first = text.partition("\n")[0]
    message = shorten(text, 300, placeholder=" ...") if first.endswith(":") else first.removesuffix(".")
    shapes = ", ".join(f"{tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in batch)
    return InputError(
        f"The {role} cannot be run on a batch of {shapes}.\n"
        f"  It raised {type(error).__name__}: {message}.\n"
        f"  {_advice(role, program, batch, error)}"
    )


def _advice(role: str, program: Program, batch: Batch, error: Exception) -> str:
    message = str(error)
    if "Shape mismatch inside plate" in message:
        return ONE_DRAW
    if "Expected parameter" in message:
        return "Give the distribution what it expects; a positive parameter is the exp or softplus of any number."
    if isinstance(error, TypeError) and (wanted := _wanted(program, batch)):
        return (
            f"It takes {wanted}; these data are {len(batch)} tensor{'s' if len(batch) != 1 else ''}.\n"
            "  Data of several tensors are a tuple of them, or split.labelled()."
        )
    if isinstance(error, TypeError):
        return f"Check what the {role} calls, and with what: the forward of a prior p(z) takes no argument."
    return "Check the shapes that its networks expect, and that the data are of their dtype."


def _wanted(program: Program, batch: Batch) -> str:
    """The arguments of a program, where a batch is not of as many."""
    try:
        own = signature(program.forward if isinstance(program, nn.Module) else program)
    except ValueError:
        return ""
    return "" if _binds(own, batch) else f"({', '.join(own.parameters)})"


def _binds(own: Signature, batch: Batch) -> bool:
    try:
        own.bind(*batch)
    except TypeError:
        return False
    return True
