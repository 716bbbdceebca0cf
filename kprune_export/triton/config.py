"""Writing config.pbtxt: built as tritonclient's ModelConfig, so that no field can be misspelt, and read again.

https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import MissingRuntimeError
from exporters.spec import Shape
from kprune_export.errors import BundleError
from kprune_export.triton.repository_record import EncoderRecord, RepositoryRecord, TextRecord
from kprune_export.triton.tensors import STRING, ServedTensor, per_token

CONFIG, CONFIGS, VERSION = "config.pbtxt", "configs", "1"
WARMUP = "warmup"
"""The folder, inside a model's, that Triton reads warm-up data from."""
_MASK = "attention_mask"
_TYPES = {
    STRING: "TYPE_STRING",
    "int64": "TYPE_INT64",
    "int32": "TYPE_INT32",
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
}


def schema() -> Any:
    """Return tritonclient's module with the messages of Triton's configuration.

    Raises:
        MissingRuntimeError: tritonclient is not installed.

    """
    try:
        from tritonclient.grpc import model_config_pb2
    except ImportError as error:
        raise MissingRuntimeError(
            f'Triton configurations need tritonclient ({error}): pip install "kprune-export[triton]".'
        ) from error
    return model_config_pb2


def encoder_config(encoder: EncoderRecord, pad_token_id: int) -> Any:
    """Return the configuration of an encoder."""
    config = _config(encoder.name, encoder.backend, encoder.max_batch, encoder.inputs, encoder.outputs)
    group = config.instance_group.add(count=encoder.instances)
    group.kind = schema().ModelInstanceGroup.KIND_GPU if encoder.gpu else schema().ModelInstanceGroup.KIND_CPU
    if encoder.delay_us is not None:
        config.dynamic_batching.max_queue_delay_microseconds = encoder.delay_us
        config.dynamic_batching.preferred_batch_size.extend(encoder.preferred)
    if encoder.backend == "python":
        for tensor in config.input:
            tensor.allow_ragged_batch = True  # its model.py pads requests of different lengths
        provider = "CUDAExecutionProvider" if encoder.gpu else "CPUExecutionProvider"
        _set(config, provider=provider, threads=str(encoder.threads), pad_token_id=str(pad_token_id))
        _set(config, min_tokens=str(encoder.min_tokens), max_tokens=str(encoder.max_tokens))
    else:
        config.default_model_filename = encoder.file
        if encoder.backend == "tensorrt":
            group.profile.extend(str(number) for number in range(len(encoder.profiles)))
        elif not encoder.gpu:
            _set(config, intra_op_thread_count=str(encoder.threads))
    for shape in encoder.warmup_shapes:
        _add_warmup(config, encoder.inputs, shape)
    return config


def tokenizer_config(text: TextRecord, inputs: tuple[ServedTensor, ...], pad_token_id: int) -> Any:
    """Return the configuration of the tokenizer; its outputs are the encoders' inputs."""
    config = _config(text.tokenizer, "python", text.max_batch, text.inputs, (*inputs, *text.places))
    _on_cpu(config)
    _set(
        config,
        pad_token_id=str(pad_token_id),
        min_tokens=str(text.min_tokens),
        max_tokens=str(text.max_tokens),
        sequence=str(len(text.inputs) - 1),
    )
    return config


def answers_config(text: TextRecord, sources: tuple[ServedTensor, ...], labels: tuple[str, ...]) -> Any:
    """Return the configuration of the model that makes answers of an encoder's outputs."""
    read = tuple(x for x in text.inputs if x.name in text.read)
    config = _config(str(text.answers), "python", text.max_batch, (*sources, *text.places, *read), text.outputs)
    _on_cpu(config)
    _set(config, activation=text.activation, labels=json.dumps(labels, ensure_ascii=False))
    return config


