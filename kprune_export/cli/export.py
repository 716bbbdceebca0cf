"""``kprune-export export``."""

from kprune_export.cli import options
from kprune_export.cli.options import given
from kprune_export.cli.running import run_recipe


def export(
    model: options.RequiredModel,
    output: options.RequiredOutput,
    pooling: options.Pooling = None,
    allow_pickle: options.AllowPickle = None,
    json_output: options.Json = False,
    calibration: options.Calibration = None,
    text_column: options.TextColumn = None,
    pair_column: options.PairColumn = None,
    samples: options.Samples = None,
    seed: options.Seed = None,
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
    threads: options.Threads = None,
) -> int:
    """Export a dense or a pruned checkpoint to ONNX and TensorRT as it is, and check parity with torch.

    Writes onnx/, with TensorRT engines/, parity.json and manifest.json. Texts are for int8 only. The dense twin
    of a bundle is this command on the dense checkpoint.

    Example: kprune-export export ./my-classifier -o dense
    """
    overrides = given(dict(locals()))
    from kprune_export.pipeline import run as pipeline

    return run_recipe(pipeline.export, None, overrides, as_json=json_output)
