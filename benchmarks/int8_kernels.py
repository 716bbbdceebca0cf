"""int8 weights in several forms on several processors: time, and how near the outputs are to fp32.

    python benchmarks/int8_kernels.py MODEL TEXTS [--rate 0.5] [--shapes 1x128,8x128] [--seconds 4]

Writes MODEL's graph for ONNX Runtime's CPU provider in fp32 and in four forms of int8, and runs all of them in turn:
on this processor, on this one without AMX, and on this one without AVX-512, VNNI and AMX. The last two hide what CPUID
says (tests/processors/limit_cpuid.c), so that ONNX Runtime takes the kernels of older processors at full speed; they
are left out where the system does not let CPUID fault. Times are relative to full-range int8 weights, medians over
ratios of neighbouring calls. Cosines are of the outputs for 256 texts to those of the fp32 graph on this processor.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from graph_forms import time_in_turn
from numpy.typing import NDArray

from exporters.inputs import synthetic_inputs
from exporters.machine.description import describe_machine
from exporters.onnx.export import exported_graph
from exporters.onnx.passes import int8
from exporters.onnx.passes.editing import constant_of
from exporters.onnx.passes.int8 import Float, IntegerForm, symmetric_scales
from exporters.onnx.write import write_variant
from exporters.runners.onnxruntime_runner import CPU_PROVIDER, session_options, share_thread_pool
from exporters.spec import ModelSpec, Shape
from exporters.variant import REFERENCE, Precision, Runtime, Variant
from kprune_export.evaluation.fidelity import row_cosines
from kprune_export.model_export import feeds_of, model_spec
from pruning import PruningSettings, ServingModule, load_checkpoint, prune_checkpoint
from pruning.calibration.examples import flatten_pairs, read_examples, split_examples

THREADS = 2
HIDER = Path(__file__).parents[1] / "tests/processors/limit_cpuid.c"
PROCESSORS = {"this processor": None, "without AMX": "amx", "without AVX-512, VNNI and AMX": "all"}
FULL, SHIPPED, SEVEN, UNSIGNED = "int8 weights, full range", "int8 weights, pairs within 128", "7 bits", "uint8 weights"


@dataclass(frozen=True)
class SevenBits(IntegerForm):
    """Weights from -63 to 63."""

    def weight_scales(self, weight: Float) -> Float:
        """Return a scale for each output, (1, outputs)."""
        return symmetric_scales(weight, axis=0) * (127 / 63)


FORMS = {
    FULL: IntegerForm(signed_activations=False, saturates=False),
    SHIPPED: int8.CPU,
    SEVEN: SevenBits(signed_activations=False, saturates=False),
}


def with_unsigned_weights(path: Path, result: Path) -> None:
    """Write a graph with its int8 weights as uint8 with a zero point of 128."""
    model = ir.load(path)
    for node in model.graph:
        if node.op_type != "DequantizeLinear" or node.inputs[0] is None or node.inputs[0].const_value is None:
            continue
        for index in (0, 2):
            value = node.inputs[index]
            numbers = (constant_of(value).astype(np.int16) + 128).astype(np.uint8)
            assert value is not None
            value.const_value = ir.tensor(numbers, name=value.name)
            value.type = ir.TensorType(ir.DataType.UINT8)
    ir.save(model, result)


def measure(folder: Path, shapes: list[Shape], seconds: float) -> None:
    """Run all graphs of a folder in this process and print what came out as JSON."""
    import onnxruntime

    share_thread_pool(THREADS)
    spec = ModelSpec(**json.loads((folder / "spec.json").read_text()))
    feeds = [dict(np.load(path)) for path in sorted(folder.glob("texts-*.npz"))]
    sessions = {
        path.stem: onnxruntime.InferenceSession(path, session_options(THREADS), providers=[CPU_PROVIDER])
        for path in sorted(folder.glob("*.onnx"))
    }
    outputs = {name: np.concatenate([x.run(None, batch)[0] for batch in feeds]) for name, x in sessions.items()}
    times = {str(shape): time_in_turn(sessions, synthetic_inputs(spec, shape), seconds) for shape in shapes}
    print(json.dumps({"outputs": {name: x.tolist() for name, x in outputs.items()}, "times": times}))


def main() -> None:
    """Write all forms, measure each processor in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint, or with --measure a folder of graphs")
    parser.add_argument("texts", nargs="?", type=Path)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--shapes", default="1x128,8x128")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = [Shape.parse(text) for text in options.shapes.split(",")]
    if options.measure:
        measure(Path(options.model), shapes, options.seconds)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        names = write_forms(options.model, options.texts, options.rate, folder / "graphs")
        machine = describe_machine()
        print(f"{machine.cpu_model} ({', '.join(machine.instruction_sets)}), {options.rate:.0%} removed\n")
        columns = " | ".join(f"{shape}, relative (ms)" for shape in shapes)
        print(f"| processor | form | mean cosine to fp32 | smallest | {columns} |")
        print("|---" * (4 + len(shapes)) + "|")
        exact: NDArray[np.float64] | None = None
        for processor, hidden in PROCESSORS.items():
            found = on_processor(hidden, folder, options.shapes, options.seconds)
            if found is None:
                print(f"| {processor} | not available: CPUID does not fault here |||{'|' * len(shapes)}")
                continue
            if exact is None:
                exact = np.array(found["outputs"]["fp32"])
            for stem, name in names.items():
                cosines = row_cosines(exact, np.array(found["outputs"][stem]))
                row = []
                for times in found["times"].values():
                    ratio = np.median(np.array(times[stem]) / np.array(times[next(iter(names))]))
                    row.append(f"{ratio:.2f} ({np.median(times[stem]):.2f})")
                print(f"| {processor} | {name} | {cosines.mean():.4f} | {cosines.min():.4f} | {' | '.join(row)} |")


