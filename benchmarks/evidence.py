"""log p(x) by importance sampling: ``python -m benchmarks.evidence`` times it, replayed and by running the pair.

They take turns, on images of MNIST's size and 784-500-20, and must agree.
"""

import argparse
import csv
import importlib
import statistics
import sys
import time
from pathlib import Path

import torch

from aevb.guides import AmortizedNormal
from aevb.inference import LogEvidence, log_evidence
from aevb.models import MLP, VAE, Bernoulli, StandardNormal

ROOT = Path(__file__).parent.parent
REPLAYED_FROM = {"replayed": 0, "by running the pair": sys.maxsize}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed" / "evidence.csv")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--samples", type=int, nargs="+", default=[500, 1000, 5000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    model = VAE(StandardNormal(20), MLP(20, 500, 784), Bernoulli())
    guide = AmortizedNormal(MLP(784, 500, 40))
    images = (torch.rand(options.images, 784) < 0.13).float()
    module = importlib.import_module("aevb.inference.log_evidence")  # whose name the function has in the package
    rows = []
    for samples in options.samples:
        seconds: dict[str, list[float]] = {how: [] for how in REPLAYED_FROM}
        results: dict[str, LogEvidence] = {}
        for _ in range(options.rounds):
            for how, number in REPLAYED_FROM.items():
                module.REPLAYED_FROM = number  # type: ignore[attr-defined]
                started = time.perf_counter()
                results[how] = log_evidence(model, guide, images, samples=samples)
                seconds[how].append(time.perf_counter() - started)
        one, two = (result.values for result in results.values())
        torch.testing.assert_close(one, two, rtol=1e-5, atol=0.0)
        for how, times in seconds.items():
            figures = {"seconds": statistics.median(times), "fastest": min(times), "slowest": max(times)}
            rows.append({"images": options.images, "samples": samples, "how": how} | figures)
            sys.stdout.write(f"{rows[-1]}\n")
            sys.stdout.flush()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
