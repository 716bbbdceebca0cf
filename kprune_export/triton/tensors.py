"""The tensors of served models, as their own files describe them."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from exporters.spec import TensorSpec
from kprune_export.errors import BundleError

STRING = "string"
"""The dtype of texts, beside numpy's names for numbers."""


class ServedTensor(BaseModel):
    """An input or output of a served model.

    Attributes:
        name: its name.
        dtype: numpy's name of its type, or `STRING`.
        dims: its shape without the batch; -1 where a size is not fixed.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    dtype: str
    dims: tuple[int, ...]

    @classmethod
    def of(cls, spec: TensorSpec) -> "ServedTensor":
        """Describe a tensor of an artefact; its first axis is the batch."""
        return cls(
            name=spec.name,
            dtype=spec.dtype,
            dims=tuple(size if isinstance(size, int) else -1 for size in spec.shape[1:]),
        )


def graph_tensors(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and the outputs of an ONNX file, in order.

    Raises:
        BundleError: the file cannot be read, or a tensor has no dynamic batch.

    """
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's error has no public class
        raise BundleError(f"{path} cannot be read as ONNX: {error}.") from error
    return _specs(graph.input, path), _specs(graph.output, path)


def _specs(values: Sequence[object], path: Path) -> tuple[TensorSpec, ...]:
    import onnx

    specs = []
    for value in values:
        assert isinstance(value, onnx.ValueInfoProto)  # noqa: S101 - what a graph's inputs are
        tensor = value.type.tensor_type
        shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
        if not shape or isinstance(shape[0], int):
            raise BundleError(f"{value.name} in {path} has no dynamic batch: export the model again.")
        specs.append(TensorSpec(value.name, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape))
    return tuple(specs)


def check_same(graph: Sequence[TensorSpec], engine: Sequence[TensorSpec], name: str) -> None:
    """Check that an engine has the tensors of the graph that it was built from.

    Raises:
        BundleError: it has others.

    """
    described = [sorted((x.name, x.dtype, ServedTensor.of(x).dims) for x in side) for side in (graph, engine)]
    if described[0] != described[1]:
        raise BundleError(
            f"The engine of {name} has the tensors {described[1]}, but its graph has {described[0]}: build it again."
        )


def per_token(tensor: ServedTensor) -> bool:
    """Whether a tensor's first axis after the batch is the tokens."""
    return tensor.dims[:1] == (-1,)
