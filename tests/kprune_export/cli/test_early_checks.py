"""A wrong path is an error before the libraries are imported that take seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

SHOW_IMPORTS = """
import sys
from kprune_export.cli.app import main
try:
    main()
except SystemExit as ending:
    print(ending.code, *({"transformers", "onnx", "onnxruntime", "datasets", "pandas"} & set(sys.modules)))
"""
TEXTS = ("--calibration", "texts.txt")
NO_BUNDLE = "none is not a finished bundle: it has no manifest.json."
NO_MODEL = "./none is not a checkpoint: it does not exist"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prune-and-build", "./none", "-o", "out", *TEXTS), NO_MODEL),
        (("prune", "./none", "-o", "out", *TEXTS), NO_MODEL),
        (("export", "./none", "-o", "out"), NO_MODEL),
        (("sweep", "./none", "-o", "out", *TEXTS), NO_MODEL),
        (("compare", "./none", "-o", "out", *TEXTS), NO_MODEL),
        (("profile-target", "./none", "-o", "out.json"), NO_MODEL),
        (("export", "plain", "-o", "out"), "plain is not a checkpoint: it has no config.json"),
        (("prune-and-build", "plain", "-o", "out", "--calibration", "no.txt"), "The text file no.txt does not exist."),
        (
            ("prune-and-build", "plain", "-o", "out", *TEXTS, "--evaluation", "no.tsv"),
            "The text file no.tsv does not exist.",
        ),
        (
            ("prune-and-build", "plain", "-o", "out", *TEXTS, "--latency-table", "no.json", "--target-speedup", "2"),
            "The latency table no.json does not exist.",
        ),
        (("validate", "none"), NO_BUNDLE),
        (("verify", "none"), NO_BUNDLE),
        (("diff", "none", "none"), NO_BUNDLE),
        (("triton", "none", "-o", "out"), NO_BUNDLE),
        (("serve-check", "none"), "none is not a finished repository of this program: it has no kprune-triton.json"),
        (("recommend", "none", "--min-fidelity", "0.9"), "none"),
    ],
    ids=lambda x: x[0] if isinstance(x, tuple) else "",
)
def test_a_wrong_path_is_found_first(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "plain").mkdir()
    found = subprocess.run(
        [sys.executable, "-c", SHOW_IMPORTS, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.stdout == "2\n"  # bad input, and nothing heavy was imported
    assert message in " ".join(found.stderr.split())
    assert not (tmp_path / "out").exists()
