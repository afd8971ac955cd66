"""From an engine's name to the engine of a run."""

from typing import Any

from ...models.errors import InputError, check_name
from .engine import Engine
from .fast import Fast
from .step import Step
from .svi import SVI
from .trace import CannotReplay

ENGINES = ("auto", "svi", "fast")
FEWEST_STEPS = 500
"""A run of fewer steps is over before a graph, which takes a second to make, has paid."""


def make_engine(engine: str, step: Step, *, steps: int, batch_size: int, seed: int) -> Engine:
    """The engine of a run of so many steps: ``svi``, ``fast``, or ``auto``, which is ``fast`` where that pays."""
    check_name("engine", engine, ENGINES)
    if engine == "svi":
        return SVI(step, "asked for")
    if engine == "auto" and steps < FEWEST_STEPS:
        return SVI(step, f"{steps} steps are over before a graph pays")
    return Fast(step, batch_size, seed)


def restored(engine: Engine, state: dict[str, Any]) -> Engine:
    """The engine that a saved run had."""
    if state["name"] == "svi":
        return engine if isinstance(engine, SVI) else SVI(engine.step, state["note"])
    if isinstance(engine, Fast):
        engine.products = state["products"]
    return engine


def without_replay(engine: Engine, asked: str, reason: CannotReplay) -> SVI:
    """The engine to go on with where a step cannot be replayed.

    Raises:
        InputError: ``fast`` was asked for by name.
    """
    if asked == "fast":
        raise InputError(f"The engine 'fast' cannot train this pair: {reason}.\n  Use engine='auto' or 'svi'.")
    return SVI(engine.step, str(reason))
