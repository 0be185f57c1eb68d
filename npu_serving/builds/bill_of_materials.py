"""What is inside a build, as a CycloneDX bill of materials: the same bytes for the same manifest."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from npu_serving.builds.manifest import CREATED, SERVER, BuildManifest

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

FILE_NAME = "bom.cdx.json"
NAMESPACE = uuid.UUID("6f1b6c2e-3c0b-5d3e-9d7a-8a6d0b5c1f52")
"""Ours: the serial number of a bill is made of it and of the build's input digest."""
_GITHUB = re.compile(
    r"https://(?:[^/]+/)*github\.com/([^/]+)/([^/]+)/archive/(?:refs/tags/)?(.+?)\.(?:tar\.gz|zip|tgz)\Z"
)


def bill_of_materials(manifest: BuildManifest) -> str:
    """The bill in JSON, CycloneDX 1.5: the server, its libraries, and every archive that it was built from.

    Its time is that of the build, not of the writing.
    """
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import ComponentType
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    server = _component(
        "tensorflow_model_server",
        manifest.files[SERVER],
        version=manifest.serving_version,
        kind=ComponentType.APPLICATION,
        properties=_properties(manifest),
    )
    made = datetime.strptime(manifest.created, CREATED).replace(tzinfo=timezone.utc)
    parts = [*_libraries(manifest), *_archives(manifest)]
    bom = Bom(
        components=parts,
        serial_number=uuid.uuid5(NAMESPACE, manifest.input_digest),
        metadata=BomMetaData(component=server, timestamp=made),
    )
    bom.register_dependency(server, parts)
    return str(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_5).output_as_string(indent=2)) + "\n"


def package_url(url: str) -> tuple[PackageURL | None, str]:
    """The purl and the version of an archive of GitHub's, from its URL; None and "" for any other."""
    from packageurl import PackageURL

    found = _GITHUB.fullmatch(url)
    if found is None:
        return None, ""
    owner, repository, reference = found.groups()
    return PackageURL("github", owner.lower(), repository.lower(), reference), reference


def _libraries(manifest: BuildManifest) -> list[Component]:
    """The libraries beside the server. The adapter's version is CANN's."""
    adapter = manifest.adapter.get("sha256")
    return [
        _component(name, digest, version=manifest.adapter.get("cann_version", "") if digest == adapter else "")
        for name, digest in sorted(manifest.files.items())
        if name != SERVER
    ]


def _archives(manifest: BuildManifest) -> list[Component]:
    return [
        _component(f"archive/{name}", archive["sha256"], url=archive["url"])
        for name, archive in sorted(manifest.archives.items())
    ]


def _properties(manifest: BuildManifest) -> dict[str, str]:
    described = {
        "input-digest": manifest.input_digest,
        "source": manifest.source["name"],
        "source-digest": manifest.source.get("digest", ""),
        "lock-digest": manifest.lock_digest,
        **{f"toolchain:{name}": value for name, value in manifest.toolchain.items()},
    }
    return {f"npu-serving:{name}": value for name, value in described.items()}


def _component(
    name: str,
    sha256: str,
    *,
    version: str = "",
    url: str = "",
    kind: object = None,
    properties: Mapping[str, str] | None = None,
) -> Component:
    from cyclonedx.model import (
        ExternalReference,
        ExternalReferenceType,
        HashAlgorithm,
        HashType,
        Property,
        XsUri,
    )
    from cyclonedx.model.component import Component, ComponentType

    purl, reference = package_url(url)
    return Component(
        name=name,
        type=kind if isinstance(kind, ComponentType) else ComponentType.LIBRARY,
        bom_ref=f"{name}@{sha256[:16]}",
        version=version or reference or None,
        purl=purl,
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        external_references=[ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url))] if url else [],
        properties=[Property(name=key, value=value) for key, value in (properties or {}).items()],
    )
