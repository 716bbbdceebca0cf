"""Which graph form ONNX Runtime's CPU provider runs fastest: ours against the simple alternatives.

    python benchmarks/graph_forms.py MODEL TEXTS [--rates 0,0.5,0.8] [--shapes 1x128,8x128] [--seconds 4]

Prunes MODEL at each rate, writes its graph in every form, and times all forms of a rate in turn, in short blocks,
with one shared thread pool. Prints the median time of each, and how many times as fast as the dense graph that torch
exports it is. ``FLOPs`` is what the encoder's FLOPs alone would give.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

from exporters.inputs import synthetic_inputs
from exporters.onnx.export import exported_graph
from exporters.onnx.file import write_onnx
from exporters.onnx.passes.attention import attend_token_major, decompose_attention, fold_attention_biases
from exporters.onnx.passes.residuals import subtract_residuals
from exporters.onnx.write import Precision, write_variant
from exporters.runners.base import Feeds
from exporters.runners.onnxruntime_runner import CPU_PROVIDER, session_options, share_thread_pool
from exporters.spec import Shape
from exporters.variant import REFERENCE, Runtime, Variant
from kprune_export.model_export import feeds_of, model_spec
from pruning import PruningSettings, ServingModule, load_checkpoint, prune_checkpoint
from pruning.calibration.examples import flatten_pairs, read_examples, split_examples

THREADS = 2
Rewrite = Callable[[ir.Model], object]
FORMS: dict[str, tuple[Rewrite, ...]] = {
    "as torch exports it": (),
    "attention decomposed": (decompose_attention,),
    "attention token-major": (attend_token_major,),
    "+ attention biases folded": (attend_token_major, fold_attention_biases),
    "residuals subtracted": (subtract_residuals,),
}
NOT_FUSED = "as torch exports it, SkipLayerNormFusion off"
OURS, OURS_INT8, FP16 = "ours, fp32", "ours, int8", "ours, fp16"
LIBRARY_INT8 = "as torch exports it, quantize_dynamic"


def write_forms(checkpoint: object, feeds: Sequence[Feeds], folder: Path) -> dict[str, Path]:
    """Write a checkpoint's graph in every form and return the files."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    spec = model_spec(checkpoint, {})  # type: ignore[arg-type]
    base = exported_graph(ServingModule(checkpoint), spec)  # type: ignore[arg-type]
    files = {}
    for number, (name, rewrites) in enumerate(FORMS.items()):
        graph = base.clone()
        for rewrite in rewrites:
            rewrite(graph)
        files[name] = write_onnx(graph, folder / f"form-{number}.onnx").path
    files[NOT_FUSED] = files["as torch exports it"]
    for name, precision in ((OURS, Precision.FP32), (FP16, Precision.FP16), (OURS_INT8, Precision.INT8)):
        variant = REFERENCE if precision is Precision.FP32 else Variant(Runtime.ONNXRUNTIME, precision)
        files[name] = folder / write_variant(base, spec, variant, folder, feeds, THREADS).file.name
    files[LIBRARY_INT8] = folder / "library-int8.onnx"
    quantize_dynamic(
        files["as torch exports it"],
        files[LIBRARY_INT8],
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    return files


def open_sessions(files: dict[str, Path]) -> dict[str, onnxruntime.InferenceSession]:
    """Open every form; one of them with ONNX Runtime's fusion turned off, which a file cannot ask for."""
    off = {NOT_FUSED: ["SkipLayerNormFusion"]}
    return {
        name: onnxruntime.InferenceSession(
            path, session_options(THREADS, timed=True), providers=[CPU_PROVIDER], disabled_optimizers=off.get(name)
        )
        for name, path in files.items()
    }


def time_in_turn(
    sessions: dict[str, onnxruntime.InferenceSession], feeds: Feeds, seconds: float
) -> dict[str, list[float]]:
    """Time all sessions in turn, call by call, for some seconds each; returns milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        session.run(None, feeds)
    end = time.perf_counter() + seconds * len(sessions)
    while time.perf_counter() < end:
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds)
            times[name].append(1000 * (time.perf_counter() - start))
    return times


def main() -> None:
    """Measure every rate and shape and print a table for each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts")
    parser.add_argument("--rates", default="0,0.5,0.8")
    parser.add_argument("--shapes", default="1x128,8x128")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--samples", type=int, default=300)
    options = parser.parse_args()
    share_thread_pool(THREADS)
    shapes = [Shape.parse(text) for text in options.shapes.split(",")]
    texts, _ = split_examples(flatten_pairs(read_examples(options.texts)), options.samples, 0, 0)
    found: dict[Shape, dict[float, dict[str, float]]] = {shape: {} for shape in shapes}
    implied = {}
    for rate in [float(text) for text in options.rates.split(",")]:
        checkpoint = load_checkpoint(options.model)
        feeds = feeds_of(checkpoint, texts)
        implied[rate] = 1.0
        if rate:
            plan = prune_checkpoint(checkpoint, texts, PruningSettings(flops_reduction=rate))
            implied[rate] = plan.dense_flops / plan.kept_flops
        with tempfile.TemporaryDirectory() as folder:
            sessions = open_sessions(write_forms(checkpoint, feeds, Path(folder)))
            for shape in shapes:
                inputs = synthetic_inputs(model_spec(checkpoint, {}), shape)
                times = time_in_turn(sessions, inputs, options.seconds)
                found[shape][rate] = {name: float(np.median(values)) for name, values in times.items()}
    for shape, by_rate in found.items():
        dense = by_rate[0.0]["as torch exports it"] if 0.0 in by_rate else None
        ours = by_rate[0.0][OURS] if 0.0 in by_rate else None
        print(f"\n{shape}, median ms" + (" (times as fast as dense as torch exports it)" if dense else ""))
        print("| form | " + " | ".join(f"{rate:.0%} removed" for rate in by_rate) + " |")
        print("|---" * (len(by_rate) + 1) + "|")
        for name in next(iter(by_rate.values())):
            row = [f"{x[name]:.2f}" + (f" ({dense / x[name]:.2f})" if dense else "") for x in by_rate.values()]
            print(f"| {name} | " + " | ".join(row) + " |")
        if ours:
            row = [f"{ours / x[OURS]:.2f} of {implied[rate]:.2f}" for rate, x in by_rate.items()]
            print("| ours fp32 over ours dense, of what FLOPs alone would give | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
