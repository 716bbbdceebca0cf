"""The machines that a bundle was timed on: each gets a configuration of its own, which a server is started with.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/user_guide/model_configuration.html
(custom model configuration)
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporters.machine.description import MachineRecord
from exporters.timing.latency import LatencyReport
from kprune_export.bundle.layout import LATENCY, MANIFEST
from kprune_export.bundle.variant_report import Reports
from kprune_export.bundle.verify import verify_bundle
from kprune_export.errors import BundleError, VerificationError
from pruning.checkpoint.source import file_sha256


@dataclass(frozen=True)
class Timings:
    """What was timed on one machine.

    Attributes:
        name: the machine's, for a configuration: its GPU's, or its processor's with their number.
        machine: the same in words.
        reports: by the variants' names.

    """

    name: str
    machine: str
    reports: Mapping[str, LatencyReport]


def read_timings(path: Path) -> tuple[Timings, ...]:
    """Read a latency.json; nothing where nothing was timed."""
    reports = Reports[LatencyReport].read(path).variants
    if not reports:
        return ()
    machine = next(iter(reports.values())).subject.machine
    words = machine.gpu.name if machine.gpu else f"{machine.cpu_model}, {machine.processors}"
    return (Timings(machine_name(machine), words, reports),)


def machine_name(machine: MachineRecord) -> str:
    """Return a name without spaces: ``NVIDIA-H200``, ``AMD-EPYC-7B13-8-processors``."""
    words = machine.gpu.name if machine.gpu else f"{machine.cpu_model} {machine.processors}"
    return re.sub(r"[^A-Za-z0-9.]+", "-", re.sub(r"\((R|TM|C)\)", " ", words)).strip("-.")


def read_validations(bundle: Path, folders: Sequence[Path]) -> tuple[Timings, ...]:
    """Read what `validate` timed elsewhere.

    Args:
        bundle: the bundle that was validated.
        folders: what `validate` wrote, each on another machine.

    Raises:
        BundleError: one is not of this bundle.
        VerificationError: one has changed.

    """
    validated = file_sha256(bundle / MANIFEST)
    found: list[Timings] = []
    for folder in folders:
        manifest, difference = verify_bundle(folder)
        if difference:
            raise VerificationError(f"{folder} has changed since it was made: {'; '.join(difference.lines())}.")
        if manifest.validated_sha256 != validated:
            raise BundleError(
                f"{folder} does not hold what validate found of {bundle} as it is: run kprune-export validate "
                f"{bundle} --output {folder} on the other machine."
            )
        found += read_timings(folder / LATENCY)
    return tuple(found)


def by_machine(timings: Sequence[Timings]) -> tuple[Timings, ...]:
    """Return the timings with one for each machine, the last that is given."""
    return tuple({x.name: x for x in timings}.values())
