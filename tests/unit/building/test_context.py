"""What a build is made from: worked out once, and once more when it is asked for on purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from npu_serving.building.context import BuildContext
from npu_serving.building.runner import Layout, Runner
from npu_serving.building.sources import LOCKS, ServingSource
from npu_serving.building.tree_digest import tree_digest
from npu_serving.cann.install import Cann
from npu_serving.lock.lockfile import read_lock
from npu_serving.settings import Settings


class OldMachine:
    """A runner whose compiler calls for no patch."""

    name = "host"

    def __init__(self, compiler: str = "gcc 8.4.0") -> None:
        self.compiler = compiler
        self.asked = 0

    def identity(self) -> dict[str, str]:
        self.asked += 1
        return {"compiler": self.compiler, "glibc": "glibc 2.27"}

    def inside(self, layout: Layout) -> Layout:
        return layout


def cann_with(byte: str) -> Cann:
    """One whose adapter has that digest."""
    return cast(Cann, SimpleNamespace(adapter=SimpleNamespace(sha256=byte * 32, path=Path("adapter"), elf=None)))


@pytest.fixture
def given(tmp_path: Path) -> BuildContext:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "WORKSPACE").write_text("workspace()")
    lock = LOCKS / "sample.json"
    return BuildContext(
        settings=Settings(build_root=tmp_path / "build", dist_root=tmp_path / "dist"),
        source=ServingSource("tree", tree, read_lock(lock), lock),
        cann=cann_with("ab"),
        libpython=tmp_path / "libpython",
        runner=cast(Runner, OldMachine()),
        archives=(),
    )


def test_the_input_digest_is_worked_out_once_and_anew_only_on_purpose(
    given: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []

    def hashing(tree: Path, *arguments: Any, **more: Any) -> str:
        hashed.append(tree)
        return tree_digest(tree, *arguments, **more)

    monkeypatch.setattr("npu_serving.building.context.tree_digest", hashing)
    before = given.input_digest
    assert given.input_digest == before
    assert len(hashed) == 1
    assert cast(OldMachine, given.runner).asked == 1
    assert given.hashed_again() == before
    assert len(hashed) == 2
    (given.source.tree / "WORKSPACE").write_text("workspace(name)")
    assert given.input_digest == before, "what was begun with stays what is compared with"
    assert given.hashed_again() != before


def test_whatever_decides_what_the_server_becomes_changes_the_digest(given: BuildContext) -> None:
    others = [
        replace(given, settings=replace(given.settings, bazel_args=("--copt=-g",))),
        replace(given, runner=cast(Runner, OldMachine("gcc 9.3.0"))),
        replace(given, cann=cann_with("cd")),
    ]
    assert len({given.input_digest, *(other.input_digest for other in others)}) == 4


def test_where_a_build_is_made_does_not_change_the_digest(given: BuildContext, tmp_path: Path) -> None:
    elsewhere = given.source.tree.rename(tmp_path / "elsewhere")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "WORKSPACE").write_text("workspace()")
    moved = replace(
        given,
        settings=replace(given.settings, build_root=tmp_path / "other"),
        source=replace(given.source, tree=elsewhere),
    )
    assert moved.input_digest == given.input_digest


def test_each_runner_has_an_output_root_of_its_own_below_the_build_root(given: BuildContext, tmp_path: Path) -> None:
    assert given.layout.output_user_root == tmp_path / "build" / "bazel" / "host"
    assert given.output_base.parent == given.layout.output_user_root
    assert given.layout is given.layout


def test_seen_again_the_tree_is_looked_at_again_and_what_was_asked_of_the_toolchain_is_not(given: BuildContext) -> None:
    before = given.input_digest
    given.linkers_asked["-fuse-ld=lld"] = "LLD 14.0.6"
    (given.source.tree / "WORKSPACE").write_text("workspace(name)")
    again = given.seen_again()
    assert again.input_digest != before
    assert again.patches is given.patches
    assert again.overlay is given.overlay
    assert again.linkers_asked == {"-fuse-ld=lld": "LLD 14.0.6"}
