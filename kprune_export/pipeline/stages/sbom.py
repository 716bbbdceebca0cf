"""The environment that a bundle was made in, as a CycloneDX SBOM: https://cyclonedx.org/docs/1.6/json/."""

import json
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from typing import Any

from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict

from kprune_export.bundle.layout import SBOM
from kprune_export.pipeline.job import Job
from kprune_export.pipeline.stages.stage import Stage, StageContext

PRODUCT = "kprune-export"


class InstalledPackage(BaseModel):
    """An installed distribution.

    Attributes:
        name: its normalised name.
        version: its version.
        licence: its SPDX expression, where its metadata has one (https://peps.python.org/pep-0639/).

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    licence: str | None


class SbomStage(Stage):
    """List the installed packages: writes sbom.json."""

    name = "sbom"
    title = "Listing the environment"
    outputs = (SBOM,)

    def settings(self, job: Job) -> dict[str, Any]:  # noqa: ARG002 - as the base class declares it
        """Return the packages."""
        return {"packages": [package.model_dump() for package in installed_packages()]}

    def execute(self, job: Job, context: StageContext) -> None:  # noqa: ARG002 - as above
        """Write them."""
        (context.folder / SBOM).write_text(sbom_json(installed_packages()), encoding="utf-8")
        context.progress(1.0)


def installed_packages() -> tuple[InstalledPackage, ...]:
    """Return the distributions that Python finds, by name; of several with one name the one that it imports."""
    found: dict[str, InstalledPackage] = {}
    for package in _packages():
        found.setdefault(package.name, package)
    return tuple(found[name] for name in sorted(found))


def _packages() -> Iterator[InstalledPackage]:
    for distribution in distributions():
        name = _metadata(distribution, "Name")
        if name:  # a broken installation has none
            yield InstalledPackage(
                name=canonicalize_name(name),
                version=distribution.version,
                licence=_metadata(distribution, "License-Expression"),
            )


def _metadata(distribution: Distribution, key: str) -> str | None:
    values = distribution.metadata.get_all(key)
    return str(values[0]) if values else None


def sbom_json(packages: tuple[InstalledPackage, ...]) -> str:
    """Return an SBOM that is decided by the packages alone: without a time or a serial number, keys sorted."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    components = {package.name: _component(package) for package in packages}
    product = components.pop(PRODUCT, None)
    bom = Bom(components=components.values())
    bom.metadata.component = product
    if product is not None:
        bom.register_dependency(product, components.values())
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string()
    values = json.loads(text)
    values.pop("serialNumber", None)
    values["metadata"].pop("timestamp", None)
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _component(package: InstalledPackage) -> Any:
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.license import LicenseExpression
    from packageurl import PackageURL

    purl = PackageURL("pypi", name=package.name, version=package.version)
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.APPLICATION if package.name == PRODUCT else ComponentType.LIBRARY,
        purl=purl,
        bom_ref=purl.to_string(),
        licenses=[LicenseExpression(package.licence)] if package.licence else [],
    )
