"""Wait policy of idle threads: chosen before torch is loaded, because OpenMP reads it once, when its library is loaded.

torch computes with GNU's OpenMP, whose threads spin for some milliseconds after each parallel region in case another
one follows. On a machine that others use, or within a CPU quota, they spin away the time that the others, and their
own process, need. How long they spin was chosen by measurement: ``benchmarks/wait_policy.py``, figures in
docs/RESULTS.md. This module imports nothing heavy.
"""

import os
from collections.abc import MutableMapping

from exporters.machine.cpu_quota import usable_cpus

SPINS = 20_000
"""How often a waiting thread looks before it sleeps, some tenths of a millisecond: libgomp's own choice is 300,000."""
SPIN_VARIABLE = "GOMP_SPINCOUNT"
"""https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html"""
POLICY_VARIABLE = "OMP_WAIT_POLICY"
"""https://gcc.gnu.org/onlinedocs/libgomp/OMP_005fWAIT_005fPOLICY.html"""
THREADS_VARIABLE = "OMP_NUM_THREADS"
"""https://gcc.gnu.org/onlinedocs/libgomp/OMP_005fNUM_005fTHREADS.html; OpenBLAS, and so numpy, reads it too."""


def choose_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Choose how the OpenMP threads of this process, and of those that it starts, wait; what the user set stays.

    Within a CPU quota that is smaller than the number of processors, libraries that start a thread for each processor
    start only as many as the quota pays for.

    Has no effect on this process where torch is loaded already.

    Args:
        environment: the environment's variables, which are changed.

    """
    if not {SPIN_VARIABLE, POLICY_VARIABLE} & environment.keys():
        environment[SPIN_VARIABLE] = str(SPINS)
    if usable_cpus() < len(os.sched_getaffinity(0)):
        environment.setdefault(THREADS_VARIABLE, str(usable_cpus()))
