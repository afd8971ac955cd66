"""One peer in a process of its own: commands on its standard input, answers in JSON on its standard output."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np


def peak_mb() -> float:
    """The most memory that this process has had, in MB: Linux says it; elsewhere it is NaN."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else ()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def main(name: str, case_name: str, tiny: str) -> None:
    """Answer ``load FILE``, ``epoch`` and ``layers FILE`` until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    from .cases import CASES
    from .peers import load

    case = CASES[case_name].tiny() if tiny == "tiny" else CASES[case_name]
    peer = None
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        started = time.perf_counter()
        if command == "load":
            images = np.load(path)
            if peer is None:
                peer = load(name)(case, images)
            else:
                peer.load(images)
        elif command == "epoch":
            peer.epoch()
        elif command == "layers":
            np.savez(
                path,
                **{f"{n}{i}": a for n, ls in zip("ed", peer.layers(), strict=True) for i, a in enumerate(sum(ls, ()))},
            )
        answer = {
            "seconds": time.perf_counter() - started,
            "peak_mb": peak_mb(),
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
