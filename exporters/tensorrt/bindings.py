"""Installed TensorRT bindings, and all that differs between them; nothing else depends on a version."""

import importlib
from dataclasses import dataclass
from typing import Any, Literal

from exporters.errors import EngineError, MissingRuntimeError

BindingsName = Literal["tensorrt", "tensorrt_rtx"]
SUPPORTED = {"tensorrt": "10.3 to 11", "tensorrt_rtx": "1"}
_INSTALL = {
    "tensorrt": "pip install 'kprune-export[tensorrt]'",
    "tensorrt_rtx": "install the Python wheel that is in NVIDIA's TensorRT for RTX archive",
}


@dataclass(frozen=True)
class Bindings:
    """A module of TensorRT bindings.

    Attributes:
        module: the imported module.
        name: its name.
        version: its ``__version__``, in full.
        major: the first number of it.

    """

    module: Any
    name: BindingsName
    version: str
    major: int

    def __str__(self) -> str:
        return f"{'TensorRT' if self.name == 'tensorrt' else 'TensorRT-RTX'} {self.version}"

    def member(self, enum: str, name: str) -> Any:
        """Return a member of one of the module's enums.

        Raises:
            EngineError: this version does not have it.

        """
        try:
            return getattr(getattr(self.module, enum), name)
        except AttributeError:
            raise EngineError(f"{self} has no {enum}.{name}: do without it, or use a version that has it.") from None

    @property
    def network_flags(self) -> int:
        """The flags that make a network strongly typed.

        From TensorRT 11 on all networks are, and there is no flag to set
        (https://docs.nvidia.com/deeplearning/tensorrt/latest/api/migration-guide.html).
        """
        if self.name == "tensorrt" and self.major >= 11:
            return 0
        return 1 << int(self.member("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"))

    def decomposable_attention(self, network: Any) -> tuple[str, ...]:
        """Let the compiler take attention apart where it has no fused kernel for it; return the layers' names.

        Without this a build fails at fp32, at layers with one head, and at head sizes that no kernel has. Where a
        kernel is there it is still used (IAttention.decomposable,
        https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/Graph/Layers.html).
        Versions whose parser makes no attention layers have none to mark.
        """
        kind = getattr(self.module.LayerType, "ATTENTION_OUTPUT", None)
        names = []
        for layer in layers(network):
            if kind is not None and layer.type == kind:
                # get_layer gives the base class; assigning the class is how the bindings cast to a derived one
                layer.__class__ = self.module.IAttentionOutputLayer
                boundary = layer
                attention = boundary.attention
                attention.decomposable = True
                names.append(str(attention.name))
        return tuple(names)

    def set_compute_capabilities(self, config: Any, capabilities: tuple[str, ...]) -> None:
        """Name the GPUs that an engine is built for ahead of time; ``("8.6", "12.0")`` for example.

        The number of them has to be set first, and a refusal is a False
        (https://docs.nvidia.com/deeplearning/tensorrt-rtx/latest/inference-library/cpu-engines.html).

        Raises:
            EngineError: the compiler knows no such GPU.

        """
        config.num_compute_capabilities = len(capabilities)
        for index, capability in enumerate(capabilities):
            member = self.member("ComputeCapability", f"SM{capability.replace('.', '')}")
            if not config.set_compute_capability(member, index):
                raise EngineError(f"{self} does not build for the compute capability {capability}.")


def load_bindings(name: BindingsName = "tensorrt") -> Bindings:
    """Import a module of TensorRT bindings.

    Raises:
        MissingRuntimeError: it is not installed, its libraries do not load, or the version is not supported.

    """
    title = "TensorRT" if name == "tensorrt" else "TensorRT for RTX"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingRuntimeError(f"{title} is not installed: {_INSTALL[name]}.") from error
    except (ImportError, OSError) as error:
        raise MissingRuntimeError(f"{title} is installed but does not load ({error}): {_INSTALL[name]}.") from error
    version = str(module.__version__)
    if not is_supported(name, version):
        raise MissingRuntimeError(
            f"{title} {version} is installed, but the versions {SUPPORTED[name]} are supported: {_INSTALL[name]}."
        )
    return Bindings(module, name, version, int(version.split(".")[0]))


def is_supported(name: BindingsName, version: str) -> bool:
    """Return whether a version of the bindings is one that this package drives."""
    major, minor = (int(part) for part in version.split(".")[:2])
    return (10, 3) <= (major, minor) < (12, 0) if name == "tensorrt" else major == 1


def layers(network: Any) -> list[Any]:
    """Return the layers of a network definition."""
    return [network.get_layer(index) for index in range(network.num_layers)]
