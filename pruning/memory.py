"""Giving freed memory back to the system."""

import ctypes
import sys


def return_freed_memory() -> None:
    """Let the C library give back the pages that it keeps for later allocations, where it is glibc.

    Batches of changing sizes leave its heap in pieces, so that without this a process holds the sum of what
    its steps needed instead of the most that one of them did (https://man7.org/linux/man-pages/man3/malloc_trim.3.html).
    """
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
