"""``kprune-export prune-and-build``."""

from kprune_export.cli import options, retrieval_options, target_options
from kprune_export.cli.options import given
from kprune_export.cli.running import run_recipe


def prune_and_build(
    model: options.Model = None,
    output: options.Output = None,
    recipe: options.RecipeFile = None,
    pooling: options.Pooling = None,
    allow_pickle: options.AllowPickle = None,
    json_output: options.Json = False,
    calibration: options.Calibration = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    label_column: options.LabelColumn = None,
    samples: options.Samples = None,
    held_out: options.HeldOut = None,
    evaluation: options.Evaluation = None,
    seed: options.Seed = None,
    flops_reduction: options.FlopsReduction = None,
    sequence_length: options.SequenceLength = None,
    method: options.Method = None,
    temperature: options.Temperature = None,
    balance: options.Balance = None,
    head_weight: options.HeadWeight = None,
    ridge: options.Ridge = None,
    target_speedup: target_options.TargetSpeedup = None,
    target_latency_ms: target_options.TargetLatencyMs = None,
    target_shapes: target_options.TargetShapes = None,
    align: target_options.Align = None,
    latency_table: target_options.LatencyTable = None,
    table_carried: target_options.TableCarried = None,
    sensitivity: target_options.Sensitivity = None,
    device: options.Device = None,
    offload: options.Offload = None,
    runtime: options.Runtime = None,
    precision: options.Precision = None,
    profile: options.Profile = None,
    tensorrt_bindings: options.TensorrtBindings = None,
    workspace_mib: options.WorkspaceMib = None,
    optimization_level: options.OptimizationLevel = None,
    timing_cache: options.TimingCache = None,
    hardware_compatibility: options.HardwareCompatibility = None,
    compute_capability: options.ComputeCapability = None,
    version_compatible: options.VersionCompatible = None,
    refit: options.Refit = None,
    strip_plan: options.StripPlan = None,
    weight_streaming: options.WeightStreaming = None,
    profiling_verbosity: options.ProfilingVerbosity = None,
    tf32: options.Tf32 = None,
    shapes: options.Shapes = None,
    threads: options.Threads = None,
    timing_seconds: options.TimingSeconds = None,
    isolate: options.Isolate = None,
    dense_int8: options.DenseInt8 = None,
    min_speedup: options.MinSpeedup = None,
    min_agreement: options.MinAgreement = None,
    min_metric: options.MinMetric = None,
    max_size_mib: options.MaxSizeMib = None,
    min_overlap: retrieval_options.MinOverlap = None,
    min_ndcg: retrieval_options.MinNdcg = None,
    min_mrr: retrieval_options.MinMrr = None,
    min_recall: retrieval_options.MinRecall = None,
    min_index_overlap: retrieval_options.MinIndexOverlap = None,
    min_index_ndcg: retrieval_options.MinIndexNdcg = None,
    min_index_mrr: retrieval_options.MinIndexMrr = None,
    min_index_recall: retrieval_options.MinIndexRecall = None,
    gates: options.GatesFile = None,
    junit: options.Junit = None,
    triton: options.Triton = None,
    triton_name: options.TritonName = None,
    triton_backend: options.TritonBackend = None,
    triton_text: options.TritonText = None,
    triton_pairs: options.TritonPairs = None,
) -> int:
    """Prune an encoder, export it to ONNX and TensorRT, prove it, and judge it.

    Writes plan.json, checkpoint/, onnx/, with TensorRT engines/, parity.json, fidelity.json, latency.json, gates.json,
    report.html, with --triton triton/ and, last, manifest.json. A run that is killed goes on where it stopped when it
    is run again.

    With --target-speedup or --target-latency-ms the budget is time on this machine: what widths cost is measured
    (latency_table.json) and what they lose (sensitivity.json), the widths that lose least in that time are searched
    for and rehearsed (target.json), and the finished model is held to it.

    Example: kprune-export prune-and-build ./my-classifier -o bundle --calibration texts.txt
    --flops-reduction 0.5 --min-speedup 1.5
    """
    overrides = given(dict(locals()))
    from kprune_export.pipeline import run as pipeline
    from kprune_export.recipe.recipe import read_gates

    settings = {**read_gates(gates), **overrides}
    reads = [("gates file", gates)]
    return run_recipe(pipeline.prune_and_build, recipe, settings, as_json=json_output, junit=junit, reads=reads)
