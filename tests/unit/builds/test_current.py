"""The builds in dist/: listed, found, made current; their manifests read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from npu_serving import resources
from npu_serving.builds.current import (
    CURRENT,
    PREVIOUS,
    check_link,
    find_build,
    link_differs,
    make_current,
    read_builds,
)
from npu_serving.builds.listing import list_builds
from npu_serving.builds.manifest import SERVER, Build, BuildManifest, assembled, build_id
from npu_serving.builds.rollback import switch_back
from npu_serving.builds.verify import Fit
from npu_serving.errors import RequestError, VerificationError
from npu_serving.settings import Settings


def _cgroup(monkeypatch: pytest.MonkeyPatch, root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(resources, "CGROUP", root)


def test_a_build_id_holds_no_character_that_needs_quoting() -> None:
    assert build_id("1.15.0", "6.3.RC2", "ab" * 32) == "serving-1.15.0-cann-6.3.RC2-abababababab"
    assert build_id("1.15.0", "a/b ;c", "ab" * 32) == "serving-1.15.0-cann-a-b--c-abababababab"
    assert build_id("1.15.0", "", "ab" * 32) == "serving-1.15.0-cann-unknown-abababababab"


def _build(dist: Path, name: str, created: str) -> None:
    (dist / name / "bin").mkdir(parents=True)
    (dist / name / SERVER).write_text("")
    manifest = BuildManifest(
        name, "d", "1.15.0", {"name": "sample"}, {"cann_version": "6.3"}, "l", {}, (), {}, {}, {}, created
    )
    (dist / name / "manifest.json").write_text(json.dumps(manifest.to_json()))


def test_builds_are_listed_newest_first_and_found_by_id_beginning_path_or_as_the_current_one(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "2026-01-01")
    _build(tmp_path, "serving-b1", "2026-01-02")
    found = read_builds(tmp_path).sound
    assert [build.manifest.build_id for build in found] == ["serving-b1", "serving-a1"]
    with pytest.raises(RequestError, match="No build is current"):
        find_build(tmp_path)
    assert make_current(found[1])
    assert find_build(tmp_path).manifest.build_id == "serving-a1"
    assert find_build(tmp_path, "serving-b").manifest.build_id == "serving-b1"
    assert find_build(tmp_path, str(tmp_path / "serving-b1")).manifest.build_id == "serving-b1"
    with pytest.raises(RequestError, match="2 builds match"):
        find_build(tmp_path, "serving-")
    with pytest.raises(RequestError, match="No builds match") as error:
        find_build(tmp_path, "nothing")
    assert "more of the name" not in error.value.cure


def test_where_there_is_only_a_relink_kit_it_is_named_not_the_command_that_made_it(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as error:
        find_build(tmp_path)
    assert error.value.cure == "make one with: ./inv build-serving"
    kit = tmp_path / "packages" / "kit.pyz"
    kit.parent.mkdir()
    kit.touch()
    with pytest.raises(RequestError, match="only a relink kit") as error:
        find_build(tmp_path)
    command = f"python3 {kit} relink --dist DIST; or here: ./inv build-serving --adapter auto"
    assert error.value.cure == f"on the machine with CANN: {command}"
    listed = list_builds(Settings(dist_root=tmp_path)).text()
    assert "only a relink kit" in listed
    assert command in listed
    with pytest.raises(RequestError, match="only a relink kit") as error:
        switch_back(tmp_path, lambda _build: Fit(True))
    assert command in error.value.cure
    _build(tmp_path, "serving-cpu", "2026-01-01")
    path = tmp_path / "serving-cpu" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "adapter": {"path": "none"}}))
    with pytest.raises(RequestError, match="no build with an adapter") as error:
        find_build(tmp_path)
    assert command in error.value.cure


def test_where_the_current_build_is_the_only_one_rollback_asks_for_no_name_of_another(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "2026-01-01")
    make_current(read_builds(tmp_path).sound[0])
    with pytest.raises(RequestError, match="serving-a1, the current one, is the only build") as error:
        switch_back(tmp_path, lambda _build: Fit(True))
    assert "ID" not in error.value.cure
    _build(tmp_path, "serving-b1", "2026-01-02")
    with pytest.raises(RequestError, match="serving-b1") as error:
        switch_back(tmp_path, lambda _build: Fit(True))
    assert error.value.cure == "name one: ./inv rollback --build ID"


def test_an_install_link_of_a_user_that_nobody_has_is_refused_with_words(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="install_link can't be '~nosuchuser/x'"):
        check_link("~nosuchuser/x", tmp_path)


@pytest.mark.parametrize("damage", ['{"format": 1}', "{", "", "[]", "[" * 100_000, '{"format": 9}', "source", "flags"])
def test_a_build_with_a_damaged_manifest_is_told_as_such_and_not_taken(tmp_path: Path, damage: str) -> None:
    _build(tmp_path, "serving-a1", "2026-01-01")
    path = tmp_path / "serving-a1" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), damage: 7}) if damage.isalpha() else damage)
    found = read_builds(tmp_path)
    assert (found.sound, [item.directory.name for item in found.damaged]) == ((), ["serving-a1"])
    with pytest.raises(RequestError, match="serving-a1 is damaged"):
        find_build(tmp_path, "serving-a1")


def test_a_build_that_was_pruned_meanwhile_does_not_become_current(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    _build(tmp_path, "serving-b1", "2")
    second, first = read_builds(tmp_path).sound
    make_current(first)
    shutil.rmtree(second.directory)
    with pytest.raises(RequestError, match="serving-b1 was removed in the meantime"):
        make_current(second)
    assert find_build(tmp_path).manifest.build_id == "serving-a1"
    assert not os.path.lexists(tmp_path / PREVIOUS)


def test_a_current_build_that_was_removed_by_hand_is_named_with_the_way_to_another_one(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    (tmp_path / CURRENT).symlink_to("serving-b1")
    with pytest.raises(RequestError, match="current points to serving-b1, which is not a build") as caught:
        find_build(tmp_path)
    assert "serving-a1" in caught.value.what
    assert "./inv rollback --build ID" in caught.value.cure


def test_what_a_manifest_lacks_is_named(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    path = tmp_path / "serving-a1" / "manifest.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in document.items() if name not in ("adapter", "flags")}))
    (damaged,) = read_builds(tmp_path).damaged
    assert damaged.why.startswith(f"{path} is not a build manifest:\n{path}:1:1: ")
    assert {line.split(": ")[1] for line in damaged.why.split("\n")[1:]} == {"adapter", "flags"}


def test_a_manifest_names_no_file_outside_of_its_build(tmp_path: Path) -> None:
    _build(tmp_path, "serving-a1", "1")
    path = tmp_path / "serving-a1" / "manifest.json"
    for name in ("/etc/passwd", "lib/../../other"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "files": {name: "0"}}))
        assert read_builds(tmp_path).sound == ()


def test_the_installed_link_goes_through_current(tmp_path: Path) -> None:
    dist, link = tmp_path / "dist", tmp_path / "bin" / "tensorflow_model_server"
    _build(dist, "serving-a1", "1")
    _build(dist, "serving-b1", "2")
    second, first = read_builds(dist).sound
    make_current(first, str(link))
    assert link.resolve() == first.server.resolve()
    make_current(second)
    assert link.resolve() == second.server.resolve()
    assert not link_differs(dist, str(link))
    assert link_differs(dist, str(tmp_path / "other"))


def _assembled(dist: Path, name: str, server: Path, adapter: Path, former: Build | None = None) -> Build:
    made = BuildManifest(name, "d", "1.15.0", {"name": "sample"}, {}, "l", {}, (), {}, {}, {})
    with assembled(dist, made, server, {"_tf_adapter.so": adapter}, former=former):
        pass
    return find_build(dist, name)


def test_a_build_shares_the_server_of_another_and_a_damage_in_place_is_noticed_in_each_that_has_it(
    tmp_path: Path,
) -> None:
    server, adapter, other = tmp_path / "server", tmp_path / "adapter", tmp_path / "other"
    for path in (server, adapter, other):
        path.write_text(path.name * 1000)
    first = _assembled(tmp_path / "dist", "first", server, adapter)
    second = _assembled(tmp_path / "dist", "second", first.server, other, first)
    assert second.manifest.files[SERVER] == first.manifest.files[SERVER]
    assert (first.damaged_file(), second.damaged_file()) == ("", "")
    shared = first.server.samefile(second.server)
    with second.server.open("r+") as file:
        file.write("x")
    assert second.damaged_file() == SERVER
    assert first.damaged_file() == (SERVER if shared else "")


def test_a_file_that_was_changed_since_its_build_is_not_taken_over_into_another(tmp_path: Path) -> None:
    server, adapter = tmp_path / "server", tmp_path / "adapter"
    server.write_text("server")
    adapter.write_text("adapter")
    first = _assembled(tmp_path / "dist", "first", server, adapter)
    first.server.write_text("changed")
    with pytest.raises(VerificationError, match="is not what it was when it was built"):
        _assembled(tmp_path / "dist", "second", first.server, adapter, first)
    assert not (tmp_path / "dist" / "second").exists()


def test_a_server_that_was_made_for_one_build_is_moved_into_it(tmp_path: Path) -> None:
    server = tmp_path / "dist" / ".made" / "server"
    server.parent.mkdir(parents=True)
    server.write_text("server")
    inode = server.stat().st_ino
    made = BuildManifest("only", "d", "1.15.0", {"name": "sample"}, {}, "l", {}, (), {}, {}, {})
    with assembled(tmp_path / "dist", made, server, {}, moves_server=True):
        pass
    assert find_build(tmp_path / "dist", "only").server.stat().st_ino == inode
    assert not server.exists()
