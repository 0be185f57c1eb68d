"""How a build came about, as an in-toto statement with SLSA's provenance: the same bytes for the same manifest.

The shape is that of https://in-toto.io/Statement/v1 and https://slsa.dev/provenance/v1. It is not signed: whoever hands
a build on signs it with keys of their own, with `cosign attest-blob --statement` for one.
"""

from __future__ import annotations

import json

from npu_serving.builds.manifest import BuildManifest

FILE_NAME = "provenance.intoto.json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:npu-serving:build-serving:v1"
"""externalParameters: what the person asked for; internalParameters: what this project added to it."""


def provenance(manifest: BuildManifest) -> str:
    """The statement in JSON: the files of the build as subjects, everything that went in by digest."""
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(manifest.files.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "source": manifest.source["name"],
                    "servingVersion": manifest.serving_version,
                    "cannVersion": manifest.adapter.get("cann_version", ""),
                    "runner": manifest.toolchain.get("runner", ""),
                    "bazelFlags": list(manifest.flags),
                },
                "internalParameters": {
                    "compilation": list(manifest.compilation),
                    "patches": dict(manifest.patches),
                    "toolchain": dict(manifest.toolchain),
                },
                "resolvedDependencies": _dependencies(manifest),
            },
            "runDetails": {
                "builder": {"id": f"urn:npu-serving:runner:{manifest.toolchain.get('runner', 'unknown')}"},
                "metadata": {"invocationId": manifest.build_id, "finishedOn": manifest.created},
            },
        },
    }
    return json.dumps(statement, indent=2, sort_keys=True) + "\n"


def _dependencies(manifest: BuildManifest) -> list[dict[str, object]]:
    """Each with a name, and a digest or a URI, as the type ResourceDescriptor asks for."""
    own: list[dict[str, object]] = [
        {"name": "source", "digest": {"sha256": manifest.source.get("digest", "")}},
        {"name": "lock", "digest": {"sha256": manifest.lock_digest}},
    ]
    if not manifest.without_adapter:
        own.insert(1, {"name": "adapter", "digest": {"sha256": manifest.adapter["sha256"]}})
    archives: list[dict[str, object]] = [
        {"name": name, "uri": archive["url"], "digest": {"sha256": archive["sha256"]}}
        for name, archive in sorted(manifest.archives.items())
    ]
    return [*own, *archives]
