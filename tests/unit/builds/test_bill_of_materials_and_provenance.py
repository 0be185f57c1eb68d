"""The papers of a build: its bill of materials and its provenance, by their schemas, the same for the same inputs."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.building.sources import LOCKS
from npu_serving.builds.bill_of_materials import bill_of_materials, package_url
from npu_serving.builds.manifest import SERVER, BuildManifest
from npu_serving.builds.provenance import provenance
from npu_serving.lock.lockfile import read_lock

ARCHIVES = {
    archive.name: {"url": archive.urls[0], "sha256": archive.sha256 or ""}
    for archive in read_lock(LOCKS / "serving-1.15.0.json").needed("linux-x86_64-cpu")
}
MANIFEST = BuildManifest(
    build_id="serving-1.15.0-cann-6.3.RC2-0123456789ab",
    input_digest="ab" * 32,
    serving_version="1.15.0",
    source={"name": "1.15.0", "digest": "1" * 64},
    adapter={"path": "/somewhere/_tf_adapter.so", "sha256": "a" * 64, "cann_version": "6.3.RC2"},
    lock_digest="2" * 64,
    toolchain={"runner": "docker", "compiler": "gcc 8.4.0, g++ 8.4.0"},
    flags=("--copt=-mavx",),
    actions={"CppCompile": 4000},
    patches={"patches": ["grpc-gettid"]},
    files={SERVER: "5" * 64, "lib/_tf_adapter.so": "a" * 64, "lib/libpython3.7m.so.1.0": "b" * 64},
    created="2026-11-22T21:52:49Z",
    compilation=("-c", "opt"),
    archives=ARCHIVES,
)
TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)


def bill(manifest: BuildManifest = MANIFEST) -> Any:
    return json.loads(bill_of_materials(manifest))


def statement(manifest: BuildManifest = MANIFEST) -> Any:
    return json.loads(provenance(manifest))


def test_the_bill_is_valid_by_cyclonedxs_own_schema() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(bill_of_materials(MANIFEST)) is None


def test_the_bill_names_the_server_its_libraries_and_all_archives_with_their_digests() -> None:
    document = bill()
    assert document["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "5" * 64}]
    found = {item["name"]: item["hashes"][0]["content"] for item in document["components"]}
    expected = {f"archive/{name}": archive["sha256"] for name, archive in ARCHIVES.items()}
    assert found == {"lib/_tf_adapter.so": "a" * 64, "lib/libpython3.7m.so.1.0": "b" * 64, **expected}
    (adapter,) = [item for item in document["components"] if item["name"] == "lib/_tf_adapter.so"]
    assert adapter["version"] == "6.3.RC2"
    (own,) = [item for item in document["dependencies"] if item["ref"].startswith("tensorflow_model_server")]
    assert len(own["dependsOn"]) == len(found)


def test_archives_of_github_are_named_as_scanners_look_them_up() -> None:
    url = "https://mirror.bazel.build/github.com/Tencent/rapidjson/archive/v1.1.0.zip"
    purl, version = package_url(url)
    assert (str(purl), version) == ("pkg:github/tencent/rapidjson@v1.1.0", "v1.1.0")
    assert package_url("https://www.sqlite.org/2019/sqlite-amalgamation-3280000.zip") == (None, "")
    assert sum("purl" in item for item in bill()["components"]) > len(ARCHIVES) / 2


def test_the_provenance_has_the_fields_that_in_toto_and_slsa_ask_for() -> None:
    document = statement()
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["predicateType"] == "https://slsa.dev/provenance/v1"
    assert set(document) == {"_type", "subject", "predicateType", "predicate"}
    assert {item["name"]: item["digest"]["sha256"] for item in document["subject"]} == MANIFEST.files
    predicate = document["predicate"]
    assert set(predicate) == {"buildDefinition", "runDetails"}
    definition = predicate["buildDefinition"]
    assert set(definition) == {"buildType", "externalParameters", "internalParameters", "resolvedDependencies"}
    uri = re.compile(r"[a-z]+:[^\s]+")
    assert uri.fullmatch(definition["buildType"])
    assert uri.fullmatch(predicate["runDetails"]["builder"]["id"])
    assert len(definition["resolvedDependencies"]) == 3 + len(ARCHIVES)
    for item in definition["resolvedDependencies"]:
        assert set(item) <= {"name", "uri", "digest"}
        assert re.fullmatch(r"[0-9a-f]{64}", item["digest"]["sha256"])


@pytest.mark.parametrize("paper", [bill_of_materials, provenance])
def test_a_paper_is_the_same_bytes_for_the_same_manifest_and_tells_no_directory(paper: Any) -> None:
    moved = dataclasses.replace(MANIFEST, adapter={**MANIFEST.adapter, "path": "/elsewhere"})
    assert paper(moved) == paper(MANIFEST)
    assert paper(dataclasses.replace(MANIFEST, lock_digest="cd" * 32)) != paper(MANIFEST)


def test_the_time_in_them_is_that_of_the_build() -> None:
    assert bill()["metadata"]["timestamp"].startswith("2026-11-22T21:52:49")
    assert statement()["predicate"]["runDetails"]["metadata"]["finishedOn"] == "2026-11-22T21:52:49Z"


def test_the_manifest_of_a_build_made_before_archives_were_written_down_will_do() -> None:
    former = dataclasses.replace(MANIFEST, archives={}, compilation=())
    assert len(bill(former)["components"]) == 2
    assert len(statement(former)["predicate"]["buildDefinition"]["resolvedDependencies"]) == 3


@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=3), TEXT, TEXT)
def test_whatever_the_texts_hold_the_bill_is_valid_and_the_statement_is_json(
    toolchain: dict[str, str], source: str, version: str
) -> None:
    manifest = dataclasses.replace(
        MANIFEST,
        archives={},
        toolchain=toolchain,
        source={"name": source, "digest": "1" * 64},
        serving_version=version,
    )
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(bill_of_materials(manifest)) is None
    assert statement(manifest)["predicate"]["buildDefinition"]["externalParameters"]["source"] == source
