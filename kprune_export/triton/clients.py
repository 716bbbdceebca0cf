"""tritonclient over HTTP and gRPC, as one thing.

https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/client/README.html
"""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from exporters.errors import MissingRuntimeError
from exporters.runners.base import Array

TIMEOUT_S = 120


class Client:
    """A connection to a server; for one thread."""

    def __init__(self, module: Any, client: Any) -> None:
        self._module, self._client = module, client

    def is_ready(self, model: str) -> bool:
        """Whether a model can answer; errors as tritonclient raises them."""
        return bool(self._client.is_model_ready(model))

    def infer(self, model: str, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> dict[str, Array | None]:
        """Ask a model and return its outputs by their names; errors as tritonclient raises them."""
        from tritonclient.utils import np_to_triton_dtype

        tensors = []
        for name, array in inputs.items():
            tensor = self._module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        wanted = [self._module.InferRequestedOutput(name) for name in outputs]
        result = self._client.infer(model, tensors, outputs=wanted)
        return {name: result.as_numpy(name) for name in outputs}


@contextlib.contextmanager
def open_client(protocol: str, address: str) -> Iterator[Client]:
    """Connect to a server by ``http`` or ``grpc``.

    Raises:
        MissingRuntimeError: tritonclient is not installed.

    """
    try:
        module = importlib.import_module(f"tritonclient.{protocol}")
    except ImportError as error:
        raise MissingRuntimeError(
            f'Asking a server needs tritonclient ({error}): pip install "kprune-export[triton]".'
        ) from error
    settings = {"connection_timeout": TIMEOUT_S, "network_timeout": TIMEOUT_S} if protocol == "http" else {}
    client = module.InferenceServerClient(address, **settings)
    try:
        yield Client(module, client)
    finally:
        client.close()
