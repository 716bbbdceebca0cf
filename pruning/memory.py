"""Giving freed memory back to the system, where the C library is glibc.

Blocks of changing sizes leave its heap in pieces, so that without this a process holds the sum of what its
steps needed instead of the most that one of them did.
"""

import ctypes
import sys

LARGE_BYTES = 8 << 20
"""Blocks of at least this size are given back as soon as they are freed."""
_M_MMAP_THRESHOLD = -3


def _glibc(function: str) -> "ctypes._NamedFuncPointer | None":
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None


def keep_large_blocks_apart() -> None:
    """Have large blocks mapped one by one from here on, in the whole process: freed, they leave no holes.

    By itself the C library does so only until the first such block is freed; after that it takes those of up to
    32 MiB from its heap (M_MMAP_THRESHOLD, https://man7.org/linux/man-pages/man3/mallopt.3.html). Pruning is a tenth
    slower for it, and needs two thirds of the memory.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def return_freed_memory() -> None:
    """Let the C library give back the pages that it keeps for later allocations.

    See https://man7.org/linux/man-pages/man3/malloc_trim.3.html.
    """
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)
