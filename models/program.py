"""A Pyro program that owns its parameters."""

import itertools
from typing import Any
from weakref import WeakKeyDictionary

import pyro
from torch import nn

_names: "WeakKeyDictionary[Program, str]" = WeakKeyDictionary()
_counters: dict[str, "itertools.count[int]"] = {}


class Program(nn.Module):
    """A module whose ``forward`` is a Pyro program, and whose parameters no other program can receive.

    Pyro keeps parameters in one store for the whole process, by name, so that the second model in a process silently
    trains the first one's parameters (`pyro #1488 <https://github.com/pyro-ppl/pyro/issues/1488>`_, #3209). A program
    therefore declares its parameters under a name that belongs to this instance: ``VAE``, then ``VAE-2``, and so on.
    A copy is another instance. Parameters with ``requires_grad=False`` are not declared: they stay as they are.
    """

    @property
    def name(self) -> str:
        """What this instance's parameters are called in Pyro's store."""
        kind = type(self).__name__
        if self not in _names:
            number = next(_counters.setdefault(kind, itertools.count(1)))
            _names[self] = kind if number == 1 else f"{kind}-{number}"
        return _names[self]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Declare the parameters to Pyro, then run the program."""
        for name, parameter in self.named_parameters():
            if not parameter.is_contiguous():  # Pyro's store would train a copy
                raise ValueError(f"Parameter '{name}' of {self.name} is not contiguous in memory: use .contiguous().")
            if parameter.requires_grad:
                pyro.param(f"{self.name}.{name}", parameter)
        return super().__call__(*args, **kwargs)
