"""The watch: an upgrade is noticed once its installer has finished, and dealt with once. Time is a list of steps."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import pytest
from cann_trees import SITE, make_cann, point, put
from elf_samples import library, needs_gcc
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import EXIT_INTERRUPTED, ProgramError, StateLockedError
from npu_serving.settings import PROJECT_ROOT
from npu_serving.upgrade import watch
from npu_serving.upgrade.watch import LOOKS_TO_SETTLE, Event, look_at
from npu_serving.upgrade.wholeness import is_whole

pytestmark = needs_gcc
Step = Callable[[], object]
REST: list[Step] = [lambda: None] * LOOKS_TO_SETTLE


class OutOfStepsError(Exception):
    """The script of a test has ended; the watch would go on."""


@dataclass
class Outcome:
    exit_code: int = 0
    says: str = "said\nin two lines"

    def to_json(self) -> dict[str, object]:
        return {"says": self.says}

    def text(self) -> str:
        return self.says


@dataclass
class World:
    """An installation, a server that fits an adapter, and steps that happen between two looks."""

    root: Path
    linked_with: bytes = b""
    rebuilds: int = 0
    plans: int = 0
    events: list[Event] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    during_rebuild: list[Step] = field(default_factory=list)

    @property
    def adapter(self) -> Path:
        return self.root / "tfplugin/latest" / SITE / "npu_bridge/_tf_adapter.so"

    def plan(self) -> Outcome:
        self.plans += 1
        assert is_whole(self.adapter), "asked while the installer was writing"
        return Outcome(0 if self.adapter.read_bytes() == self.linked_with else 3)

    def rebuild(self) -> Outcome:
        if self.failures:
            raise self.failures.pop(0)
        self.rebuilds += 1
        self.linked_with = self.adapter.read_bytes()
        if self.during_rebuild:
            self.during_rebuild.pop(0)()
        return Outcome()

    def run(self, steps: Sequence[Step], *, act: bool = True, once: bool = False) -> list[str]:
        """The kinds of the events, with those steps between the looks; one event to a line, as text and as JSON."""
        left = list(steps)

        def sleep(_seconds: float) -> None:
            if not left:
                raise OutOfStepsError
            left.pop(0)()

        happened = watch.events(
            lambda: look_at("auto", str(self.root)),
            self.plan,
            self.rebuild if act else None,
            interval_s=1,
            once=once,
            sleep=sleep,
        )
        self.events.clear()
        with contextlib.suppress(OutOfStepsError):
            for event in happened:
                self.events.append(event)
        for event in self.events:
            assert len(event.text().splitlines()) == 1
            assert len(json.dumps(event.to_json()).splitlines()) == 1
        return [event.kind for event in self.events]


@pytest.fixture
def world(tmp_path: Path) -> World:
    root = make_cann(tmp_path / "Ascend")
    made = World(root)
    library(made.adapter.parent, "_tf_adapter.so", "int first;")
    made.linked_with = made.adapter.read_bytes()
    return made


@pytest.fixture
def upgrade(world: World, tmp_path: Path) -> Path:
    """The next release, complete, somewhere else: what an installer is about to write."""
    root = make_cann(tmp_path / "package", "7.0.RC1")
    library(root / "tfplugin/7.0.RC1" / SITE / "npu_bridge", "_tf_adapter.so", "int second(void) { return 2; }")
    return root


def install(world: World, package: Path) -> list[Step]:
    """The steps of an installer: the trees, the adapter in three pieces, then the links, one after the other."""
    release, content = "7.0.RC1", (package / "tfplugin/7.0.RC1" / SITE / "npu_bridge/_tf_adapter.so").read_bytes()
    target = world.root / "tfplugin" / release / SITE / "npu_bridge/_tf_adapter.so"

    def tree(family: str) -> Step:
        return lambda: shutil.copytree(package / family / release, world.root / family / release, symlinks=True)

    def piece(size: int) -> Step:
        return lambda: target.write_bytes(content[:size])

    return [
        tree("ascend-toolkit"),
        lambda: point(world.root / "ascend-toolkit/latest", release),
        tree("tfplugin"),
        piece(0),
        lambda: point(world.root / "tfplugin/latest", release),
        piece(100),
        lambda: None,
        piece(len(content) // 2),
        lambda: put(world.root / "ascend-toolkit/latest/lib64/libnew.so"),
        piece(len(content)),
    ]


def test_an_installation_that_fits_is_told_once_and_then_nothing(world: World) -> None:
    assert world.run([*REST, *REST, *REST]) == ["watching", "fits"]
    assert (world.plans, world.rebuilds) == (1, 0)


def test_an_upgrade_is_dealt_with_once_when_its_installer_has_finished(world: World, upgrade: Path) -> None:
    assert world.run([*REST, *install(world, upgrade), *REST, *REST, *REST]) == [
        "watching",
        "fits",
        "changing",
        "rebuilding",
        "rebuilt",
    ]
    assert (world.plans, world.rebuilds) == (2, 1)


def test_without_act_it_is_reported_and_left_alone(world: World, upgrade: Path) -> None:
    steps = [*REST, *install(world, upgrade), *REST, *REST]
    assert world.run(steps, act=False) == ["watching", "fits", "changing", "due"]
    assert world.rebuilds == 0
    assert world.events[-1].exit_code == 3


def test_a_pause_in_the_middle_of_an_installation_starts_nothing(world: World, upgrade: Path) -> None:
    """Between toolkit and tfplugin minutes may pass: CANN is of two releases then."""
    steps = install(world, upgrade)
    paused = [*steps[:2], *REST, *REST, *steps[2:5], *REST, *REST, *steps[5:8], *REST, *REST, *steps[8:], *REST, *REST]
    kinds = world.run([*REST, *paused])
    assert kinds[:2] == ["watching", "fits"]
    assert set(kinds[2:-2]) == {"changing", "blocked"}
    assert kinds[-2:] == ["rebuilding", "rebuilt"]
    assert any("of CANN 7.0.RC1" in event.message for event in world.events if event.kind == "blocked")
    assert any("not a complete ELF file" in event.message for event in world.events if event.kind == "blocked")


def test_an_adapter_overwritten_in_place_with_the_same_size_and_time_is_noticed(world: World) -> None:
    def overwrite() -> None:
        status, content = world.adapter.stat(), world.adapter.read_bytes()
        with world.adapter.open("r+b") as file:
            file.write(content.replace(b"first", b"other"))
        os.utime(world.adapter, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert world.adapter.stat().st_size == status.st_size

    assert world.run([*REST, overwrite, *REST, *REST]) == ["watching", "fits", "changing", "rebuilding", "rebuilt"]


def test_cann_may_be_gone_for_a_while(world: World, upgrade: Path, tmp_path: Path) -> None:
    away = [lambda: world.root.rename(tmp_path / "away"), *REST, *REST]
    back = [lambda: upgrade.rename(world.root), *REST, *REST]
    assert world.run([*REST, *away, *back]) == [
        "watching",
        "fits",
        "changing",
        "absent",
        "changing",
        "rebuilding",
        "rebuilt",
    ]


def test_a_change_that_is_taken_back_before_it_settled_is_nothing(world: World, tmp_path: Path) -> None:
    away = [lambda: world.root.rename(tmp_path / "away"), lambda: (tmp_path / "away").rename(world.root)]
    assert world.run([*REST, *away, *REST, *REST]) == ["watching", "fits", "changing"]
    assert world.plans == 1


def test_another_run_is_waited_for_and_a_failure_is_not_repeated_until_something_changes(
    world: World, upgrade: Path
) -> None:
    world.failures = [StateLockedError("in use"), ProgramError("ld failed", cure="look at it")]
    touched = [lambda: os.utime(world.adapter), *REST, *REST]
    kinds = world.run([*REST, *install(world, upgrade), *REST, *REST, *REST, *REST, *touched])
    assert kinds[:7] == ["watching", "fits", "changing", "rebuilding", "busy", "rebuilding", "failed"]
    assert world.events[6].details["cure"] == "look at it"
    assert kinds[7:] == ["changing", "rebuilding", "rebuilt"]


def test_an_error_of_the_file_system_is_an_event_too(world: World, upgrade: Path) -> None:
    world.failures = [OSError(28, "No space left on device", "/dist")]
    assert world.run([*REST, *install(world, upgrade), *REST, *REST])[-1] == "failed"
    assert "the disk is full" in world.events[-1].message


def test_what_changes_during_a_rebuild_is_dealt_with_afterwards(world: World, upgrade: Path) -> None:
    world.during_rebuild = [lambda: library(world.adapter.parent, "_tf_adapter.so", "int third;")]
    kinds = world.run([*REST, *install(world, upgrade), *REST, *REST, *REST])
    assert kinds == ["watching", "fits", "changing", "rebuilding", "rebuilt", "changing", "rebuilding", "rebuilt"]


def test_once_ends_when_the_state_has_been_dealt_with(world: World, upgrade: Path) -> None:
    world.during_rebuild = [lambda: library(world.adapter.parent, "_tf_adapter.so", "int third;")]
    steps = install(world, upgrade)
    kinds = world.run([*steps, *REST, *REST, *REST, *REST], once=True)
    assert kinds == ["watching", "changing", "rebuilding", "rebuilt", "changing", "rebuilding", "rebuilt"]
    assert world.run([*REST, *REST], once=True) == ["watching", "fits"]


@given(st.integers(0, 20000), st.binary(max_size=100))
def test_no_beginning_of_an_elf_file_is_whole(tmp_path_factory: pytest.TempPathFactory, size: int, junk: bytes) -> None:
    directory = tmp_path_factory.getbasetemp() / "whole"
    adapter = directory / "a.so"
    if not adapter.exists():
        library(directory, "a.so", "int x;")
    content = adapter.read_bytes()
    assert is_whole(adapter)
    assert is_whole(put(directory / "cut")) is False
    (directory / "cut").write_bytes(content[: min(size, len(content) - 1)])
    assert not is_whole(directory / "cut")
    (directory / "cut").write_bytes(b"\x7fELF\x02\x01" + junk)
    assert is_whole(directory / "cut") in (True, False)
    assert not is_whole(directory), "a directory is none"


# ---- the command


def started(world: World, tmp_path: Path, *flags: str) -> subprocess.Popen[str]:
    """The real command, on a build that is nothing but its manifest."""
    build = tmp_path / "dist/serving-a1"
    put(build / "bin/tensorflow_model_server")
    manifest = {
        "build_id": build.name,
        "input_digest": "d",
        "serving_version": "1.15.0",
        "source": {"name": "1.15.0"},
        "adapter": {"cann_version": "6.3.RC2", "sha256": "0" * 64},
        "lock_digest": "l",
        "toolchain": {},
        "flags": [],
        "actions": {},
        "patches": {},
        "files": {},
        "created": "2026-01-01",
        "format": 1,
    }
    put(build / "manifest.json", json.dumps(manifest))
    point(tmp_path / "dist/current", build.name)
    section = {"dist_root": str(tmp_path / "dist"), "build_root": str(tmp_path), "cann_root": str(world.root)}
    settings = put(tmp_path / "invoke.yaml", json.dumps({"npu_serving": section}))
    words = [sys.executable, "-m", "npu_serving", "--search-root", str(PROJECT_ROOT), "rebuild-after-cann", *flags]
    environment = {**os.environ, "NPU_SERVING_SETTINGS": str(settings), "PYTHONPATH": str(PROJECT_ROOT)}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_watch_at_once_with_one_json_object_to_each_line(
    number: signal.Signals, world: World, tmp_path: Path
) -> None:
    process = started(world, tmp_path, "--watch", "--json", "--interval", "3600")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first["event"] == "watching"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert [json.loads(line) for line in out.splitlines()] == [{"error": "Interrupted", "exit_code": EXIT_INTERRUPTED}]
    assert (process.returncode, "Traceback" in err) == (EXIT_INTERRUPTED, False)


def test_the_watch_ends_when_nobody_listens_any_more(world: World, tmp_path: Path) -> None:
    process = started(world, tmp_path, "--watch", "--interval", "0.05")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    point(world.root / "tfplugin/latest", "gone")
    assert process.wait(timeout=60) in (0, 3)
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--act"], "./inv rebuild-after-cann --watch --act\n"),
        (["--once"], "./inv rebuild-after-cann --watch --once\n"),
        (["--act", "--once"], "./inv rebuild-after-cann --watch --act --once\n"),
        (["--watch", "--check"], "cannot be combined with --watch"),
        (["--watch", "--act", "--clean"], "cannot be combined with --watch"),
        (["--watch", "--interval", "0"], "not '0'"),
        (["--watch", "--interval", "soon"], "not 'soon'"),
        (["--watch", "--build", "none"], "none"),
    ],
)
def test_flags_that_can_not_be_meant_are_refused(flags: list[str], said: str, world: World, tmp_path: Path) -> None:
    process = started(world, tmp_path, *flags)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, said in err, "Traceback" in err) == (2, True, False), err
