"""A Triton server on loopback, for as long as a check lasts."""

import contextlib
import http.client
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from exporters.errors import MissingRuntimeError
from exporters.processes.guardian import end_guardian, start_guardian
from exporters.processes.scratch import scratch_folder
from kprune_export.errors import ServingError

LOOPBACK = "127.0.0.1"
_USUAL = "/opt/tritonserver/bin/tritonserver"
"""Where NVIDIA's container has it."""
_INSTEAD = {
    "onnxruntime": "For a server without the backend onnxruntime make the repository with --backend python "
    "(prune-and-build: --triton-backend python).",
    "tensorrt": "Engines need a server with the backend tensorrt: name one with --server, or serve the bundle's ONNX "
    "files with --backend onnxruntime or python.",
    "python": "Texts, and --backend python, need a server with the Python backend: name one with --server, or serve "
    "the encoder alone with --no-text.",
}
"""What to do where a server lacks a backend."""


@dataclass(frozen=True)
class Endpoints:
    """Where a server answers, as HOST:PORT; None where a protocol is not asked for."""

    http: str | None
    grpc: str | None

    @property
    def protocols(self) -> dict[str, str]:
        """The addresses by their protocols."""
        return {name: url for name, url in (("http", self.http), ("grpc", self.grpc)) if url is not None}


def find_server(given: str | None = None) -> str:
    """Return the path of a tritonserver.

    Args:
        given: a path or a name on the PATH; None for ``tritonserver`` on the PATH, or where NVIDIA's container has it.

    Raises:
        MissingRuntimeError: there is none.

    """
    found = next(filter(None, map(shutil.which, [given] if given else ["tritonserver", _USUAL])), None)
    if found is None:
        where = f"{given} is not a program" if given else f"tritonserver is neither on the PATH nor {_USUAL}"
        raise MissingRuntimeError(
            f"No Triton server: {where}: name one with --server, or the address of one that runs with --url."
        )
    return found


@contextlib.contextmanager
def running_server(
    repository: Path, binary: str, options: Sequence[str] = (), timeout_s: float = 120.0
) -> Iterator[Endpoints]:
    """Start a server on free ports of loopback, wait until it can answer, and end it, whatever happens.

    Args:
        repository: the model repository.
        binary: the server's path.
        options: further options of the server's command line.
        timeout_s: how long its models may take to load, in seconds.

    Raises:
        ServingError: it ends, or is not ready in time; with what it said.
        MissingRuntimeError: it lacks a backend of the repository, or cannot be started.

    """
    http_address, grpc_address = (f"{LOOPBACK}:{port}" for port in _free_ports(2))
    command = [os.path.abspath(binary), f"--model-repository={repository.absolute()}"]  # noqa: PTH100 - of a text
    command += ["--allow-metrics=false", "--exit-timeout-secs=5", *map(_absolute, options)]
    for name, address in (("http", http_address), ("grpc", grpc_address)):
        host, _, port = address.partition(":")
        command += [f"--{name}-address={host}", f"--{name}-port={port}"]
    # its Python backend imports modules from the working directory, which may be a checkpoint: it gets an empty one
    with scratch_folder() as empty, tempfile.TemporaryFile() as log:
        # the guardian ends it where this process is killed; the repository may be part of a bundle, which is verified
        process = start_guardian(command, compiled=[repository], log=log, cwd=empty)
        try:
            _wait(process, http_address, timeout_s, log.fileno())
            yield Endpoints(http_address, grpc_address)
        finally:
            end_guardian(process)


def _absolute(option: str) -> str:
    """Return an option of the server with the path that it names, if it names one, made absolute."""
    name, equals, value = option.partition("=")
    names_path = equals and name.endswith(("-directory", "-repository", "-file"))
    return f"{name}={Path(value).absolute()}" if names_path else option


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def _wait(process: "subprocess.Popen[bytes]", address: str, timeout_s: float, log: int) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if process.poll() is not None:
            raise _failure(f"The Triton server ended with code {process.returncode} before it was ready", log)
        if _is_ready(address):
            return
        time.sleep(0.1)
    raise _failure(f"The Triton server was not ready after {timeout_s:.0f} s", log)


def _is_ready(address: str) -> bool:
    connection = http.client.HTTPConnection(address, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):  # it does not listen yet
        return False
    finally:
        connection.close()


def _failure(what: str, log: int) -> Exception:
    """Return the error for a server that did not get ready, with the first error that it wrote."""
    text = os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace")
    lines = [line for line in text.splitlines() if re.match(r"E\d{4} ", line) and "failed to load" in line]
    lines = lines or [line for line in text.splitlines() if line.strip()][-1:]
    said = re.sub(r"^E\d{4} \S+ +\d+ \S+\] ", "", lines[0]) if lines else "it wrote nothing"
    if " cannot be started: " in said:  # so the guardian says it
        return MissingRuntimeError(f"The Triton server {said}.")
    said = f"{what}: {said[:400]}"
    if backend := re.search(r"unable to find [\w ]*'(?:libtriton_)?(\w+?)(?:\.so)?'", text):
        instead = _INSTEAD.get(backend[1], f"Name a server that has the backend {backend[1]}.")
        return MissingRuntimeError(f"{said} {instead}")
    if package := re.search(r"No module named '(\w+)", text):
        return MissingRuntimeError(f"{said} Install {package[1]} for the Python that the server's Python backend runs.")
    return ServingError(said)
