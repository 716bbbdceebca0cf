"""The pruning methods, by name."""

from pruning.errors import MethodError
from pruning.methods.base import PruningMethod
from pruning.methods.baselines import Magnitude, Random
from pruning.methods.kcm2023.method import KernelisedConvexMasking
from pruning.methods.kprune.method import KPrune
from pruning.methods.kprune_paper.method import PublishedKPrune
from pruning.methods.kwon2022.method import FisherMasks
from pruning.settings import PruningSettings

METHODS: dict[str, PruningMethod] = {
    method.name: method
    for method in (KPrune(), PublishedKPrune(), FisherMasks(), KernelisedConvexMasking(), Magnitude(), Random())
}
"""The default first, then the published ones, then baselines."""


def method_for(settings: PruningSettings) -> PruningMethod:
    """Return the method that the settings name.

    Raises:
        MethodError: there is no such method, or it does not have a hyperparameter that is given.

    """
    method = METHODS.get(settings.method)
    if method is None:
        raise MethodError(f"There is no pruning method {settings.method!r}: choose one of {', '.join(METHODS)}.")
    foreign = sorted(set(settings.hyperparameters) - set(method.defaults))
    if foreign:
        owners = [name for name, other in METHODS.items() if foreign[0] in other.defaults]
        raise MethodError(
            f"The method {method.name} has no hyperparameter {foreign[0]!r} (it belongs to {', '.join(owners)}): "
            "leave it out, or choose another --method."
        )
    return method
