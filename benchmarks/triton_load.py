"""Dense against pruned through a real Triton server, at rising concurrency.

    python benchmarks/triton_load.py BUNDLE --server tritonserver --output load [--texts FILE | --tokens 128]
        [--dense MODEL] [--variant onnxruntime-fp32] [--concurrency 1,2,4,8] [--blocks 6] [--seconds 5]

Serves a bundle's variant and the dense checkpoint that it was made from, exported in fp32 for the same runtime, from
one repository, with the Python backend and the same configuration. So many clients as the concurrency says send
requests over gRPC, each the next one when the last is answered: texts to the models that take them, or token ids to
the encoders. Dense and pruned take turns in blocks, the order changing with each. An answer that is not the one to the
same request before, or none, is an error. Writes load.json and load.svg: requests a second, p50 and p99 of a request's
time from the client's side, errors, and pruned's throughput over dense's with the least and the most of the blocks.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from exporters.inputs import synthetic_inputs
from exporters.machine.description import MachineRecord, describe_machine
from exporters.runners.base import Array
from exporters.spec import Shape
from exporters.variant import Precision
from kprune_export.bundle.inputs import repeatable_settings
from kprune_export.pipeline.run import export
from kprune_export.recipe.recipe import Recipe
from kprune_export.triton.clients import open_client
from kprune_export.triton.config import VERSION, read_config, write_config
from kprune_export.triton.encoders import GRAPH_FILE
from kprune_export.triton.repository import RepositoryRequest, write_repository
from kprune_export.triton.repository_record import RepositoryRecord
from kprune_export.triton.requests import input_spec
from kprune_export.triton.server import find_server, running_server
from pruning.calibration.examples import read_examples

DENSE, PRUNED = "dense", "pruned"
REQUESTS = 64
"""How many different requests there are."""
LARGEST_ERROR = 1e-3
"""Between two answers to one request: batches of other sizes round otherwise."""
Inputs = Mapping[str, Array]


class Cell(BaseModel):
    """One model at one concurrency."""

    model_config = ConfigDict(frozen=True)

    model: str
    concurrency: int
    requests: int
    errors: int
    per_second: float
    p50_ms: float
    p99_ms: float
    blocks_per_second: tuple[float, ...]


class Ratio(BaseModel):
    """Pruned's throughput over dense's, over all blocks, and the least and the most of any."""

    model_config = ConfigDict(frozen=True)

    concurrency: int
    ratio: float
    lowest: float
    highest: float


class Load(BaseModel):
    """The whole measurement."""

    model_config = ConfigDict(frozen=True)

    sent: str
    machine: MachineRecord
    cells: tuple[Cell, ...]
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True)
class Target:
    """A model to ask, the outputs to ask for, the requests, and the answers to them."""

    model: str
    outputs: tuple[str, ...]
    requests: Sequence[Inputs]
    answers: Sequence[Array]


@dataclass(frozen=True)
class Block:
    """What one block came to: each request's seconds, how many failed, and how long it took in all."""

    seconds: list[float]
    errors: int
    wall_s: float


def write_both(bundle: Path, dense: str, variant: str, folder: Path) -> RepositoryRecord:
    """Write a repository with the pruned variant and, by the same configuration, the dense model in fp32."""
    repository = folder / "models"
    request = RepositoryRequest(bundle=bundle, output=repository, name=PRUNED, variants=(variant,), backend="python")
    record = write_repository(request)
    recipe = {"model": dense, "output": folder / DENSE, "runtime": variant.rpartition("-")[0]}
    export(Recipe.build(None, recipe | {"precision": Precision.FP32.value}))
    (graph,) = (folder / DENSE / "onnx").glob("*.onnx")
    (encoder,) = record.encoders
    for name in (encoder.name, record.text.ensembles[encoder.name] if record.text else None):
        if name is not None:
            shutil.copytree(repository / name, repository / _dense(name))
            config = read_config(repository / _dense(name))
            config.name = _dense(name)
            for step in config.ensemble_scheduling.step:
                step.model_name = _dense(name) if step.model_name == name else step.model_name
                if step.model_name == encoder.name:
                    step.model_name = _dense(encoder.name)
            write_config(config, repository / _dense(name))
    shutil.copyfile(graph, repository / _dense(encoder.name) / VERSION / GRAPH_FILE)
    return record


def _dense(name: str) -> str:
    return name.replace(PRUNED, DENSE, 1)


def requests_of(record: RepositoryRecord, texts: str | None, tokens: int) -> tuple[str, tuple[str, ...], list[Inputs]]:
    """Return the model to ask, the output to compare, and the requests."""
    (encoder,) = record.encoders
    if texts is None:
        spec = input_spec(record, encoder)
        inputs: list[Inputs] = [synthetic_inputs(spec, Shape(1, tokens), seed=seed) for seed in range(REQUESTS)]
        return encoder.name, (encoder.outputs[0].name,), inputs
    if record.text is None:
        raise SystemExit("The bundle's task takes no texts: leave out --texts.")
    rows = read_examples(texts)[:REQUESTS]
    sent: list[Inputs] = []
    for row in rows:
        fields = zip(record.text.inputs, (row.text, row.pair), strict=False)
        sent.append({x.name: np.array([[str(value).encode()]], dtype=np.object_) for x, value in fields})
    outputs = tuple(x.name for x in record.text.outputs if x.dtype == "float32")
    return record.text.ensembles[encoder.name], outputs[:1], sent


