"""How cost grows: ``python -m benchmarks.growth`` trains ever larger cases, each in a process of its own.

Images a second, over steps after the first, and the most memory above what an idle ``import torch`` takes, against the
number of images (a memory-mapped file), of latents, of samples, and the width of the network.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
CASES: dict[str, dict[str, list[int]]] = {
    "images": {"images": [10**4, 10**5, 10**6, 10**7]},
    "latents": {"latents": [2, 20, 200, 2000]},
    "samples of IWAE": {"samples": [1, 5, 50]},
    "width": {"width": [100, 500, 2000, 5000]},
}
BASE = {"images": 60_000, "latents": 20, "samples": 0, "width": 500}


def memory_mb(field: str) -> float:
    """A figure of Linux's about this process: VmHWM, the most memory yet; RssAnon, what is its own now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measure(path: str, images: int, latents: int, samples: int, width: int, steps: int) -> dict[str, float]:
    """Train for some steps; in a fresh process."""
    import torch  # noqa: F401

    idle = memory_mb("RssAnon")
    import time

    from aevb.data import load
    from aevb.guides import AmortizedNormal
    from aevb.inference import ESTIMATORS, Training
    from aevb.inference.engines.loop import Loop
    from aevb.models import MLP, VAE, Bernoulli, StandardNormal

    data = load(path, binarisation="dynamic")
    model = VAE(StandardNormal(latents), MLP(latents, width, 784), Bernoulli())
    guide = AmortizedNormal(MLP(784, width, 2 * latents))
    estimator: Any = ESTIMATORS["IWAE"](samples=samples) if samples else "L_B"
    run = Training(
        *(model, guide, data.train),
        **{"estimator": estimator, "epochs": 1000, "batch_size": 100, "samples": None, "beta": None},
        **{"optimizer": "Adam", "learning_rate": None, "schedule": "constant", "weight_decay": 0.0},
        **{"validation": None, "patience": None, "test": None, "evaluation_samples": 1, "seed": 0},
        **{"device": "auto", "engine": "fast"},
    )
    times = []
    most = 0.0

    class Enough(Exception):
        """The epoch need not be finished."""

    step = Loop.step

    def timed(self: Loop, number: int, batch: Any) -> Any:
        nonlocal most
        times.append(time.perf_counter())
        most = max(most, memory_mb("RssAnon"))
        if len(times) > steps:
            raise Enough
        return step(self, number, batch)

    Loop.step = timed  # type: ignore[method-assign]
    try:
        while True:
            run.epoch()
    except Enough:
        pass
    gaps = np.diff(times[len(times) // 4 :])
    return {"images_per_second": 100 / float(np.median(gaps)), "peak_mb_above_torch": most - idle}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed" / "growth.csv")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--most-images", type=int, default=10**7)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for what, axis in CASES.items():
            for name, values in axis.items():
                for value in values:
                    case = BASE | {name: value}
                    if case["images"] <= options.most_images:
                        path = _file(Path(folder), case["images"])
                        call = {"path": str(path), "steps": options.steps} | case
                        command = [sys.executable, "-m", "benchmarks.growth", json.dumps(call)]
                        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
                        rows.append({"against": what, "value": value} | json.loads(done.stdout))
                        sys.stdout.write(json.dumps(rows[-1]) + "\n")
                        sys.stdout.flush()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def _file(folder: Path, images: int) -> Path:
    """A file of so many random images; the one before it is removed."""
    path = folder / f"images{images}.npy"
    if not path.exists():
        for old in folder.iterdir():
            old.unlink()
        array = np.lib.format.open_memmap(path, "w+", np.uint8, (images, 28, 28))
        block = np.random.default_rng(0).integers(0, 256, (10_000, 28, 28), np.uint8)
        for start in range(0, images, len(block)):
            array[start : start + len(block)] = block[: images - start]
        array.flush()
    return path


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        sys.stdout.write(json.dumps(measure(**json.loads(sys.argv[1]))))
    else:
        main()
