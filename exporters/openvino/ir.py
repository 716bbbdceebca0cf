"""Conversion of ONNX files into OpenVINO's intermediate representation (IR): an XML graph and its weights."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from exporters.errors import ExportError, first_line
from exporters.hashing import file_sha256
from exporters.openvino.bindings import load_openvino
from exporters.variant import Precision

GRAPH_SUFFIX, WEIGHTS_SUFFIX = ".xml", ".bin"


class IrArtefact(BaseModel):
    """An IR as it was written.

    Attributes:
        name: the XML file's name; the weights have the same with ``.bin``.
        sha256: the hash of the XML file.
        weights_sha256: the hash of the weights.
        size_bytes: the size of both.
        openvino: the version that converted it.

    """

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    weights_sha256: str
    size_bytes: int
    openvino: str


def write_ir(onnx_file: Path, precision: Precision) -> IrArtefact:
    """Convert an ONNX file and write the IR beside it; the same file gives the same bytes.

    Weights are stored in float16 for fp16, else as they are in the graph: bf16 is a setting of the runtime.

    Args:
        onnx_file: the graph.
        precision: what the IR is for.

    Raises:
        MissingRuntimeError: OpenVINO is not installed or too old.
        ExportError: OpenVINO cannot convert the graph.

    """
    openvino = load_openvino()
    path = onnx_file.with_suffix(GRAPH_SUFFIX)
    try:
        model = openvino.convert_model(onnx_file)
        _name_in_order(model)
        for key in list(model.rt_info):  # paths and options of the conversion
            del model.rt_info[key]
        openvino.save_model(model, path, compress_to_fp16=precision is Precision.FP16)
    except Exception as error:  # OpenVINO's exceptions share no base class of their own
        raise ExportError(f"OpenVINO cannot convert {onnx_file.name}: {first_line(error)}") from error
    weights = path.with_suffix(WEIGHTS_SUFFIX)
    return IrArtefact(
        name=path.name,
        sha256=file_sha256(path),
        weights_sha256=file_sha256(weights),
        size_bytes=path.stat().st_size + weights.stat().st_size,
        openvino=openvino.__version__,
    )


def _name_in_order(model: Any) -> None:
    """Name each node after its place: OpenVINO's own names count the nodes made in the process so far."""
    model.set_friendly_name("model")
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