def run_block(address: str, target: Target, concurrency: int, seconds: float) -> Block:
    """Send requests for some seconds, so many at once."""

    def work(number: int) -> tuple[list[float], int]:
        times, errors, place = [], 0, number * 7
        with open_client("grpc", address) as client:
            client.is_ready(target.model)  # connects
            while time.perf_counter() < end:
                place = (place + 1) % len(target.requests)
                start = time.perf_counter()
                try:
                    (answer,) = client.infer(target.model, target.requests[place], target.outputs).values()
                except Exception:  # whatever it is, the request failed
                    errors += 1
                    continue
                times.append(time.perf_counter() - start)
                errors += not _same(answer, target.answers[place])
        return times, errors

    begin = time.perf_counter()
    end = begin + seconds
    with ThreadPoolExecutor(concurrency) as pool:
        found = list(pool.map(work, range(concurrency)))
    wall_s = time.perf_counter() - begin
    return Block([x for times, _ in found for x in times], sum(errors for _, errors in found), wall_s)


def _same(answer: Array | None, expected: Array) -> bool:
    if answer is None or answer.shape != expected.shape:
        return False
    return float(np.abs(answer - expected).max()) <= LARGEST_ERROR * max(1.0, float(np.abs(expected).max()))


def measure(address: str, targets: Mapping[str, Target], options: argparse.Namespace) -> tuple[list[Cell], list[Ratio]]:
    """Measure every concurrency, dense and pruned in turn."""
    cells, ratios = [], []
    for concurrency in [int(text) for text in options.concurrency.split(",")]:
        blocks: dict[str, list[Block]] = {name: [] for name in targets}
        for target in targets.values():
            run_block(address, target, concurrency, min(1.0, options.seconds))
        for number in range(options.blocks):
            for name in list(targets)[:: 1 if number % 2 else -1]:
                blocks[name].append(run_block(address, targets[name], concurrency, options.seconds))
        for name, done in blocks.items():
            seconds = [x for block in done for x in block.seconds]
            p50, p99 = (float(x) for x in 1000 * np.percentile(seconds or [np.nan], (50, 99)))
            cells.append(
                Cell(
                    model=name,
                    concurrency=concurrency,
                    requests=len(seconds),
                    errors=sum(block.errors for block in done),
                    per_second=len(seconds) / sum(block.wall_s for block in done),
                    p50_ms=p50,
                    p99_ms=p99,
                    blocks_per_second=tuple(len(block.seconds) / block.wall_s for block in done),
                )
            )
        dense, pruned = cells[-2:]
        pairs = [b / a for a, b in zip(dense.blocks_per_second, pruned.blocks_per_second, strict=True)]
        ratios.append(
            Ratio(
                concurrency=concurrency,
                ratio=pruned.per_second / dense.per_second,
                lowest=min(pairs),
                highest=max(pairs),
            )
        )
    return cells, ratios


def draw(load: Load, path: Path) -> None:
    """Draw throughput and p99 over concurrency."""
    import matplotlib
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(10.4, 4.2), layout="constrained")
    panels = (("per_second", "requests a second"), ("p99_ms", "p99 of a request, ms"))
    for axis, (field, title) in zip(canvas.subplots(1, 2), panels, strict=True):
        for model, marker in ((DENSE, "o"), (PRUNED, "s")):
            rows = [x for x in load.cells if x.model == model]
            values = [getattr(x, field) for x in rows]
            axis.plot([x.concurrency for x in rows], values, marker=marker, label=model)
        axis.set_xscale("log", base=2)
        axis.set_xticks([x.concurrency for x in load.ratios], [str(x.concurrency) for x in load.ratios])
        axis.set_ylim(bottom=0)
        axis.set_xlabel("requests at once")
        axis.set_title(title, loc="left", fontsize=10)
        axis.grid(alpha=0.25)
    canvas.axes[0].legend(frameon=False)
    canvas.suptitle(f"Triton, {load.sent}; errors: {sum(x.errors for x in load.cells)}", fontsize=10)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "kprune-export"}):
        canvas.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Measure, print a table, and write JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--server")
    parser.add_argument("--dense", help="the dense checkpoint; the one in the manifest unless given")
    parser.add_argument("--variant", default="onnxruntime-fp32")
    parser.add_argument("--texts")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--concurrency", default="1,2,4,8")
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        dense = options.dense or repeatable_settings(options.bundle)["model"]
        record = write_both(options.bundle, dense, options.variant, Path(temporary))
        model, outputs, requests = requests_of(record, options.texts, options.tokens)
        with running_server(Path(temporary) / "models", find_server(options.server)) as endpoints:
            address = str(endpoints.grpc)
            targets = {}
            for name, served in ((DENSE, _dense(model)), (PRUNED, model)):
                with open_client("grpc", address) as client:
                    answers = [next(iter(client.infer(served, x, outputs).values())) for x in requests]
                targets[name] = Target(served, outputs, requests, [np.asarray(x) for x in answers])
            cells, ratios = measure(address, targets, options)
    sent = (
        f"{options.tokens} token ids a request"
        if options.texts is None
        else f"a text of {Path(options.texts).name} a request"
    )
    load = Load(sent=sent, machine=describe_machine(), cells=tuple(cells), ratios=tuple(ratios))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "load.json").write_text(load.model_dump_json(indent=2) + "\n", encoding="utf-8")
    draw(load, options.output / "load.svg")
    print("| at once | model | requests/s | p50 ms | p99 ms | errors |")
    print("|---|---|---|---|---|---|")
    for x in load.cells:
        print(f"| {x.concurrency} | {x.model} | {x.per_second:.1f} | {x.p50_ms:.1f} | {x.p99_ms:.1f} | {x.errors} |")
    for y in load.ratios:
        print(f"{y.concurrency} at once: {y.ratio:.2f} times the throughput ({y.lowest:.2f} to {y.highest:.2f})")


if __name__ == "__main__":
    main()
