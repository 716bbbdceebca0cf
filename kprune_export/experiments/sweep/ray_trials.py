"""Making trials on a Ray cluster: one task per trial, on whatever node has the processors.

    https://docs.ray.io/en/latest/ray-core/tasks.html

A node needs this package, and the model and the texts under the same paths. What was measured for the trials travels
there, bundles travel there and back. A latency table speaks of the machine that measured it: a node of another kind
refuses it, and the trial fails with that reason.
"""

import contextlib
import io
import os
import re
import signal
import socket
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from exporters.errors import MissingRuntimeError
from exporters.processes.scratch import scratch_folder
from exporters.variant import Runtime
from kprune_export.bundle.inputs import remember_inputs
from kprune_export.bundle.layout import MANIFEST
from kprune_export.bundle.workspace import replace_bundle
from kprune_export.errors import ExitCode, ProductError, RecipeError, message_of
from kprune_export.experiments.sweep.launch import LocalTrials, ShareDone, Warn
from kprune_export.experiments.sweep.messages import Order, TrialEnd
from pruning.checkpoint.source import file_sha256

_MEASURED = ("latency_table", "sensitivity")
_ON_EVERY_NODE = ("model", "calibration", "evaluation", "timing_cache")
_LOCAL = "local"


@dataclass(frozen=True)
class NodeTask:
    """What travels to a node.

    Attributes:
        order: with paths that a node does not have.
        measured: what the trials share, by the name of its setting.
        bundle: a tar archive of what an earlier run left of the bundle, to resume from; empty where there is none.
        started_in: the sweep's working directory, whose commit the bundle records where the node has it too.

    """

    order: Order
    measured: dict[str, bytes]
    bundle: bytes
    started_in: str


@dataclass(frozen=True)
class NodeResult:
    """What travels back: how it ended, the warnings, and the finished bundle as a tar archive."""

    end: TrialEnd
    warnings: tuple[str, ...]
    bundle: bytes


class RayTrials:
    """Makes trials on a cluster. Open it with `RayTrials.connect`.

    Args:
        ray: the package.
        threads: how many processors a trial asks for: as many as the threads that it runs with.

    """

    def __init__(self, ray: Any, threads: int) -> None:
        self._ray, self._threads = ray, threads

    @classmethod
    @contextlib.contextmanager
    def connect(cls, address: str, threads: int) -> Iterator[Self]:
        """Connect to a cluster, or start one on this machine; leave it, or end it, when the context ends.

        Args:
            address: ``auto`` for the cluster that this machine is part of, ``local`` for one of its own, or where one
                is.
            threads: how many processors a trial needs.

        Raises:
            MissingRuntimeError: Ray is not installed.
            RecipeError: no cluster answers, or no node of it has so many processors.

        """
        try:
            import ray
        except ImportError as error:
            raise MissingRuntimeError(
                "Ray is not installed: pip install -c constraints.txt '.[ray]', or sweep without --ray."
            ) from error
        _check_address(address)
        with scratch_folder() as empty:
            _join(ray, address, empty)
            try:
                most = max((node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]), default=0)
                if most < threads:
                    raise RecipeError(
                        f"A trial runs with {threads} threads, but no node of the Ray cluster has more than {most:g} "
                        "processors: ask for less with --threads."
                    )
                yield cls(ray, threads)
            finally:
                ray.shutdown()

    def run(self, orders: Sequence[Order], progress: ShareDone, warn: Warn) -> list[TrialEnd]:
        """Carry out orders, put the bundles where they are to be, and return how each ended; as `LocalTrials.run`."""
        remote = self._ray.remote(max_retries=0)(run_on_node)
        waiting: dict[Any, int] = {}
        for number, order in enumerate(orders):
            needs = remote.options(num_cpus=self._threads, num_gpus=int(_takes_gpu(order)))
            waiting[needs.remote(_pack_task(order))] = number
        ends: dict[int, TrialEnd] = {}
        while waiting:
            (done, *_), _ = self._ray.wait(list(waiting), num_returns=1)
            number = waiting.pop(done)
            ends[number] = self._collect(done, orders[number], warn)
            progress(len(ends) / len(orders))
        return [ends[number] for number in range(len(orders))]

    def _collect(self, done: Any, order: Order, warn: Warn) -> TrialEnd:
        try:
            result: NodeResult = self._ray.get(done)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            return TrialEnd(error=f"its Ray task failed: {reason}", exit_code=ExitCode.INTERNAL)
        for text in result.warnings:
            warn(text)
        if result.end.error is None:
            output = Path(order.recipe["output"])
            try:
                replace_bundle(output, lambda folder: _unpack(result.bundle, folder))
            except ProductError as error:
                return TrialEnd(error=message_of(error), exit_code=error.exit_code)
            remember_inputs(file_sha256(output / MANIFEST), order.recipe)  # the node has kept its own
        return result.end


