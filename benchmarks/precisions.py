"""What each precision costs and gives: sizes, build time, parity and fidelity of ONNX files and TensorRT engines.

    python benchmarks/precisions.py MODEL TRAIN_TEXTS DEV_TEXTS [--rates 0,0.5,0.8]

MODEL is a sentence embedder, the texts are STS-B's. Each rate's model is written for ONNX Runtime's CPU provider and
for TensorRT in every precision. Parity is the largest difference from torch, over all shapes and paddings (int8: on
calibration texts); fidelity the mean cosine to the dense model's embeddings, and Spearman's correlation with the
labels, on DEV_TEXTS. Where there is no GPU a TensorRT graph is run by ONNX Runtime on the CPU (bf16 with every result
rounded), and its engine built only.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from exporters.onnx.export import exported_graph
from exporters.onnx.write import write_variant
from exporters.open import open_variant
from exporters.parity.check import check_parity
from exporters.runners.base import Runner
from exporters.runners.torch_runner import TorchRunner
from exporters.tensorrt import EngineSettings, OptimizationProfile, engine_from_onnx
from exporters.variant import REFERENCE, Precision, Runtime, Variant
from kprune_export.evaluation.fidelity import row_cosines
from kprune_export.evaluation.metrics import cosine_of_pairs, spearman
from kprune_export.model_export import feeds_of, model_spec, tolerance_of
from pruning import PruningSettings, ServingModule, load_checkpoint, prune_checkpoint
from pruning.calibration.examples import Example, flatten_pairs, read_examples, split_examples
from pruning.checkpoint.load import EncoderCheckpoint

PROFILES = tuple(
    OptimizationProfile.parse(text) for text in ("min=1x1,opt=1x128,max=1x512", "min=1x1,opt=8x128,max=32x512")
)
VARIANTS = [
    *(Variant(Runtime.ONNXRUNTIME, precision) for precision in (Precision.FP32, Precision.FP16, Precision.INT8)),
    *(Variant(Runtime.TENSORRT, precision) for precision in Precision),
]


def embed(runner: Runner, checkpoint: EncoderCheckpoint, texts: list[Example]) -> NDArray[np.float32]:
    """Return the embeddings of texts, in their order: (texts, d)."""
    rows: list[NDArray[np.float32]] = [np.empty(0)] * len(texts)
    for batch in checkpoint.batches(texts):
        found = runner.run({name: batch.inputs[name].numpy() for name in checkpoint.inputs})
        for row, values in zip(batch.rows, next(iter(found.values())), strict=True):
            rows[row] = values
    return np.stack(rows)


def main() -> None:
    """Measure every rate and variant and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("train")
    parser.add_argument("dev")
    parser.add_argument("--rates", default="0,0.5,0.8")
    parser.add_argument("--samples", type=int, default=1000)
    options = parser.parse_args()
    train, _ = split_examples(flatten_pairs(read_examples(options.train)), options.samples, 0, 0)
    dev = read_examples(options.dev)
    texts = list(flatten_pairs(dev))
    place = {example.text: number for number, example in enumerate(texts)}
    labels = [float(str(example.label)) for example in dev]
    dense: NDArray[np.float32] | None = None
    print("| removed | variant | ONNX MiB | engine MiB | build s | parity error | mean cosine | Spearman | in 8 bits |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rate in [float(text) for text in options.rates.split(",")]:
        checkpoint = load_checkpoint(options.model)
        feeds = feeds_of(checkpoint, train)
        if rate:
            prune_checkpoint(checkpoint, train, PruningSettings(flops_reduction=rate))
        spec, module = model_spec(checkpoint, {}), ServingModule(checkpoint).eval()
        graph = exported_graph(module, spec)
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for variant in VARIANTS:
                record = write_variant(graph, spec, variant, folder, feeds, 2)
                size = build_s = None
                if variant.runtime is Runtime.TENSORRT:
                    start = time.perf_counter()
                    settings = EngineSettings(profiles=PROFILES)
                    path = folder / record.file.name
                    built = engine_from_onnx(path, spec, variant.precision, folder, path.stem, settings)
                    build_s, size = time.perf_counter() - start, built.record.plan_bytes / 2**20
                with open_variant(variant, folder, folder, 2) as runner:
                    int8 = feeds if variant.precision is Precision.INT8 else ()
                    parity = check_parity(
                        TorchRunner(module, spec), runner, spec, tolerance=tolerance_of(variant, record), texts=int8
                    )
                    parity.raise_if_failed()
                    found = embed(runner, checkpoint, texts)
                if dense is None and variant == REFERENCE and not rate:
                    dense = found
                cosine = float(row_cosines(dense, found).mean()) if dense is not None else float("nan")
                first, second = ([place[str(text)] for text in column] for column in _columns(dev))
                cosines = cosine_of_pairs(found[first], found[second])
                bits = [x.quantized for x in record.matmuls]
                print(
                    f"| {rate:.0%} | {variant} | {record.file.size_bytes / 2**20:.1f} | "
                    f"{'' if size is None else f'{size:.1f}'} | {'' if build_s is None else f'{build_s:.1f}'} | "
                    f"{parity.worst.max_abs_error:.1e} | {cosine:.4f} | "
                    f"{100 * spearman(cosines, cosines, labels).dense:.2f} | "
                    f"{f'{sum(bits)} of {len(bits)}' if bits else ''} |",
                    flush=True,
                )


def _columns(pairs: list[Example]) -> tuple[list[str], list[str]]:
    return [pair.text for pair in pairs], [str(pair.pair) for pair in pairs]


if __name__ == "__main__":
    main()
