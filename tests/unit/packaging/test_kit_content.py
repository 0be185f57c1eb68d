"""What a kit says that its servers are to fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from listening import Listening

from npu_serving.builds.manifest import BuildManifest
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.packaging.kit_content import fits_by_release, golden_files, golden_of_kit, template
from npu_serving.settings import Settings


def test_a_kit_holds_the_needs_of_every_adapter_also_where_two_files_have_one_name_and_no_directory() -> None:
    adapters = (
        KnownAdapter("6.3.RC2", "1.0", "", ("a",)),
        KnownAdapter("/opt/one/_tf_adapter.so", "", "", ("c", "a")),
        KnownAdapter("/opt/two/_tf_adapter.so", "", "", ("b",)),
    )
    assert fits_by_release(adapters) == {"6.3.RC2": ("a",), "_tf_adapter.so": ("a", "b", "c")}


def test_a_kit_of_a_build_says_nothing_of_that_builds_own_link_so_it_is_the_kit_of_its_objects() -> None:
    ready = BuildManifest(
        "", "", "1.15.0", {"name": "x"}, {}, "l", {}, (), {}, {}, {}, objects="0b", linker_setting="auto"
    )
    linked = dataclasses.replace(
        ready,
        build_id="serving-1",
        input_digest="ab",
        adapter={"path": "/a"},
        actions={"CppLink": 1},
        files={"bin/tensorflow_model_server": "cd"},
        created="2026-11-30T00:00:00Z",
        linked="ef",
        linker="gold",
        linker_version="2.40",
    )
    assert template(linked) == template(ready)


def test_golden_requests_are_those_of_the_directory_that_is_named_and_one_that_is_not_there_is_said(
    tmp_path: Path,
) -> None:
    settings, warned = Settings(dist_root=tmp_path / "dist"), Listening()
    of_builds, named = tmp_path / "dist/golden", tmp_path / "golden"
    for directory in (of_builds, named):
        directory.mkdir(parents=True)
        request = '{"format": 2, "model": "m", "instances": [1.0], "expected": [3.5]}'
        (directory / f"{directory.parent.name}.json").write_text(request)
    assert set(golden_files(golden_of_kit(settings, None, warned), warned)) == {"golden/dist.json"}
    assert set(golden_files(golden_of_kit(settings, named, warned), warned)) == {f"golden/{tmp_path.name}.json"}
    assert warned.warnings == []
    nowhere = tmp_path / "nowhere"
    assert golden_files(golden_of_kit(settings, nowhere, warned), warned) == {}
    assert warned.warnings == [f"{nowhere} is not a directory, so the kit has no golden requests."]
