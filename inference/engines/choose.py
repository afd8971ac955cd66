"""From an engine's name to the engine of a run."""

from typing import Any

from ...models.errors import InputError, check_name
from .compiled import Compiled
from .engine import Engine
from .fast import Fast
from .step import Step
from .svi import SVI
from .trace import CannotReplay

ENGINES = ("auto", "svi", "fast", "compiled")
FEWEST_STEPS = 500
"""A run of fewer steps is over before a graph, which takes a second to make, has paid."""
FEWEST_COMPILED = 100_000
"""A step gains some 0.3 ms by being compiled, which takes up to sixteen seconds: half as many steps pay for that."""


def make_engine(engine: str, step: Step, *, steps: int, batch_size: int, seed: int) -> Engine:
    """The engine of a run of so many steps: one by its name, or by ``auto`` the one that is done first."""
    check_name("engine", engine, ENGINES)
    if engine == "svi":
        return SVI(step, "asked for")
    if engine == "auto" and steps < FEWEST_STEPS:
        return SVI(step, f"{steps} steps are over before a graph pays")
    on_cpu = all(parameter.device.type == "cpu" for parameter in step.parameters)
    if engine == "compiled" and not on_cpu:
        raise InputError("The engine 'compiled' is for a CPU. Use engine='fast', or 'auto'.")
    if engine == "compiled" or (engine == "auto" and steps >= FEWEST_COMPILED and on_cpu):
        return Compiled(step, batch_size, seed, only=engine == "compiled")
    return Fast(step, batch_size, seed)


def restored(engine: Engine, state: dict[str, Any]) -> Engine:
    """The engine that a saved run had."""
    if state["name"] == "svi":
        return engine if isinstance(engine, SVI) else SVI(engine.step, state["note"])
    if isinstance(engine, Fast):
        engine.products = state["products"]
    if isinstance(engine, Compiled):
        engine.give_up(state.get("reason", "the run was begun without"))
        engine.graph = None  # it may be of a later step than the state
    return engine


def without_replay(engine: Engine, asked: str, reason: CannotReplay) -> SVI:
    """The engine to go on with where a step cannot be replayed.

    Raises:
        InputError: an engine that replays was asked for by name.
    """
    if asked in ("fast", "compiled"):
        raise InputError(f"The engine '{asked}' cannot train this pair: {reason}.\n  Use engine='auto' or 'svi'.")
    return SVI(engine.step, str(reason))
