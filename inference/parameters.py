"""Keeping the parameters of one pair apart from those of all others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyro
import torch


@contextmanager
def private_parameters(*, keep: bool = True) -> Iterator[None]:
    """Run a pair on its own parameters, whatever else the process has trained.

    Parameters of modules live in the modules: inside this context Pyro's store starts without any, so that none can be
    mistaken for another module's of the same name, and forgets them afterwards. Parameters of bare ``pyro.param``
    statements have no other home than the store: those come in, and stay unless ``keep`` says otherwise.
    """
    store = pyro.get_param_store()
    with store.scope(_of_no_module(store.get_state())):
        try:
            yield
        finally:
            bare = _of_no_module(store.get_state())
    if keep:
        store.set_state(bare)  # adds to what is there


def _of_no_module(state: Any) -> Any:
    names = [name for name, value in state["params"].items() if not isinstance(value, torch.nn.Parameter)]
    return {key: {name: state[key][name] for name in names} for key in state}
