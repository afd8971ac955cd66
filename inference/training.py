"""A training run that can be advanced epoch by epoch, saved and restored."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from ..models.errors import InputError, check_at_least, check_name, check_seed
from .batches import Data, Loader
from .choose import make_estimator
from .divergence import DivergenceError, culprit
from .engines import CannotReplay, Engine, Loop, Step, WrongReplay, make_engine, restored, without_replay
from .estimators import Estimator
from .evaluate import evaluate
from .history import History, Row
from .memory import kept_memory
from .optimizers import LEARNING_RATES, OPTIMIZERS, SCHEDULES, check_is_name
from .parameters import private_parameters
from .randomness import forked_rng, random_state, random_streams, set_random_state
from .ready import ready, remember
from .sites import Program

State = dict[str, Any]


class Training:
    """The state of :func:`~aevb.inference.fit`, whose arguments it takes: pair, optimizer, random streams, history.

    ``epoch()`` advances it until ``done``; ``state()`` and ``restore(state)`` save and put back everything that the
    rest of the run depends on.
    """

    def __init__(
        self,
        model: Program,
        guide: Program,
        data: Data,
        *,
        estimator: str | Estimator,
        epochs: int,
        batch_size: int,
        samples: int | None,
        beta: float | None,
        warm_up: int = 0,
        optimizer: str,
        learning_rate: float | None,
        schedule: str,
        weight_decay: float,
        validation: Data | None,
        patience: int | None,
        test: Data | None,
        evaluation_samples: int,
        seed: int,
        device: str | torch.device,
        engine: str = "auto",
    ) -> None:
        self.model, self.guide = model, guide
        self.estimator = make_estimator(estimator, samples=samples, beta=beta).fresh()
        self.beta, self.warm_up = self.estimator.beta, check_at_least(0, "warm_up", warm_up)
        if warm_up and not self.estimator.has_beta:
            raise InputError(f"{type(self.estimator).__name__} has no KL to weigh: leave out warm_up.")
        self.epochs = check_at_least(1, "epochs", epochs)
        check_at_least(0.0, "weight_decay", weight_decay)
        check_at_least(1, "patience", 1 if patience is None else patience)
        check_seed("seed", seed)
        check_is_name(optimizer)
        self.learning_rate = LEARNING_RATES[check_name("optimizer", optimizer, OPTIMIZERS)]
        if learning_rate is not None:
            self.learning_rate = check_at_least(0.0, "learning_rate", learning_rate)
        self.schedule = SCHEDULES[check_name("schedule", schedule, SCHEDULES)]
        if patience is not None and validation is None:
            raise InputError("patience needs validation data: fit(..., validation=data.validation, patience=10).")
        self.patience = patience
        self.device = _place(device, model, guide)
        order, pixels, latents = random_streams(seed)
        self.data = Loader(data, self.device)
        self.data.generator.manual_seed(pixels)
        self.batch_size = min(check_at_least(1, "batch_size", batch_size), len(self.data))
        monitored = {"validation_elbo": validation, "test_elbo": test}
        self.monitored = {c: None if data is None else Loader(data, self.device) for c, data in monitored.items()}
        self.evaluation_samples, self.seed = evaluation_samples, seed
        self.order = torch.Generator().manual_seed(order)
        self.steps = self.images = 0
        self.seconds = 0.0
        self.best: tuple[float, dict[str, Tensor]] | None = None
        with forked_rng(latents):
            self.noise = random_state()
        buffers = _copies(self._buffers())
        self.pair, kl_path = ready(model, guide, self.data, self.estimator, self.batch_size)
        _assign(self._buffers(), buffers)
        self.history = History(kl_path=kl_path)
        self.optimizer = OPTIMIZERS[optimizer](
            [
                {"params": list(self.pair.model_parameters.values()), "weight_decay": weight_decay / len(self.data)},
                {"params": [*self.pair.guide_parameters.values(), *self.estimator.parameters().values()]},
            ],
            lr=self.learning_rate,
        )
        remember(self.pair, model, guide)
        self.asked = engine
        self.verified: tuple[State, Any] | None = None  # the beginning of the last epoch in which a replay was compared
        trained = tuple(parameter for group in self.optimizer.param_groups for parameter in group["params"])
        self.loop = Loop(
            make_engine(
                engine,
                Step(self.estimator, model, guide, trained),
                steps=self._total_steps,
                batch_size=self.batch_size,
                seed=seed,
            ),
            self.data,
            self.optimizer,
            self.batch_size,
            self._beta_at,
            self._rate_at,
        )

    @property
    def done(self) -> bool:
        """Whether the epochs are done or the validation bound has stopped improving."""
        return len(self.history) >= self.epochs or self.history.stopped != "epochs done"

    @property
    def engine(self) -> Engine:
        """What computes the steps."""
        return self.loop.engine

    def epoch(self) -> Row:
        """Train on every datum once and return the new row of the history.

        Where the engine cannot replay the pair's steps, they are made by running it; where it finds that it no longer
        can, training goes back to the last epoch in which it was seen that it could.

        Raises:
            DivergenceError: a bound, gradient or parameter is not finite. As after a KeyboardInterrupt, the pair holds
                the parameters that it had before the epoch.
        """
        start, checks = self.state(), self.engine.checks
        try:
            with self._own_world():
                totals = self._pass()
            if not self._finite(totals):
                self.restore(start)
                raise self._diagnose()
            self.history.engine, self.history.engine_note = self.engine.name, self.engine.note
            row = self._row(totals)
            self.history.rows.append(row)
            self._stop_early(row)
            if self.verified is None or self.engine.checks > checks:
                self.verified = start, self.engine.kept
        except CannotReplay as reason:
            was_right = isinstance(reason, WrongReplay) and self.verified is not None
            state, kept = self.verified if was_right and self.verified else (start, self.engine.kept)
            self.restore(state)
            if kept is not None:
                kept.put_back()
            self.loop.engine = without_replay(self.engine, self.asked, reason)
            return self.epoch()
        except BaseException:
            self.restore(start)
            raise
        return row

    def _pass(self) -> Tensor:
        """One epoch of algorithm 1; returns the sums of bound, elbo, reconstruction, kl and kl_global."""
        started = time.perf_counter()
        self.engine.begin_epoch()
        with kept_memory():
            totals = self.loop.run(self.steps, self._order()).cpu()  # waits for the device, once
        self.steps += self._steps_per_epoch
        self.images += len(self.data)
        self.seconds += time.perf_counter() - started
        return totals

    def _order(self) -> Tensor:
        return torch.randperm(len(self.data), generator=self.order).to(self.device)

    def _beta_at(self, step: int) -> float:
        """The weight of the KL: it rises linearly from 0 over the epochs of the warm-up."""
        steps = self.warm_up * self._steps_per_epoch
        return self.beta * min(1.0, step / steps) if steps else self.beta

    def _rate_at(self, step: int) -> float:
        return self.learning_rate * self.schedule(step / self._total_steps)

    @cached_property
    def _steps_per_epoch(self) -> int:
        return -(-len(self.data) // self.batch_size)

    @property
    def _total_steps(self) -> int:
        return self.epochs * self._steps_per_epoch

    def _row(self, totals: Tensor) -> Row:
        bound, elbo, reconstruction, kl, kl_global = (totals / len(self.data)).tolist()
        row = {
            "epoch": len(self.history) + 1,
            "step": self.steps,
            "images": self.images,
            "seconds": self.seconds,
            "learning_rate": self._rate_at(self.steps - 1),
            "train_bound": bound,
            "train_elbo": elbo,
            "reconstruction": reconstruction,
            "kl": kl,
            "kl_global": kl_global,
        }
        for column, data in self.monitored.items():
            row[column] = float("nan") if data is None else self._measure(data)
        return row

    def _measure(self, data: Loader) -> float:
        values = evaluate(self.model, self.guide, data, samples=self.evaluation_samples, seed=self.seed)
        return values.elbo.mean().item()

    def _stop_early(self, row: Row) -> None:
        if self.patience is None:
            return
        best = float("-inf") if self.best is None else self.best[0]
        if row["validation_elbo"] > best:
            self.best = row["validation_elbo"], self._weights()
            self.history.best_epoch = int(row["epoch"])
        elif row["epoch"] - (self.history.best_epoch or 0) >= self.patience:
            self.history.stopped = f"validation_elbo has not risen for {self.patience} epochs"
        if self.done and self.best:
            _assign(self.pair.parameters | self._buffers(), self.best[1])

    def state(self) -> State:
        """A copy of everything that the rest of the run depends on."""
        return {
            "weights": self._weights(),
            "estimator": _copies(self.estimator.state()),
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "engine": self.engine.state(),
            "noise": self.noise,
            "order": self.order.get_state(),
            "pixels": self.data.generator.get_state(),
            "counters": (self.steps, self.images, self.seconds),
            "best": self.best,
            "history": self.history.state(),
        }

    def restore(self, state: State) -> None:
        """Go back to a state."""
        _assign(self.pair.parameters | self._buffers(), state["weights"])
        _assign(self.estimator.state(), state["estimator"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.loop.engine = restored(self.engine, state["engine"])
        self.loop.forget()
        self.noise = state["noise"]
        self.order.set_state(state["order"])
        self.data.generator.set_state(state["pixels"])
        self.steps, self.images, self.seconds = state["counters"]
        self.best = state["best"]
        self.history = History(**state["history"] | {"rows": list(state["history"]["rows"])})

    def _weights(self) -> dict[str, Tensor]:
        return _copies(self.pair.parameters | self._buffers())

    def _buffers(self) -> dict[str, Tensor]:
        modules = {"model": self.model, "guide": self.guide}
        named = ((role, m.named_buffers()) for role, m in modules.items() if isinstance(m, nn.Module))
        return {f"{role}.{name}": buffer for role, buffers in named for name, buffer in buffers}

    @contextmanager
    def _own_world(self) -> Iterator[None]:
        """This run's parameters and random stream; no checks, for speed. Everything is put back afterwards."""
        with private_parameters(), forked_rng(), pyro.validation_enabled(False):
            set_random_state(self.noise)
            yield
            self.noise = random_state()

    def _diagnose(self) -> DivergenceError:
        """Repeat the epoch, looking at each step, and say where it broke."""
        with self._own_world():
            for step, indices in enumerate(self._order().split(self.batch_size), self.steps + 1):
                batch = self.data[indices]
                before, noise = _copies(self.pair.parameters), random_state()
                if not self._finite(self.loop.step(step - 1, batch)):
                    break
            _assign(self.pair.parameters, before)
            place = culprit(self.estimator, self.model, self.guide, batch, noise, self.pair)
        return DivergenceError(
            f"Step {step} met a number that is not finite: {place}.\n"
            f"  The parameters are back at those of epoch {(step - 1) // self._steps_per_epoch}.\n"
            f"  Try a learning rate below {self.learning_rate:g}, or look at what that site is given."
        )

    def _finite(self, totals: Tensor) -> bool:
        return all(bool(torch.isfinite(value).all()) for value in (totals, *self.pair.parameters.values()))


def _copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@torch.no_grad()
def _assign(tensors: dict[str, Tensor], values: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(values[name])


def _place(device: str | torch.device, model: Program, guide: Program) -> torch.device:
    """Choose a device, and move the modules there."""
    modules = [program for program in (model, guide) if isinstance(program, nn.Module)]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and len(modules) == 2 else "cpu"
    try:
        device = torch.device(device)
    except RuntimeError:
        raise InputError(f"There is no device {device!r}; devices are auto, cpu, cuda, cuda:0 and so on.") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here. Use --device cpu, or auto.")
    for module in modules:
        module.to(device)
    return device
