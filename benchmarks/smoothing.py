"""What smoothing activations does to int8 on the CPU: products in 8 bits, fidelity and time.

    python benchmarks/smoothing.py MODEL TRAIN_TEXTS DEV_TEXTS [--rates 0,0.5]

MODEL is a sentence embedder. Each rate's model is written in int8 without smoothing and with it, with several
strengths. Fidelity is the mean cosine to the same model in fp32, and to the dense one, on
DEV_TEXTS; times are of all forms in turn with the unsmoothed one, medians of ratios.
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

import numpy as np
import torch
from precisions import embed
from quality import outputs

from exporters.onnx.export import exported_graph
from exporters.onnx.file import write_onnx
from exporters.onnx.passes.attention import attend_token_major, fold_attention_biases
from exporters.onnx.passes.embedding_tables import quantize_tables
from exporters.onnx.passes.int8 import CPU, matmul_errors, quantize_matmuls
from exporters.onnx.passes.residuals import subtract_residuals
from exporters.onnx.passes.smoothing import smooth_activations
from exporters.open import open_variant
from exporters.runners.onnxruntime_runner import share_thread_pool
from exporters.spec import Shape
from exporters.timing.latency import TimingSettings, timed_in_turn
from exporters.timing.timers import HostClock
from exporters.variant import Precision, Runtime, Variant
from kprune_export.evaluation.fidelity import row_cosines
from kprune_export.model_export import feeds_of, model_spec
from pruning import PruningSettings, ServingModule, load_checkpoint, prune_checkpoint
from pruning.calibration.examples import flatten_pairs, read_examples, split_examples

THREADS = 2
INT8 = Variant(Runtime.ONNXRUNTIME, Precision.INT8)
STRENGTHS = (None, 0.5, 0.65, 0.75, 0.85)
"""The paper's alpha; first no smoothing at all."""


def main() -> None:
    """Measure every rate and form and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("train", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--rates", default="0,0.5")
    parser.add_argument("--shapes", default="1x128,8x128")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--held-out-texts", type=int, default=200)
    options = parser.parse_args()
    share_thread_pool(THREADS)
    torch.set_num_threads(THREADS)
    shapes = [Shape.parse(text) for text in options.shapes.split(",")]
    train, _ = split_examples(flatten_pairs(read_examples(options.train)), options.samples, 200, 0)
    held_out = list(flatten_pairs(read_examples(options.dev))[: options.held_out_texts])
    teacher = outputs(load_checkpoint(options.model), held_out).numpy()
    columns = ("removed", "alpha", "smoothed", "in 8 bits", "largest error", "cosine to fp32")
    print("| " + " | ".join((*columns, "to dense", *(f"time {shape}" for shape in shapes))) + " |")
    print("|---" * (len(columns) + 1 + len(shapes)) + "|")
    for rate in [float(text) for text in options.rates.split(",")]:
        checkpoint = load_checkpoint(options.model)
        feeds = feeds_of(checkpoint, train)
        if rate:
            prune_checkpoint(checkpoint, train, PruningSettings(flops_reduction=rate))
            checkpoint.model.requires_grad_(False)
        exact = outputs(checkpoint, held_out).numpy()
        spec = model_spec(checkpoint, {})
        base = exported_graph(ServingModule(checkpoint).eval(), spec)
        attend_token_major(base)
        fold_attention_biases(base)
        subtract_residuals(base)
        errors, channels = matmul_errors(base, feeds, THREADS, CPU)
        with contextlib.ExitStack() as stack:
            first = None
            for strength in STRENGTHS:
                graph = base.clone()
                found = errors
                if strength is not None:
                    found = smooth_activations(graph, errors, channels, feeds, THREADS, CPU, strength=strength)
                quantize_matmuls(graph, found, CPU)
                quantize_tables(graph)
                graph.metadata_props.update(spec.metadata)
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                write_onnx(graph, folder / INT8.file_name)
                runner = stack.enter_context(open_variant(INT8, folder, folder, THREADS, timed=True))
                first = first or runner
                vectors = embed(runner, checkpoint, held_out)
                timed = [timed_in_turn((runner, first), spec, x, TimingSettings(), HostClock()) for x in shapes]
                smoothed, narrow = (sum(getattr(x, name) for x in found) for name in ("smoothed", "quantized"))
                print(
                    f"| {rate:.0%} | {'none' if strength is None else strength} | "
                    f"{smoothed} | {narrow} of {len(found)} | {max(x.relative_error for x in found):.1%} | "
                    f"{row_cosines(exact, vectors).mean():.4f} | {row_cosines(teacher, vectors).mean():.4f} | "
                    + " | ".join(f"{np.median(x.ratios):.3f}" for x in timed)
                    + " |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
