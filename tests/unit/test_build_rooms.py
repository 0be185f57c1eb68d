"""Small rooms of the build: resources, the tree's digest, the artifact's names and lists."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from npu_serving.build import resources
from npu_serving.build.tree import tree_digest
from npu_serving.dist import artifact, builds
from npu_serving.errors import RequestError


def _cgroup(monkeypatch: pytest.MonkeyPatch, root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(resources, "CGROUP", root)


def test_processors_are_those_of_the_cgroup_not_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _cgroup(monkeypatch, tmp_path, cpu_dot_max="100000 100000\n")
    assert resources.usable_processors() == 1
    _cgroup(monkeypatch, tmp_path, cpu_dot_max="max 100000\n")
    assert resources.usable_processors() == len(os.sched_getaffinity(0))


def test_memory_is_what_the_cgroup_leaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _cgroup(monkeypatch, tmp_path, memory_dot_max=str(3 << 30), memory_dot_current=str(1 << 30))
    assert resources.available_memory_mb() <= 2048
    (tmp_path / "memory.max").write_text("max\n")
    assert resources.available_memory_mb() > 0


def test_jobs_are_held_down_by_memory_and_a_given_number_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resources, "usable_processors", lambda: 64)
    assert resources.available_resources(memory_mb=9 * 1024).jobs == 4
    assert resources.available_resources(memory_mb=500).jobs == 1
    assert resources.available_resources(jobs=7, memory_mb=500).jobs == 7


def test_a_trees_digest_depends_on_contents_names_links_and_modes_and_on_nothing_else(tmp_path: Path) -> None:
    tree, memo = tmp_path / "tree", tmp_path / "memo"
    tree.mkdir()
    (tree / "a").write_text("one")
    (tree / "link").symlink_to("a")
    first = tree_digest(tree, memo)
    os.utime(tree / "a", (1, 1))
    assert tree_digest(tree, memo) == first
    shutil.copytree(tree, tmp_path / "copy", symlinks=True)
    assert tree_digest(tmp_path / "copy", tmp_path / "memo2") == first
    digests = {first}
    (tree / "a").chmod(0o755)
    digests.add(tree_digest(tree, memo))
    (tree / "a").write_text("two")
    digests.add(tree_digest(tree, memo))
    (tree / "link").unlink()
    (tree / "link").symlink_to("b")
    digests.add(tree_digest(tree, memo))
    (tree / "new\nname").write_text("")
    digests.add(tree_digest(tree, memo))
    assert len(digests) == 5


def test_a_damaged_memo_is_no_obstacle(tmp_path: Path) -> None:
    tree, memo = tmp_path / "tree", tmp_path / "memo"
    tree.mkdir()
    (tree / "a").write_text("one")
    first = tree_digest(tree, memo)
    memo.write_text("{")
    assert tree_digest(tree, memo) == first


def test_a_build_id_holds_no_character_that_needs_quoting() -> None:
    assert artifact.build_id("1.15.0", "6.3.RC2", "ab" * 32) == "serving-1.15.0-cann-6.3.RC2-abababababab"
    assert artifact.build_id("1.15.0", "a/b ;c", "ab" * 32) == "serving-1.15.0-cann-a-b--c-abababababab"
    assert artifact.build_id("1.15.0", "", "ab" * 32) == "serving-1.15.0-cann-unknown-abababababab"


def _build(dist: Path, name: str, created: str) -> None:
    (dist / name / "bin").mkdir(parents=True)
    (dist / name / artifact.SERVER).write_text("")
    manifest = artifact.BuildManifest(
        name, "d", "1.15.0", {"name": "sample"}, {"cann_version": "6.3"}, "l", {}, (), {}, {}, {}, created
    )
    (dist / name / "manifest.json").write_text(json.dumps(manifest.to_json()))


def test_builds_are_listed_newest_first_and_found_by_id_beginning_path_or_as_the_current_one(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "2026-01-01")
    _build(tmp_path, "serving-b1", "2026-01-02")
    found = builds.read_builds(tmp_path).sound
    assert [build.manifest.build_id for build in found] == ["serving-b1", "serving-a1"]
    with pytest.raises(RequestError, match="No build is the current one"):
        builds.find_build(tmp_path)
    assert builds.make_current(found[1])
    assert builds.find_build(tmp_path).manifest.build_id == "serving-a1"
    assert builds.find_build(tmp_path, "serving-b").manifest.build_id == "serving-b1"
    assert builds.find_build(tmp_path, str(tmp_path / "serving-b1")).manifest.build_id == "serving-b1"
    with pytest.raises(RequestError, match="2 builds match"):
        builds.find_build(tmp_path, "serving-")
    with pytest.raises(RequestError, match="0 builds match"):
        builds.find_build(tmp_path, "nothing")


@pytest.mark.parametrize("damage", ['{"format": 1}', "{", "", "[]", "[" * 100_000, '{"format": 9}', "source", "flags"])
def test_a_build_with_a_damaged_manifest_is_told_as_such_and_not_taken(tmp_path: Path, damage: str) -> None:
    _build(tmp_path, "serving-a1", "2026-01-01")
    path = tmp_path / "serving-a1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), damage: 7}) if damage.isalpha() else damage)
    found = builds.read_builds(tmp_path)
    assert (found.sound, [item.directory.name for item in found.damaged]) == ((), ["serving-a1"])
    with pytest.raises(RequestError, match="serving-a1 is damaged"):
        builds.find_build(tmp_path, "serving-a1")


def test_a_build_that_was_pruned_meanwhile_does_not_become_current(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    _build(tmp_path, "serving-b1", "2")
    second, first = builds.read_builds(tmp_path).sound
    builds.make_current(first)
    shutil.rmtree(second.directory)
    with pytest.raises(RequestError, match="serving-b1 was removed meanwhile"):
        builds.make_current(second)
    assert builds.find_build(tmp_path).manifest.build_id == "serving-a1"
    assert not os.path.lexists(tmp_path / builds.PREVIOUS)


def test_a_current_build_that_was_removed_by_hand_is_named_with_the_way_to_another_one(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    (tmp_path / builds.CURRENT).symlink_to("serving-b1")
    with pytest.raises(RequestError, match="current names serving-b1, which is no build here") as caught:
        builds.find_build(tmp_path)
    assert "serving-a1" in caught.value.what
    assert "./inv rollback --build ID" in caught.value.cure


def test_what_a_manifest_lacks_is_named(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    path = tmp_path / "serving-a1" / "manifest.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in document.items() if name not in ("adapter", "flags")}))
    (damaged,) = builds.read_builds(tmp_path).damaged
    assert damaged.why == f"{path} is not a build manifest: it lacks adapter, flags."


def test_a_manifest_names_no_file_outside_of_its_build(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    path = tmp_path / "serving-a1" / "manifest.json"
    for name in ("/etc/passwd", "lib/../../other"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "files": {name: "0"}}))
        assert builds.read_builds(tmp_path).sound == ()


def test_the_installed_link_goes_through_current(tmp_path: Path) -> None:
    dist, link = tmp_path / "dist", tmp_path / "bin" / "tensorflow_model_server"
    _build(dist, "serving-a1", "1")
    _build(dist, "serving-b1", "2")
    second, first = builds.read_builds(dist).sound
    builds.make_current(first, str(link))
    assert link.resolve() == first.server.resolve()
    builds.make_current(second)
    assert link.resolve() == second.server.resolve()
    assert not builds.link_differs(dist, str(link))
    assert builds.link_differs(dist, str(tmp_path / "other"))
