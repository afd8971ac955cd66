"""What a step frees is there for the next step."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from contextlib import nullcontext
from aevb.inference.memory import kept_memory

def step():
    return len([b"x" * 100_000 for _ in range(50)]) + len(b"x" * 40_000_000)

def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps

with kept_memory() if sys.argv[1] == "kept" else nullcontext():
    faults(5)
    print(faults(50))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_a_step_does_not_fault_in_again_what_the_last_one_freed() -> None:
    """Five megabytes a step, in small blocks, and forty in one: 11,000 pages of 4 kB, or 22 of 2 MB."""
    told = ("MALLOC_", "GLIBC_TUNABLES")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(told)}

    def faults(how: str, **more: str) -> float:
        command = [sys.executable, "-W", "error", "-c", FAULTS, how]
        return float(subprocess.run(command, env=environment | more, check=True, capture_output=True).stdout)

    assert faults("kept") < 1 < faults("default")
    assert faults("kept", MALLOC_ARENA_MAX="1") > 1, "the environment has the last word"
