"""Everybody side by side: ``python -m benchmarks.bench`` writes figures, tables and a picture to results/speed.

Each peer lives in a process of its own, and they train in turns, an epoch each, so that a noisy machine is noisy for
all. Times are of training alone; libraries compile in the first epoch, which is shown apart.
"""

import argparse
import csv
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aevb.data import load
from aevb.guides import AmortizedNormal
from aevb.inference import evaluate, log_evidence
from aevb.models import MLP, VAE, Bernoulli, StandardNormal

from .cases import CASES, Case
from .peers import PEERS
from .peers.ours import put
from .picture import draw, table

Row = dict[str, Any]
ROOT = Path(__file__).parent.parent


class Worker:
    """A peer in its process."""

    def __init__(self, name: str, case: str, tiny: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", name, case, "tiny" if tiny else ""]
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the worker
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT
        )
        self.name = name

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def ask(self, command: str) -> dict[str, float]:
        """Send a command and wait for its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            raise RuntimeError(f"{self.name} has stopped:\n{self.errors.read()[-3000:]}")
        return json.loads(answer)


def test_bound(case: Case, path: Path, test: torch.Tensor) -> float:
    """What was trained, of weights that a peer has trained, on test images by one and the same code, nats per datum."""
    arrays = np.load(path)
    model = VAE(StandardNormal(case.latents), MLP(case.latents, *case.hidden, case.pixels), Bernoulli())
    guide = AmortizedNormal(MLP(case.pixels, *reversed(case.hidden), 2 * case.latents))
    for network, letter in ((guide.encoder, "e"), (model.decoder, "d")):
        flat = [arrays[f"{letter}{i}"] for i in range(2 * (len(case.hidden) + 1))]
        put(network, list(zip(flat[::2], flat[1::2], strict=True)))
    if case.estimator == "IWAE":
        return log_evidence(model, guide, test[:1000], samples=case.samples, seed=0).mean()
    return evaluate(model, guide, test, seed=0).elbo.mean().item()


def images(count: int, seed: int, split: str = "train") -> np.ndarray:
    """MNIST, binarised anew for each seed, (count, 784) float32."""
    data = getattr(load("mnist"), split)
    generator = torch.Generator().manual_seed(seed)
    return data.batch(torch.arange(min(count, len(data))), generator).numpy()


def race(case: Case, peers: list[str], rounds: int, tiny: bool) -> list[Row]:
    """A row for each peer: milliseconds a step in each round, the first epoch, peak memory, the bound reached."""
    case = case.tiny() if tiny else case
    test = torch.from_numpy(images(200 if tiny else 10_000, 0, "test"))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / "images.npy"
        np.save(path, images(case.images, 0))
        workers = [stack.enter_context(Worker(name, case.name, tiny)) for name in peers]
        first = {w.name: w.ask(f"load {path}")["seconds"] + w.ask("epoch")["seconds"] for w in workers}
        for _ in range(case.warm_up - 1):
            for worker in workers:
                worker.ask("epoch")
        times: dict[str, list[float]] = {name: [] for name in peers}
        for number in range(rounds):
            for worker in workers[number % len(workers) :] + workers[: number % len(workers)]:
                times[worker.name].append(worker.ask("epoch")["seconds"] / case.steps * 1000)
        rows = []
        for worker in workers:
            weights = Path(folder) / "layers.npz"
            peak = worker.ask(f"layers {weights}")["peak_mb"]
            median = statistics.median(times[worker.name])
            rows.append(
                {
                    "case": case.name,
                    "peer": worker.name,
                    "ms_per_step": median,
                    "fastest": min(times[worker.name]),
                    "slowest": max(times[worker.name]),
                    "images_per_second": case.batch / median * 1000,
                    "first_epoch_seconds": first[worker.name],
                    "peak_mb": peak,
                    "epochs": rounds + case.warm_up,
                    "test_bound": test_bound(case, weights, test),
                }
            )
    return rows


def to_bounds(peers: list[str], bounds: list[float], epochs: int, tiny: bool) -> list[Row]:
    """Seconds of training until the test bound on dynamically binarised MNIST passes each of some bounds.

    The first epoch, with whatever is compiled in it, counts. Images are binarised anew for each epoch, outside of the
    time, and the same for all.
    """
    case = Case("batch100", (500,), 20, 100, 600)
    case = case.tiny() if tiny else case
    test = torch.from_numpy(images(200 if tiny else 10_000, 10**6, "test"))
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path, weights = Path(folder) / "images.npy", Path(folder) / "layers.npz"
        workers = [stack.enter_context(Worker(name, case.name, tiny)) for name in peers]
        seconds = dict.fromkeys(peers, 0.0)
        left = {name: list(bounds) for name in peers}
        for epoch in range(1, epochs + 1):
            np.save(path, images(case.images, epoch))
            for worker in [w for w in workers if left[w.name]]:
                worker.ask(f"load {path}")
                seconds[worker.name] += worker.ask("epoch")["seconds"]
                worker.ask(f"layers {weights}")
                bound = test_bound(case, weights, test)
                while left[worker.name] and bound > left[worker.name][0]:
                    passed = left[worker.name].pop(0)
                    rows.append({"peer": worker.name, "bound": passed, "epoch": epoch, "seconds": seconds[worker.name]})
                    _say(f"{worker.name} passes {passed} after {epoch} epochs and {seconds[worker.name]:.1f} s")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--to-bounds", type=int, metavar="EPOCHS", default=0, help="also the seconds to -105 and -100")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes: does it run?")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    rows = []
    for name in options.cases:
        rows += race(CASES[name], options.peers, options.rounds, options.tiny)
        _write(options.out / "steps.csv", rows)
        _say(table([{k: str(v) for k, v in row.items()} for row in rows[-len(options.peers) :]]))
    if options.to_bounds:
        bounds = [-1000.0] if options.tiny else [-105.0, -100.0]
        _write(options.out / "to_bounds.csv", to_bounds(options.peers, bounds, options.to_bounds, options.tiny))
    (options.out / "machine.json").write_text(json.dumps(machine(), indent=1) + "\n")
    draw(options.out)
    _say(f"{time.perf_counter() - started:.0f} s; figures in {options.out}")


def machine() -> Row:
    """What the figures were measured on."""
    found = {}
    for name in ("torch", "pyro-ppl", "jax", "numpyro", "pythae"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"device": device, "processor": platform.machine(), "threads": torch.get_num_threads()} | found


def _write(path: Path, rows: list[Row]) -> None:
    if rows:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
