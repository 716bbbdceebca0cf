"""Settings of the Triton model repository."""

from typing import Annotated, ClassVar, Literal

from kprune_export.recipe.settings import Section, Setting, Use, uses

_SERVING = uses(Use.SERVING)


class ServingSection(Section):
    """Whether a Triton model repository is written, and how."""

    panel: ClassVar[str] = "Triton"

    triton: Annotated[
        bool, Setting("Write a Triton model repository of the bundle's own files: triton/.", _SERVING)
    ] = False
    triton_name: Annotated[str, Setting("What its models' names begin with.", _SERVING)] = "encoder"
    triton_backend: Annotated[
        Literal["python", "onnxruntime", "tensorrt"] | None,
        Setting(
            "What runs them; python: ONNX Runtime inside the Python backend, for servers without the others.",
            _SERVING,
            shown="tensorrt for engines, onnxruntime for the others",
        ),
    ] = None
    triton_text: Annotated[bool, Setting("Whether clients can send texts, and get answers.", _SERVING)] = True
    triton_pairs: Annotated[bool, Setting("Clients send pairs of texts; those of rerankers always do.", _SERVING)] = (
        False
    )
