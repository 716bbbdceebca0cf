"""The options that commands share.

All default to nothing, so that a recipe's values are overridden only by what was typed; the defaults shown
are those of `kprune_export.recipe.recipe.Recipe`, which a test compares.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

MODEL, TEXTS, METHOD, EXPORT, ENGINE, PROOF, GATES, SERVING = (
    "Model and output",
    "Texts",
    "Pruning method",
    "Export",
    "TensorRT engines",
    "Measuring",
    "Gates (exit code 3 if one fails)",
    "Triton",
)

Model = Annotated[
    str | None,
    typer.Argument(help="The dense checkpoint: a folder in Hugging Face layout, or a hub id.", show_default=False),
]
RequiredModel = Annotated[
    str,
    typer.Argument(help="The checkpoint: a folder in Hugging Face layout, or a hub id.", show_default=False),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="The folder to write; new, empty, or an earlier bundle.", rich_help_panel=MODEL
    ),
]
RequiredOutput = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="The folder to write; new, empty, or an earlier bundle.", rich_help_panel=MODEL
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        help="A YAML file with any of these settings, written with _ for -. Flags override it.",
        rich_help_panel=MODEL,
    ),
]
Pooling = Annotated[
    str | None,
    typer.Option(
        help="What becomes of the tokens' vectors of an encoder without a head: mean, cls, pooler, or none (all of "
        "them are put out).",
        metavar="mean|cls|pooler|none",
        show_default="as sentence-transformers' modules.json says",
        rich_help_panel=MODEL,
    ),
]
AllowPickle = Annotated[
    bool | None,
    typer.Option("--allow-pickle", help="Accept pickled weights (pytorch_model.bin).", rich_help_panel=MODEL),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output, for machines.", rich_help_panel=MODEL),
]
FlopsReduction = Annotated[
    float | None,
    typer.Option(
        help="The share of the encoder's FLOPs to remove, above 0 and below 1.",
        show_default="0.5",
        rich_help_panel=METHOD,
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        help="Unlabelled texts like those to be served: a .txt, .jsonl, .csv, .tsv or .parquet file, or a hub "
        "data set as owner/name[:config][@split].",
        show_default="English sentences embedded in the installed packages",
        rich_help_panel=TEXTS,
    ),
]
TextColumn = Annotated[
    str | None, typer.Option(help="The column with the texts.", show_default="guessed", rich_help_panel=TEXTS)
]
PairColumn = Annotated[
    str | None,
    typer.Option(help="The column with the second texts, for pairs.", show_default="guessed", rich_help_panel=TEXTS),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(
        help="The column with labels; only measuring uses them.",
        show_default="guessed",
        rich_help_panel=TEXTS,
    ),
]
Samples = Annotated[int | None, typer.Option(help="Texts to calibrate on.", show_default="1000", rich_help_panel=TEXTS)]
HeldOut = Annotated[
    int | None,
    typer.Option(
        help="Texts kept back to measure fidelity on (at most a fifth).",
        show_default="200",
        rich_help_panel=TEXTS,
    ),
]
Evaluation = Annotated[
    str | None,
    typer.Option(
        help="Texts, labelled or not, to measure fidelity on instead. For sentence embedders also a retrieval data set "
        "in the layout of BEIR: a folder with corpus.jsonl, queries.jsonl and qrels/test.tsv (another split as "
        "FOLDER@SPLIT), or a file with the columns query and document.",
        rich_help_panel=TEXTS,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Chooses the texts; the same seed gives the same bundle.",
        show_default="0",
        rich_help_panel=TEXTS,
    ),
]
SequenceLength = Annotated[
    int | None,
    typer.Option(help="Tokens in the sequence that FLOPs are counted at.", show_default="128", rich_help_panel=METHOD),
]
Method = Annotated[
    str | None,
    typer.Option(
        help="How units are chosen: kprune, or a peer to compare with (kprune-export compare --help lists them).",
        show_default="kprune",
        rich_help_panel=METHOD,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="γ of kprune-paper: the divergence's softmax temperature.",
        show_default="kprune-paper: 2.0",
        rich_help_panel=METHOD,
    ),
]
Balance = Annotated[
    float | None,
    typer.Option(
        help="λ of kprune-paper: the weight of representational knowledge.",
        show_default="kprune-paper: 0.256",
        rich_help_panel=METHOD,
    ),
]
HeadWeight = Annotated[
    float | None,
    typer.Option(
        help="μ of kprune-paper: the weight of heads beside neurons.",
        show_default="kprune-paper: 64",
        rich_help_panel=METHOD,
    ),
]
Ridge = Annotated[
    float | None,
    typer.Option(
        help="How strongly tuned weights are drawn to the old ones, relative to each feature's energy.",
        show_default="chosen for each sublayer on texts left out",
        rich_help_panel=METHOD,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where pruning runs: cpu, cuda, cuda:N, or auto (a GPU where there is one; its forward passes are bf16).",
        show_default="auto",
        rich_help_panel=METHOD,
    ),
]
Offload = Annotated[
    bool | None,
    typer.Option(
        "--offload", help="Keep one layer at a time on the GPU, for models that it cannot hold.", rich_help_panel=METHOD
    ),
]
Runtime = Annotated[
    list[str] | None,
    typer.Option(
        help="What to export for: onnxruntime (CPU), onnxruntime-cuda, tensorrt; several times or with commas.",
        metavar="NAME",
        show_default="onnxruntime",
        rich_help_panel=EXPORT,
    ),
]
Precision = Annotated[
    list[str] | None,
    typer.Option(
        help="The precisions to export: fp32, fp16, bf16, int8; several times or with commas. int8 measures its ranges "
        "on the calibration texts.",
        metavar="NAME",
        show_default="fp32",
        rich_help_panel=EXPORT,
    ),
]
Profile = Annotated[
    list[str] | None,
    typer.Option(
        help="An optimization profile, as min=1x1,opt=8x128,max=32x512; several times for several.",
        metavar="PROFILE",
        show_default="from 1x1 to 32 texts of full length, tuned for 8x128",
        rich_help_panel=ENGINE,
    ),
]
TensorrtBindings = Annotated[
    str | None,
    typer.Option(
        help="tensorrt, for the GPU that is here, or tensorrt_rtx, ahead of time for GPUs that need not be.",
        metavar="tensorrt|tensorrt_rtx",
        show_default="tensorrt",
        rich_help_panel=ENGINE,
    ),
]
WorkspaceMib = Annotated[
    int | None,
    typer.Option(
        help="The most memory in MiB that a kernel may use.", show_default="all there is", rich_help_panel=ENGINE
    ),
]
OptimizationLevel = Annotated[
    int | None,
    typer.Option(help="How hard the builder looks for fast kernels, 0 to 5.", show_default="3", rich_help_panel=ENGINE),
]
TimingCache = Annotated[
    Path | None,
    typer.Option(help="A timing cache of an earlier build to start from.", rich_help_panel=ENGINE),
]
HardwareCompatibility = Annotated[
    str | None,
    typer.Option(
        help="Which other GPUs the engine has to run on.",
        metavar="none|ampere_plus|same_compute_capability",
        show_default="none",
        rich_help_panel=ENGINE,
    ),
]
ComputeCapability = Annotated[
    list[str] | None,
    typer.Option(
        help="A GPU that tensorrt_rtx builds for, as 8.6; several times or with commas.",
        metavar="X.Y",
        rich_help_panel=ENGINE,
    ),
]
VersionCompatible = Annotated[
    bool | None,
    typer.Option("--version-compatible", help="Let later versions of TensorRT run it.", rich_help_panel=ENGINE),
]
Refit = Annotated[
    bool | None, typer.Option("--refit", help="Let its weights be replaced later.", rich_help_panel=ENGINE)
]
StripPlan = Annotated[
    bool | None,
    typer.Option("--strip-plan", help="Leave out the weights that can be refitted.", rich_help_panel=ENGINE),
]
WeightStreaming = Annotated[
    bool | None,
    typer.Option("--weight-streaming", help="Let weights stay in host memory while it runs.", rich_help_panel=ENGINE),
]
ProfilingVerbosity = Annotated[
    str | None,
    typer.Option(
        help="What the engine tells of its layers; detailed lets their types be proven.",
        metavar="none|layer_names_only|detailed",
        show_default="detailed",
        rich_help_panel=ENGINE,
    ),
]
Tf32 = Annotated[
    bool | None,
    typer.Option(
        "--tf32",
        help="Let fp32 products round their inputs to 10 bits of mantissa; parity then has the error of fp16.",
        rich_help_panel=ENGINE,
    ),
]
Shapes = Annotated[
    str | None,
    typer.Option(
        help="Batch sizes and tokens to time, separated by commas.",
        show_default="1x128,8x128",
        rich_help_panel=PROOF,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Threads to run with.", show_default="all processors, or the CPU quota rounded up", rich_help_panel=PROOF
    ),
]
TimingSeconds = Annotated[
    float | None,
    typer.Option(
        help="Seconds to time each model at each shape, after 0.2 s to warm up; at least 15 calls are timed.",
        show_default="3.0",
        rich_help_panel=PROOF,
    ),
]
Isolate = Annotated[
    bool | None,
    typer.Option(
        "--isolate",
        help="Time each model in a process of its own, where nothing of the other can touch it.",
        rich_help_panel=PROOF,
    ),
]
DenseInt8 = Annotated[
    bool | None,
    typer.Option(
        "--dense-int8/--no-dense-int8",
        help="Whether the dense model in int8 is measured too, which shows what int8 does without pruning; for ONNX "
        "Runtime on the CPU also where int8 is not exported. It takes one more export, fidelity pass and timing.",
        show_default="dense-int8",
        rich_help_panel=PROOF,
    ),
]
MinSpeedup = Annotated[
    float | None,
    typer.Option(help="Smallest speedup over the dense model, at every shape.", rich_help_panel=GATES),
]
MinAgreement = Annotated[
    float | None,
    typer.Option(
        help="Smallest agreement with the dense model (embedders: mean cosine; regression: R²; "
        "rerankers: rank agreement).",
        rich_help_panel=GATES,
    ),
]
MinMetric = Annotated[
    float | None,
    typer.Option(help="Smallest value of the task's metric; needs labelled texts.", rich_help_panel=GATES),
]
MaxSizeMib = Annotated[float | None, typer.Option(help="Largest size of the ONNX file in MiB.", rich_help_panel=GATES)]

GatesFile = Annotated[
    Path | None,
    typer.Option(
        "--gates",
        help="A YAML file with any of these gates, written with _ for -. It overrides a recipe, and flags override it.",
        rich_help_panel=GATES,
    ),
]
Junit = Annotated[
    Path | None,
    typer.Option("--junit", help="Write gates and parity as JUnit XML to this file.", rich_help_panel=GATES),
]

Triton = Annotated[
    bool | None,
    typer.Option(
        "--triton", help="Write a Triton model repository of the bundle's own files: triton/.", rich_help_panel=SERVING
    ),
]
TritonName = Annotated[
    str | None,
    typer.Option(help="What its models' names begin with.", show_default="encoder", rich_help_panel=SERVING),
]
TritonBackend = Annotated[
    str | None,
    typer.Option(
        help="What runs them; python: ONNX Runtime inside the Python backend, for servers without the others.",
        metavar="python|onnxruntime|tensorrt",
        show_default="tensorrt for engines, onnxruntime for the others",
        rich_help_panel=SERVING,
    ),
]
TritonText = Annotated[
    bool | None,
    typer.Option(
        "--triton-text/--no-triton-text",
        help="Whether clients can send texts, and get answers.",
        show_default="triton-text",
        rich_help_panel=SERVING,
    ),
]
TritonPairs = Annotated[
    bool | None,
    typer.Option(
        "--triton-pairs", help="Clients send pairs of texts; those of rerankers always do.", rich_help_panel=SERVING
    ),
]

NO_SETTINGS = frozenset(("recipe", "gates", "junit", "json_output"))
"""Arguments that say where settings are read from and results are printed to."""


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were typed: all of a command's arguments that are not nothing."""
    return {name: value for name, value in values.items() if value is not None and name not in NO_SETTINGS}
