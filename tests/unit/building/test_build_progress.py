"""Progress of a build: counted in the event log as it grows, never in Bazel's own growing total."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from npu_serving.building.build_progress import ActionCount, BuildWatch, expected_actions
from npu_serving.building.sources import LOCKS
from npu_serving.builds.manifest import Build
from npu_serving.console import Console, Silent
from npu_serving.lock.lockfile import Lock, read_lock
from npu_serving.settings import XLA_FULL

ACTION = json.dumps({"id": {"actionCompleted": {"label": "//x"}}, "action": {"type": "CppCompile"}}) + "\n"
OTHER = json.dumps({"id": {"progress": {}}, "progress": {"stderr": 'an \\"action\\": {'}}) + "\n"
COMMAND = ["//server", "-c", "opt"]


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "0123"


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "npu-serving" / "events.json"
    path.parent.mkdir()
    return path


def made(base: Path) -> None:
    (base / "execroot" / "tf_serving" / "bazel-out").mkdir(parents=True)


def test_actions_are_counted_as_the_event_log_grows_piece_by_piece(events: Path, base: Path) -> None:
    count = ActionCount(events, base, COMMAND)
    assert count.done == 0, "there is no log yet"
    with events.open("w") as file:
        for piece, done in ((ACTION + ACTION[:9], 1), (ACTION[9:] + OTHER, 2), ("", 2), (ACTION * 3, 5)):
            file.write(piece)
            file.flush()
            assert count.done == done


def test_a_log_shows_share_and_time_left_by_the_expected_number_and_lives_when_bazel_is_silent(
    events: Path, base: Path
) -> None:
    """Bazel's own total grows with what it learns; whoever believes it sees 96% in minute four of ninety."""
    clock, stream = Clock(), io.StringIO()
    count = ActionCount(events, base, COMMAND)
    with Console(stream, clock=clock).progress("bazel", unit="actions") as progress:
        watch = BuildWatch(progress, Silent(), count, expected=5700)
        watch.see("Analyzing: target //server (7 packages loaded)")
        with events.open("w") as file:
            for minute in range(91):
                if minute == 4:
                    watch.see("[141 / 147] [Prepa] Compiling a.cc; 12s local")
                for _ in range(60):  # the runner's ticks: Bazel says nothing at all
                    clock.now_s += 1
                    watch.look()
                file.write(ACTION * 60)
                file.flush()
    text = stream.getvalue()
    assert "147" not in text
    line = next(line for line in text.splitlines() if line.startswith("bazel: 2,400 of"))
    assert "2,400 of 5,700 actions (42%)" in line
    assert "41 min" in line or "40 min" in line
    assert "about 5" in line
    assert "left" in line
    assert "Compiling a.cc" in line
    assert 91 <= len(text.splitlines()) <= 400


def test_a_log_gets_a_line_at_least_once_a_minute_and_a_terminal_moves_each_second() -> None:
    clock = Clock()
    stream = io.StringIO()
    with Console(stream, clock=clock).progress("bazel", unit="actions") as progress:
        lines = []
        for _ in range(7200):
            clock.now_s += 1
            progress.update(3)
            lines.append(stream.getvalue().count("\n"))
    gaps = [after - before for before, after in zip(lines, lines[60:])]
    assert min(gaps) >= 1
    assert max(lines) < 500


def test_a_build_that_takes_more_than_expected_has_no_share_rather_than_a_wrong_one(events: Path, base: Path) -> None:
    seen: list[float | None] = []
    progress = SimpleNamespace(update=lambda _done, *, total, detail: seen.append(total))
    watch = BuildWatch(cast(Any, progress), Silent(), ActionCount(events, base, COMMAND), expected=10)
    for number in (5, 4, 3):
        with events.open("a") as file:
            file.write(ACTION * number)
        watch.look()
    assert seen == [10.0, 10.0, 0.0]


def test_a_build_that_was_killed_goes_on_counting_where_it_was(events: Path, base: Path) -> None:
    ActionCount(events, base, COMMAND)
    made(base)
    events.write_text(ACTION * 40)  # and killed
    ActionCount(events, base, [*COMMAND, "--nobuild"], analysing=True)  # an analysis in between loses nothing
    again = ActionCount(events, base, COMMAND)
    assert (again.is_whole, again.done) == (True, 40)
    events.write_text(ACTION * 2)
    assert ActionCount(events, base, COMMAND).done == 42


def test_what_a_change_calls_for_is_not_shown_as_a_share_of_everything(events: Path, base: Path) -> None:
    first = ActionCount(events, base, COMMAND)
    assert first.is_whole
    made(base)
    first.complete()
    assert not ActionCount(events, base, COMMAND).is_whole
    assert not ActionCount(events, base, ["other", "flags"]).is_whole
    events.write_text(ACTION * 5)  # killed, again: what it still has to do is no more known than before
    assert not ActionCount(events, base, COMMAND).is_whole


def test_a_damaged_record_is_none(events: Path, base: Path) -> None:
    for text in ("{", "[]", '{"actions": "many"}', "null"):
        (events.parent / "actions.json").write_text(text)
        assert ActionCount(events, base, COMMAND).done == 0


SHIPPED = read_lock(LOCKS / "serving-1.15.0.json")
SAMPLE = read_lock(LOCKS / "sample.json")


def build(of: Lock = SHIPPED, flags: tuple[str, ...] = (), actions: int = 0, patches: object = None) -> Build:
    manifest = SimpleNamespace(
        serving_version=of.serving_version,
        archives={item.name: {"sha256": item.sha256} for item in of.archives if not item.shadowed},
        flags=flags,
        actions={"CppCompile": actions},
        patches=patches or {"skipped": []},
        xla=XLA_FULL,
    )
    return cast(Build, SimpleNamespace(manifest=manifest))


def test_the_total_is_an_earlier_builds_own_count_else_the_records() -> None:
    plan: dict[str, object] = {"skipped": []}
    assert expected_actions([], SHIPPED, (), plan, XLA_FULL) == 5700
    assert expected_actions([], replace(SHIPPED, serving_version="9.9.9"), (), plan, XLA_FULL) == 0
    assert expected_actions([build(actions=4591), build(actions=3)], SHIPPED, (), plan, XLA_FULL) == 4591
    assert expected_actions([build(actions=3)], SHIPPED, (), plan, XLA_FULL) == 5700, "it only linked again"
    assert expected_actions([build(actions=4591)], SHIPPED, ("--copt=-g",), plan, XLA_FULL) == 5700


def test_another_tree_of_that_version_has_a_count_of_its_own_or_none() -> None:
    """The sample bears the version of the real tree: of its 42 actions "1%" of 5,700 is no share."""
    plan: dict[str, object] = {"skipped": []}
    assert SAMPLE.serving_version == SHIPPED.serving_version
    assert expected_actions([], SAMPLE, (), plan, XLA_FULL) == 0
    assert expected_actions([build(actions=4591)], SAMPLE, (), plan, XLA_FULL) == 0
    assert expected_actions([build(SAMPLE, actions=42), build(actions=4591)], SAMPLE, (), plan, XLA_FULL) == 42
    assert expected_actions([build(SAMPLE, actions=42)], SHIPPED, (), plan, XLA_FULL) == 5700
