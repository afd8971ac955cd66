"""Keeping the memory that a step frees for the next step."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of mallopt(3)
NEVER, LARGEST = 2**31 - 1, 32 * 2**20
"""Do not give the heap's end back; take blocks of up to 32 MB, glibc's own limit, from the heap."""


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let glibc keep what is freed inside.

    Each step of training allocates and frees the same tensors. By default glibc may give the end of its heap back to
    the system at every step and take it again, page by page: up to 400 page faults a step at batch 100 and 6,000 at
    1,000, a tenth to a third of the time. Where the C library is another one, or the environment says how its
    allocator behaves (``MALLOC_TRIM_THRESHOLD_`` and the like), nothing is done.
    """
    told = any(name.startswith("MALLOC_") for name in os.environ) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
    glibc = None if told else _glibc()
    if glibc is None:
        yield
        return
    glibc.mallopt(TRIM_THRESHOLD, NEVER)
    glibc.mallopt(MMAP_THRESHOLD, LARGEST)
    try:
        yield
    finally:
        glibc.mallopt(TRIM_THRESHOLD, 2 * LARGEST)  # what glibc itself sets it to once a block of 32 MB was freed


@lru_cache
def _glibc() -> Any:
    """The C library of this process, if it is glibc."""
    try:
        library = ctypes.CDLL(None)
        return library if library.gnu_get_libc_version and library.mallopt else None
    except (OSError, AttributeError, TypeError):  # Windows has no such handle, other libraries no such functions
        return None
