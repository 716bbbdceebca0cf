"""Writing a graph as an ONNX file, with the weights beside it where one file cannot hold them."""

from collections import Counter
from pathlib import Path

import onnx
import onnx_ir as ir
from pydantic import BaseModel, ConfigDict, Field

from exporters.errors import ExportError
from exporters.hashing import file_sha256

LARGEST_FILE_BYTES = 2**31 - 1
"""What one protobuf message may hold."""
_ROOM_FOR_THE_GRAPH = 2**26


class OnnxArtefact(BaseModel):
    """An ONNX file as it was written.

    Attributes:
        folder: where it was put; not part of the record, as bundles move.
        name: the file's name.
        sha256: the hash of its bytes.
        size_bytes: its size, with that of the external data.
        external_data: the name of the file with the weights, for models over 2 GiB.
        external_sha256: that file's hash.
        operators: how often each operator stands in the graph.
        bytes_by_type: the size of the weights by their type.

    """

    model_config = ConfigDict(frozen=True)

    folder: Path = Field(default=Path(), exclude=True)
    name: str
    sha256: str
    size_bytes: int
    external_data: str | None
    external_sha256: str | None
    operators: dict[str, int]
    bytes_by_type: dict[str, int]

    @property
    def path(self) -> Path:
        """Where it was put."""
        return self.folder / self.name


def write_onnx(model: ir.Model, path: Path, largest_bytes: int = LARGEST_FILE_BYTES) -> OnnxArtefact:
    """Write a graph and check it with onnx.checker's full check; the same graph gives the same bytes.

    Args:
        model: the graph.
        path: the file; its folder is there already.
        largest_bytes: from this size on weights go into ``NAME.data`` beside it.

    Raises:
        ExportError: the file is not valid ONNX.

    """
    weights = bytes_by_type(model)
    data = path.with_name(f"{path.name}.data")
    external = sum(weights.values()) > largest_bytes - min(_ROOM_FOR_THE_GRAPH, largest_bytes // 2)
    if external:
        ir.save(model, path, external_data=data.name)
    else:
        path.write_bytes(ir.to_proto(model).SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported graph is not valid ONNX: {error}") from error
    return OnnxArtefact(
        folder=path.parent,
        name=path.name,
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size + (data.stat().st_size if external else 0),
        external_data=data.name if external else None,
        external_sha256=file_sha256(data) if external else None,
        operators=dict(sorted(Counter(node.op_type for node in model.graph).items())),
        bytes_by_type=weights,
    )


def bytes_by_type(model: ir.Model) -> dict[str, int]:
    """Return the size of a graph's weights by their type, as ``float``, ``float16`` or ``int8``."""
    sizes: Counter[str] = Counter()
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            sizes[value.const_value.dtype.name.lower()] += value.const_value.nbytes
    return dict(sorted(sizes.items()))
