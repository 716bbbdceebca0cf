"""Checking a server: concurrent requests of mixed lengths, and whether the answers are the reference's."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from exporters.parity.check import Tolerance
from kprune_export.errors import ServingError
from kprune_export.triton.answers import AnswerCheck, worst_of
from kprune_export.triton.clients import Client, open_client
from kprune_export.triton.repository_record import RepositoryRecord
from kprune_export.triton.requests import Reference, Request, encoder_requests, text_requests
from kprune_export.triton.server import Endpoints
from pruning.calibration.examples import Example


@dataclass(frozen=True)
class Load:
    """How much is asked: requests for each model over each protocol, and how many of them at once."""

    requests: int = 32
    concurrency: int = 8


class CheckRow(BaseModel):
    """One model over one protocol.

    Attributes:
        requests: how many were sent.
        texts: texts in them.
        failures: what is wrong, in words, request by request.
        max_abs_error: the largest difference from the reference.
        tolerance: what is accepted there.
        p50_ms: the median time of a request, from the client's side.
        p99_ms: 99 % are faster.

    """

    model_config = ConfigDict(frozen=True)

    model: str
    protocol: str
    requests: int
    texts: int
    failures: tuple[str, ...]
    max_abs_error: float
    tolerance: float
    p50_ms: float
    p99_ms: float


class CheckReport(BaseModel):
    """A whole check: what was asked, what it was compared with, and what came of it."""

    model_config = ConfigDict(frozen=True)

    server: str
    reference: str
    concurrency: int
    rows: tuple[CheckRow, ...]

    @property
    def passed(self) -> bool:
        """Whether every answer was right."""
        return not any(row.failures for row in self.rows)


@dataclass(frozen=True)
class _Answer:
    """What became of a request, and how long it took."""

    check: AnswerCheck
    seconds: float


def check_server(
    repository: Path,
    endpoints: Endpoints,
    server: str,
    examples: Sequence[Example],
    bundle: Path | None = None,
    load: Load | None = None,
) -> CheckReport:
    """Ask a server for everything that a repository serves.

    Args:
        repository: the repository that it serves.
        endpoints: where it answers.
        server: what it is called in the report.
        examples: texts to send.
        bundle: the bundle that the repository was made from, to compare with torch.
        load: how much is asked.

    Raises:
        ServingError: the server is not there, or does not serve the repository's models.
        BundleError: there is nothing to compare with.

    """
    load = load or Load()
    record = RepositoryRecord.of_repository(repository)
    reference = Reference(repository, record, bundle)
    for protocol, address in endpoints.protocols.items():
        with open_client(protocol, address) as client:
            _check_ready(client, record.models, f"{address} ({protocol})")
    rows = []
    for encoder in record.encoders:
        asked = {encoder.name: encoder_requests(record, encoder, reference, load.requests)}
        if record.text:
            texts = text_requests(record, encoder, reference, examples, load.requests)
            asked[record.text.ensembles[encoder.name]] = texts
        for model, requests in asked.items():
            for protocol, address in endpoints.protocols.items():
                answers = _ask(protocol, address, model, requests, encoder.tolerance, load.concurrency)
                rows.append(_row(model, protocol, requests, answers))
    return CheckReport(server=server, reference=reference.name, concurrency=load.concurrency, rows=tuple(rows))


def _check_ready(client: Client, models: Sequence[str], where: str) -> None:
    for model in models:
        try:
            ready = client.is_ready(model)
        except Exception as error:  # tritonclient's, gevent's and the system's share no base class
            raise ServingError(f"No Triton server answers at {where}: {error}.") from error
        if not ready:
            raise ServingError(f"The server at {where} does not serve {model}: load the repository into it.")


def _ask(
    protocol: str, address: str, model: str, requests: Sequence[Request], tolerance: Tolerance, concurrency: int
) -> list[_Answer]:
    """Send requests from several threads, each with a connection of its own."""

    def work(mine: Sequence[Request]) -> list[_Answer]:
        with open_client(protocol, address) as client:
            return [_answer(client, model, request, tolerance) for request in mine]

    shares = [requests[start::concurrency] for start in range(concurrency)]
    with ThreadPoolExecutor(concurrency) as pool:
        return [answer for answers in pool.map(work, shares) for answer in answers]


def _answer(client: Client, model: str, request: Request, tolerance: Tolerance) -> _Answer:
    start = time.perf_counter()
    try:
        found = client.infer(model, request.inputs, request.expected.outputs)
    except Exception as error:  # as above: whatever it is, the request failed
        return _Answer(AnswerCheck(f"the request failed: {error}", 0.0, 0.0), time.perf_counter() - start)
    seconds = time.perf_counter() - start
    return _Answer(request.expected.check(found, tolerance), seconds)


def _row(model: str, protocol: str, requests: Sequence[Request], answers: Sequence[_Answer]) -> CheckRow:
    checks = [answer.check for answer in answers]
    worst = worst_of(checks)
    p50, p99 = (float(x) for x in np.percentile([1000 * answer.seconds for answer in answers], (50, 99)))
    return CheckRow(
        model=model,
        protocol=protocol,
        requests=len(answers),
        texts=sum(request.texts for request in requests),
        failures=tuple(check.problem for check in checks if check.problem),
        max_abs_error=worst.error,
        tolerance=worst.tolerance,
        p50_ms=p50,
        p99_ms=p99,
    )