def ensemble_config(text: TextRecord, encoder: EncoderRecord) -> Any:
    """Return the configuration of what clients call: tokenizer, encoder, answers."""
    config = _config(text.ensembles[encoder.name], "", text.max_batch, text.inputs, text.outputs)
    config.platform = "ensemble"
    tokens, places, values, answers = (
        {x.name: x.name for x in tensors} for tensors in (encoder.inputs, text.places, encoder.outputs, text.outputs)
    )
    if text.answers is None:
        values = dict(zip(values, answers, strict=True))
    steps = [
        (text.tokenizer, {x.name: x.name for x in text.inputs}, tokens | places),
        (encoder.name, tokens, values),
    ]
    if text.answers is not None:
        steps.append((text.answers, values | places | {name: name for name in text.read}, answers))
    for name, inputs, outputs in steps:
        step = config.ensemble_scheduling.step.add(model_name=name, model_version=-1)
        step.input_map.update(inputs)
        step.output_map.update(outputs)
    return config


def repository_configs(record: RepositoryRecord) -> dict[str, Any]:
    """Return the configurations of all models of a repository, by their names."""
    configs = {encoder.name: encoder_config(encoder, record.pad_token_id) for encoder in record.encoders}
    text = record.text
    if text is not None:
        first = record.encoders[0]
        configs[text.tokenizer] = tokenizer_config(text, first.inputs, record.pad_token_id)
        if text.answers is not None:
            configs[text.answers] = answers_config(text, first.outputs, record.labels)
        configs |= {text.ensembles[x.name]: ensemble_config(text, x) for x in record.encoders}
    return configs


def machine_configs(record: RepositoryRecord) -> dict[str, dict[str, Any]]:
    """Return the configurations for machines by the files' names, of each encoder that has some."""
    return {
        encoder.name: {
            f"{CONFIGS}/{x.name}.pbtxt": encoder_config(encoder.on(x), record.pad_token_id) for x in encoder.configs
        }
        for encoder in record.encoders
    }


def write_config(config: Any, folder: Path, file: str = CONFIG) -> None:
    """Write a model's configuration, read it again, and write the data that its warm-up names.

    Raises:
        BundleError: the file does not say what was written.

    """
    from google.protobuf import text_format

    path = folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text_format.MessageToString(config, as_utf8=True), encoding="utf-8")
    if read_config(folder, file) != config:
        raise BundleError(f"{path} does not say what was written to it.")
    for request in config.model_warmup:
        data = request.inputs[_MASK].input_data_file
        (folder / WARMUP).mkdir(exist_ok=True)
        tokens = request.inputs[_MASK].dims[0]
        (folder / WARMUP / data).write_bytes(np.ones((request.batch_size, tokens), np.int64).tobytes())


def read_config(folder: Path, file: str = CONFIG) -> Any:
    """Read a model's configuration by Triton's schema.

    Raises:
        BundleError: it is not valid.

    """
    from google.protobuf import text_format

    path = folder / file
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), schema().ModelConfig())
    except text_format.ParseError as error:
        raise BundleError(f"{path} is not a valid Triton configuration: {error}.") from error


def _config(
    name: str, backend: str, max_batch: int, inputs: Iterable[ServedTensor], outputs: Iterable[ServedTensor]
) -> Any:
    config = schema().ModelConfig(name=name, backend=backend, max_batch_size=max_batch)
    config.version_policy.latest.num_versions = 1  # a version that is added takes over
    for tensors, fields in ((inputs, config.input), (outputs, config.output)):
        for tensor in tensors:
            fields.add(name=tensor.name, data_type=_type(tensor), dims=tensor.dims)
    return config


def _type(tensor: ServedTensor) -> Any:
    if tensor.dtype not in _TYPES:
        raise BundleError(f"{tensor.name} is {tensor.dtype}, which Triton has no type for here.")
    return schema().DataType.Value(_TYPES[tensor.dtype])


def _on_cpu(config: Any) -> None:
    config.instance_group.add(count=1, kind=schema().ModelInstanceGroup.KIND_CPU)


def _set(config: Any, **parameters: str) -> None:
    for name, value in parameters.items():
        config.parameters[name].string_value = value


def _add_warmup(config: Any, inputs: Iterable[ServedTensor], shape: Shape) -> None:
    """Add a request of a shape: the token 0 everywhere, and nothing masked."""
    request = config.model_warmup.add(name=f"{shape}", batch_size=shape.batch)
    for tensor in inputs:
        field = request.inputs[tensor.name]
        field.data_type = _type(tensor)
        field.dims.extend(shape.sequence if per_token(tensor) else size for size in tensor.dims)
        if tensor.name == _MASK:
            field.input_data_file = f"{tensor.name}-{shape}"
        else:
            field.zero_data = True
