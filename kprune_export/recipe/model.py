"""Settings of the model that a run starts from, and of the folder that it writes."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from kprune_export.recipe.settings import Section, Setting, Use, uses

Pooling = Literal["mean", "cls", "pooler", "none"]
PERMISSIONS = ("allow_pickle",)
"""The settings that permit what is not safe with every input: only a user gives them, no file that came with it."""


class ModelSection(Section):
    """The model and the output folder."""

    panel: ClassVar[str] = "Model and output"

    model: Annotated[
        str, Setting("The checkpoint: a folder in Hugging Face layout, or a hub id.", uses(Use.ALWAYS), metavar="MODEL")
    ]
    output: Annotated[Path, Setting("The folder to write; new, empty, or an earlier bundle.")]
    pooling: Annotated[
        Pooling | None,
        Setting(
            "How the tokens' vectors of an encoder without a head are pooled: mean, cls, pooler, or none (all of them "
            "are returned).",
            uses(Use.ALWAYS),
            shown="as sentence-transformers' modules.json says",
        ),
    ] = None
    allow_pickle: Annotated[bool, Setting("Accept pickled weights (pytorch_model.bin).", uses(Use.ALWAYS))] = False