def write_forms(model: str, texts: Path, rate: float, folder: Path) -> dict[str, str]:
    """Write the graphs, the inputs and the specification; return what each file's stem stands for."""
    folder.mkdir()
    checkpoint = load_checkpoint(model)
    calibration, held_out = split_examples(flatten_pairs(read_examples(texts)), 500, 256, 0)
    if rate:
        prune_checkpoint(checkpoint, calibration, PruningSettings(flops_reduction=rate))
    spec = model_spec(checkpoint, {})
    base = exported_graph(ServingModule(checkpoint).eval(), spec)
    feeds = feeds_of(checkpoint, calibration)
    names = {}
    cpu = int8.CPU
    for number, (name, form) in enumerate(FORMS.items()):
        int8.CPU = form  # type: ignore[misc]  # what write_variant reads
        made = write_variant(base, spec, Variant(Runtime.ONNXRUNTIME, Precision.INT8), folder, feeds, THREADS)
        (folder / made.file.name).rename(folder / f"form-{number}.onnx")
        names[f"form-{number}"] = name
    int8.CPU = cpu  # type: ignore[misc]
    with_unsigned_weights(folder / "form-0.onnx", folder / "unsigned.onnx")
    made = write_variant(base, spec, REFERENCE, folder, (), THREADS)
    (folder / made.file.name).rename(folder / "fp32.onnx")
    for number, batch in enumerate(checkpoint.batches(held_out)):
        np.savez(folder / f"texts-{number:03}.npz", **{x: batch.inputs[x].numpy() for x in checkpoint.inputs})
    fields = {name: getattr(spec, name) for name in spec.__dataclass_fields__ if name not in ("outputs", "metadata")}
    (folder / "spec.json").write_text(json.dumps({**fields, "outputs": (), "metadata": {}}))
    return names | {"unsigned": UNSIGNED, "fp32": "fp32"}


def on_processor(hidden: str | None, folder: Path, shapes: str, seconds: float) -> dict[str, dict[str, dict]] | None:
    """Measure in a process that sees a processor; None where it is not available."""
    environment = dict(os.environ)
    if hidden is not None:
        library = folder / "limit_cpuid.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HIDER], check=True)
        environment |= {"LD_PRELOAD": str(library), "KPRUNE_HIDE": hidden}
    command = [sys.executable, __file__, str(folder / "graphs"), "--measure", "--shapes", shapes]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], env=environment, stdout=subprocess.PIPE, check=False, text=True
    )
    if done.returncode == 77:
        return None
    done.check_returncode()
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