def run_on_node(task: NodeTask) -> NodeResult:
    """Carry out an order on this node, in a folder of its own and a process of its own.

    The runs of one user on a node agree who may time, whichever sweep they are of.
    """
    warnings: list[str] = []
    with scratch_folder() as folder:
        output = folder / "bundle"
        own: dict[str, Any] = {"output": str(output)}
        for setting, content in task.measured.items():
            (folder / f"{setting}.json").write_bytes(content)
            own[setting] = str(folder / f"{setting}.json")
        if task.bundle:
            _unpack(task.bundle, output)
        turns = Path(tempfile.gettempdir()) / f"kprune-turns-{os.getuid()}"
        order = task.order.model_copy(update={"recipe": task.order.recipe | own, "turns": str(turns)})
        started_in = Path(task.started_in)
        trials = LocalTrials(1, started_in if started_in.is_dir() else None)
        (end,) = trials.run([order], lambda _: None, warnings.append)
        return NodeResult(end, tuple(warnings), _pack(output) if end.error is None else b"")


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens; Ray would try for many minutes.

    Raises:
        RecipeError: nothing answers at a host and port.

    """
    found = re.fullmatch(r"\[?([^/]+?)\]?:(\d+)", address)
    if found is None:  # auto, local, or an address with a scheme
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise RecipeError(f"No Ray cluster can be used at {address}: {error}.") from error


def _join(ray: Any, address: str, empty: Path) -> None:
    """Connect to a cluster, or start one.

    Ray lets its workers import modules from the driver's working directory, before any others: it is shown an empty
    folder, which has to stay as long as the cluster that is started in it.

    Raises:
        RecipeError: no cluster answers.

    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked for reports over the network
    handler = signal.getsignal(signal.SIGTERM)  # which Ray replaces
    try:
        with contextlib.chdir(empty):
            ray.init(
                address,
                logging_level="error",
                log_to_driver=False,
                include_dashboard=False if address == _LOCAL else None,
            )
    except Exception as error:  # Ray raises just that where a node does not start in time
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(f"No Ray cluster can be used at {address}: {reason}") from error
    finally:
        signal.signal(signal.SIGTERM, handler)


def _pack_task(order: Order) -> NodeTask:
    recipe = dict(order.recipe)
    measured = {name: Path(recipe[name]).read_bytes() for name in _MEASURED if name in recipe}
    for name in _ON_EVERY_NODE:
        if recipe.get(name) and Path(recipe[name]).expanduser().exists():
            recipe[name] = str(Path(recipe[name]).expanduser().absolute())
    output = Path(recipe["output"])
    bundle = _pack(output) if output.is_dir() else b""
    return NodeTask(order.model_copy(update={"recipe": recipe}), measured, bundle, str(Path.cwd()))


def _takes_gpu(order: Order) -> bool:
    runtimes = order.recipe.get("runtime", ())
    return any(not Runtime(x).on_cpu for x in runtimes) or str(order.recipe.get("device", "")).startswith("cuda")


def _pack(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, arcname=".")
    return buffer.getvalue()


def _unpack(content: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(folder, filter=_as_new)  # noqa: S202 - it is the data filter, but for modes


def _as_new(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
    """Return what of a member of an archive is unpacked: not its mode, which this machine's umask decides."""
    return tarfile.data_filter(member, folder).replace(mode=None, deep=False)  # type: ignore[arg-type]  # as documented
