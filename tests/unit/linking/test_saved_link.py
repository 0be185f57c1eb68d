"""The saved link: written and read, and whether its inputs are what they were."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from npu_serving import fsutil
from npu_serving.linking.saved_link import (
    FoundLibrary,
    LinkInput,
    SavedLink,
    located,
    read_saved_link,
    write_saved_link,
)


def _input(root: Path, name: str, data: bytes) -> LinkInput:
    path = root / name
    fsutil.write_file(path, data)
    return LinkInput(name, fsutil.sha256_of(path), len(data), path.stat().st_mtime_ns)


def _saved(root: Path) -> SavedLink:
    inputs = (_input(root, "a.o", b"one"), _input(root, "out/b.o", b"two"))
    return SavedLink(
        objects="ab12",
        directory="/npu/out/execroot",
        output="server",
        command=("gcc", "-o", "server", "-Wl,@p"),
        parameters=("a.o", "b.o", "ü"),
        environment={"PATH": "/bin"},
        inputs=inputs,
        replaced=("third_party/tf_adapter/lib_tf_adapter.so",),
        linker="gold",
        searched=("first", f"{root}/second"),
        libraries=(FoundLibrary("m", f"{root}/second/libm.so"), FoundLibrary("x", "", static=True)),
    )


def test_what_was_kept_is_read_as_it_was(tmp_path: Path) -> None:
    saved = _saved(tmp_path)
    write_saved_link(tmp_path / "links" / "ab12.json", saved)
    assert read_saved_link(tmp_path / "links" / "ab12.json") == saved


def test_a_file_that_is_damaged_or_of_another_format_is_no_saved_link(tmp_path: Path) -> None:
    """Then Bazel links, as it would without one."""
    path = tmp_path / "ab12.json"
    assert read_saved_link(path) is None
    document = dataclasses.asdict(_saved(tmp_path))
    whole = json.dumps(document)
    for damage in (
        whole[:-5],
        "[]",
        "[" * 100_000,
        json.dumps({**document, "format": 2}),
        json.dumps({**document, "further": 1}),
        json.dumps({**document, "command": []}),
        json.dumps({**document, "command": [1]}),
        json.dumps({**document, "inputs": [{"name": "a"}]}),
        json.dumps({**document, "environment": 3}),
        json.dumps({**document, "searched": [3]}),
        json.dumps({**document, "libraries": [{"name": "m"}]}),
        json.dumps({**document, "libraries": [{"name": "m", "path": 1}]}),
    ):
        path.write_text(damage)
        assert read_saved_link(path) is None, damage[:80]


def test_an_input_that_was_only_touched_is_unchanged_and_one_of_other_bytes_is_named(tmp_path: Path) -> None:
    saved = _saved(tmp_path)
    assert saved.changed_input(tmp_path) == ""
    os.utime(tmp_path / "a.o", ns=(1, 1))
    assert saved.changed_input(tmp_path) == ""
    (tmp_path / "out/b.o").write_bytes(b"TWO")
    assert saved.changed_input(tmp_path) == "out/b.o"
    (tmp_path / "a.o").write_bytes(b"longer")
    assert saved.changed_input(tmp_path) == "a.o"
    (tmp_path / "a.o").unlink()
    assert saved.changed_input(tmp_path) == "a.o"


def test_a_library_that_would_be_found_elsewhere_now_is_told_with_both_places(tmp_path: Path) -> None:
    saved = _saved(tmp_path)
    found = tmp_path / "second" / "libm.so"
    fsutil.write_file(found, "")
    fsutil.write_file(tmp_path / "first" / "libx.so", "not taken for a static one")
    assert saved.why_other(tmp_path) == ""
    fsutil.write_file(tmp_path / "first" / "libm.a", "")
    then = f"where {found} was when it was linked"
    assert saved.why_other(tmp_path) == f"the linker would take first/libm.a for -lm, {then}"
    (tmp_path / "first" / "libm.a").unlink()
    fsutil.write_file(tmp_path / "second" / "libx.a", "")
    then = "where nothing was found when it was linked"
    assert saved.why_other(tmp_path) == f"the linker would take {tmp_path}/second/libx.a for -lx, {then}"
    found.unlink()
    assert saved.why_other(tmp_path).startswith("the linker would take nothing for -lm, where ")


def test_a_link_that_was_saved_before_libraries_were_noted_is_still_read(tmp_path: Path) -> None:
    saved = dataclasses.replace(_saved(tmp_path), searched=(), libraries=())
    document = dataclasses.asdict(saved)
    del document["searched"], document["libraries"]
    (tmp_path / "ab12.json").write_text(json.dumps(document))
    assert read_saved_link(tmp_path / "ab12.json") == saved
    assert saved.why_other(tmp_path) == ""


@pytest.mark.parametrize("name", ["tree/lib.so", "solib/lib.so", "absolute.so"])
def test_links_are_followed_as_the_runner_sees_them(tmp_path: Path, name: str) -> None:
    """In a container the tree and the output are elsewhere, so Bazel's links lead nowhere from outside."""
    root, source = tmp_path / "output" / "execroot", tmp_path / "source"
    fsutil.write_file(source / "lib.so", "it")
    (root / "solib").mkdir(parents=True)
    (root / "tree").symlink_to("/inside/source")
    (root / "solib" / "lib.so").symlink_to("/inside/output/execroot/tree/lib.so")
    (root / "absolute.so").symlink_to("solib/lib.so")
    places = [(Path("/inside/output"), tmp_path / "output"), (Path("/inside/source"), source)]
    assert located(Path("/inside/output/execroot"), name, places) == source / "lib.so"
