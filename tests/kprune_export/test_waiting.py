"""How waiting threads wait: chosen before torch's OpenMP is loaded, and left alone where the user chose."""

import os
import subprocess
import sys

import pytest

from kprune_export.waiting import POLICY_VARIABLE, SPIN_VARIABLE, SPINS, choose_waiting

LINE = "GOMP_SPINCOUNT = "


@pytest.mark.parametrize(
    "given", [{POLICY_VARIABLE: "ACTIVE"}, {SPIN_VARIABLE: "7"}, {POLICY_VARIABLE: "PASSIVE", SPIN_VARIABLE: "3"}]
)
def test_what_the_user_set_stays(given: dict[str, str]) -> None:
    environment = dict(given)
    choose_waiting(environment)
    assert environment == given
    environment = {"HOME": "/"}
    choose_waiting(environment)
    assert environment == {"HOME": "/", SPIN_VARIABLE: str(SPINS)}


def libgomp_says(command: list[str], **variables: str) -> str:
    """Run a command, and return the spin count that torch's OpenMP says it read when it was loaded."""
    plain = {name: x for name, x in os.environ.items() if name not in (POLICY_VARIABLE, SPIN_VARIABLE)}
    run = subprocess.run(
        [sys.executable, *command],
        env={**plain, **variables, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    lines = [line for line in run.stderr.splitlines() if LINE in line]
    if not lines:
        pytest.skip("torch's OpenMP is not GNU's")
    return lines[0].partition(LINE)[2].strip("'")


def test_the_command_line_reaches_torch_s_openmp() -> None:
    doctor = ["-m", "kprune_export", "doctor"]
    assert libgomp_says(doctor) == str(SPINS)
    assert libgomp_says(doctor, **{SPIN_VARIABLE: "77"}) == "77"
    default = libgomp_says(["-c", "import torch"])
    assert default != str(SPINS)
    assert libgomp_says(doctor, **{POLICY_VARIABLE: "PASSIVE"}) == "0"


def test_the_process_of_a_sweep_s_trial_does_too() -> None:
    """It is started with no order here: it has chosen by then, and so has what it starts."""
    program = (
        "import kprune_export.experiments.sweep.worker as worker, io, sys\n"
        "sys.stdin = io.StringIO('')\n"
        "try:\n    worker.main()\nexcept ValueError:\n    pass\n"
        "import subprocess\n"
        "subprocess.run([sys.executable, '-c', 'import torch'])\n"
    )
    assert libgomp_says(["-c", program]) == str(SPINS)
