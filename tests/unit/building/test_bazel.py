"""The command line for Bazel, its progress, its record, its known failures."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from npu_serving.building import bazel
from npu_serving.building.runner import Layout, RunRequest
from npu_serving.console import Progress, Silent
from npu_serving.errors import RequestError
from npu_serving.process import Finished
from npu_serving.resources import Resources

LAYOUT = Layout(Path("/src/tree"), Path("/out/root"), Path("/dist/dir"), Path("/store"))
INSIDE = Layout(Path("/npu/src"), Path("/npu/out"), Path("/npu/distdir"), Path("/npu/store"))


class FakeRunner:
    """A runner that maps paths and plays a run; Bazel itself is run by the integration tests."""

    name = "fake"

    def __init__(self, lines: tuple[str, ...] = (), returncode: int = 0) -> None:
        self.lines, self.returncode = lines, returncode
        self.env: dict[str, str] = {}

    def inside(self, layout: Layout) -> Layout:
        return INSIDE

    def bazel(self) -> str:
        return "/usr/local/bin/bazel"

    def python(self) -> str:
        return "/usr/bin/python"

    def environment(self) -> dict[str, str]:
        return {"PATH": "/bin"}

    def run(self, request: RunRequest) -> Finished:
        self.env = dict(request.env)
        for line in self.lines:
            assert request.on_line is not None
            request.on_line(line)
        events = request.layout.output_user_root / "npu-serving" / "events.json"
        events.write_text(EVENTS)
        (events.parent / "profile.json").write_text(json.dumps(PROFILE))
        return Finished(tuple(request.argv), self.returncode, "", "\n".join(self.lines), 1.5)


EVENTS = "\n".join(
    [
        json.dumps({"id": {}, "action": {"success": True, "type": "CppCompile"}}),
        json.dumps({"id": {}, "action": {"success": True, "type": "CppCompile"}}),
        json.dumps({"id": {}, "action": {"success": True, "type": "CppLink"}}),
        json.dumps(
            {
                "id": {"targetCompleted": {"label": "//other:target"}},
                "completed": {"importantOutput": [{"uri": "file:///npu/out/x"}]},
            }
        ),
        json.dumps(
            {
                "id": {"targetCompleted": {"label": bazel.TARGET}},
                "completed": {"importantOutput": [{"uri": "file:///npu/out/abc/a%20server"}]},
            }
        ),
        '{"cut short',
    ]
)


PROFILE = [
    {"name": "thread_name", "ph": "M", "args": {"name": "main"}},
    {"cat": "action processing", "name": "Compiling a.cc"},
    {"cat": "local action execution", "name": "CppCompile"},
    {"cat": "local action execution", "name": "CppLink"},
]


def _argv(*flags: str, revision: str = "abc123") -> list[str]:
    command = bazel.Command(bazel.TARGET, revision, flags)
    return bazel.argv(FakeRunner(), LAYOUT, command, Resources(jobs=3, memory_mb=4000))  # type: ignore[arg-type]


def test_the_command_is_the_guides_with_everything_pinned() -> None:
    words = _argv("--copt=-mavx")
    assert words[:5] == [
        "/usr/local/bin/bazel", "--batch", "--nosystem_rc", "--nohome_rc", "--output_user_root=/npu/out",
    ]  # fmt: skip
    for wanted in (
        "--cxxopt=-D_GLIBCXX_USE_CXX11_ABI=0", "--distdir=/npu/distdir", "--repository_cache=/npu/store",
        "--action_env=PYTHON_BIN_PATH=/usr/bin/python", "--define=PYTHON_BIN_PATH=/usr/bin/python",
        "--jobs=3", "--local_ram_resources=4000", "--symlink_prefix=/", "--copt=-mavx",
    ):  # fmt: skip
        assert wanted in words
    assert words[-2:] == ["--", bazel.TARGET]


def test_a_revision_never_becomes_a_word_of_the_shell() -> None:
    for hostile in ("a b", "$(id)", "a;b", "a\nb", "", "a'b"):
        with pytest.raises(ValueError, match="revision"):
            _argv(revision=hostile)
    (status,) = [word for word in _argv() if word.startswith("--workspace_status_command=")]
    assert shlex.split(status.partition("=")[2]) == ["/bin/echo", "BUILD_SCM_REVISION", "abc123"]


def test_git_is_kept_from_a_work_tree_around_the_output_root() -> None:
    assert bazel.environment(FakeRunner(), LAYOUT)["GIT_CEILING_DIRECTORIES"] == "/npu/out"  # type: ignore[arg-type]


def test_the_record_counts_actions_and_finds_the_output_outside(tmp_path: Path) -> None:
    (tmp_path / "npu-serving").mkdir()
    layout = Layout(tmp_path / "src", tmp_path, tmp_path, tmp_path)
    lines = ("INFO: 1,203 processes: 1,201 remote cache hit, 2 local.",)
    record = bazel.build(
        FakeRunner(lines),  # type: ignore[arg-type]
        layout,
        bazel.Command(bazel.TARGET, "abc"),
        Resources(1, 1000),
        log_path=tmp_path / "log",
        reporter=Silent(),
    )
    assert record.actions == {"CppCompile": 2, "CppLink": 1}
    assert (record.compiled, record.linked) == (1, 1), "what a cache gave was not compiled here"
    assert record.cached == 1201
    assert record.output == tmp_path / "abc" / "a server"


class _Recorder(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.updates: list[tuple[float, float | None, str]] = []

    @contextlib.contextmanager
    def progress(self, title: str, *, total: float | None = None, unit: str = "") -> Iterator[Progress]:
        yield self  # type: ignore[misc]

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def update(self, done: float, *, total: float | None = None, detail: str = "") -> None:
        self.updates.append((done, total, detail))


def test_trouble_with_a_cache_is_told_once_for_reading_and_once_for_writing(tmp_path: Path) -> None:
    lines = (
        "WARNING: Reading from Remote Cache:",
        "503 it did not answer for 10 s",
        "WARNING: Reading from Remote Cache:",
        "Expected digest 'x' does not match received digest 'y'.",
        "WARNING: Writing to Remote Cache:",
        "/cache/x (Permission denied)",
    )
    recorder = _Recorder()
    bazel.build(
        FakeRunner(lines),  # type: ignore[arg-type]
        Layout(tmp_path, tmp_path, tmp_path, tmp_path),
        bazel.Command(bazel.TARGET, "abc"),
        Resources(1, 1000),
        log_path=tmp_path / "log",
        reporter=recorder,
    )
    read, written = recorder.warnings
    assert "did not answer for 10 s" in read
    assert "Permission denied" in written
    assert all("continues without it" in warning for warning in recorder.warnings)


def test_a_known_failure_is_answered_with_its_cause_and_cure(tmp_path: Path) -> None:
    output = "INFO: before\nERROR: missing input file '//third_party/tf_adapter:lib_tf_adapter.so'\nafter"
    error = bazel.explain(Finished(("bazel",), 1, "", output, 1.0), tmp_path / "log")
    assert "//third_party/tf_adapter:lib_tf_adapter.so is missing" in error.cause
    assert error.cure.startswith("./inv render-overlay")


def test_a_bazel_that_was_killed_is_recognised_though_it_could_not_say_so(tmp_path: Path) -> None:
    error = bazel.explain(Finished(("bazel",), -9, "", "[10 / 20] Compiling x.cc\n", 1.0), tmp_path / "log")
    assert "memory" in error.cause
    assert "--jobs 1" in error.cure


@pytest.mark.parametrize(
    "flag", ["//other:target", "-", "--", "", "--distdir=/x", "--build_event_json_file=", "--nobuild"]
)
def test_a_flag_that_would_break_the_build_is_refused(flag: str) -> None:
    with pytest.raises(RequestError) as caught:
        bazel.checked_flags((flag,))
    assert caught.value.cure


def test_any_other_flag_is_passed_through() -> None:
    flags = ("--copt=-march=native", "-s", "--define=a=b c")
    assert bazel.checked_flags(flags) == flags


def test_a_secret_that_bazel_repeats_is_not_told(tmp_path: Path) -> None:
    flag = "--remote_header=x-token=geheim"
    error = bazel.explain(
        Finished(("bazel", flag), 2, "", f"ERROR: Unrecognized option: {flag}\n", 1.0), tmp_path / "log"
    )
    assert "geheim" not in str(error)
    assert "Unrecognized option: --remote_header=x-token=***" in error.what


def test_an_unknown_failure_points_to_the_log(tmp_path: Path) -> None:
    error = bazel.explain(Finished(("bazel",), 1, "", "ERROR: something new\n", 1.0), tmp_path / "log")
    assert "something new" in error.what
    assert str(tmp_path / "log") in error.cure
