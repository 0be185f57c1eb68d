"""The Docker runner, against a real engine: what a build can do in its container, and what is left of it."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_support import layout_in, require_engine, runner_in

from npu_serving import fsutil
from npu_serving.building.docker_runner import DockerRunner
from npu_serving.building.runner import Layout, RunRequest
from npu_serving.errors import FileAccessError, MissingToolError, StateLockedError
from npu_serving.images.container import OUTPUT_LABEL, OWNER_LABEL
from npu_serving.images.docker_engine import ROLE, connected
from npu_serving.process import Finished
from npu_serving.settings import PROJECT_ROOT

pytestmark = pytest.mark.docker

AWKWARD = "a b,c:d\n'e\" $é"


@pytest.fixture(autouse=True)
def _engine() -> None:
    require_engine()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory with a name that breaks `-v a:b` and unquoted words; its containers are gone when the test ends."""
    directory = tmp_path / AWKWARD
    directory.mkdir()
    yield directory
    with connected() as client:
        for container in containers_of(directory / "out", client=client):
            container.remove(force=True)


def containers_of(output_root: Path, *, client: Any) -> Any:
    labels = [ROLE, f"{OUTPUT_LABEL}={output_root.resolve()}"]
    return client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)


def run(
    runner: DockerRunner,
    place: Path,
    *argv: str,
    layout: Layout | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Finished:
    return runner.run(RunRequest(argv, layout or layout_in(place), runner.environment(), place / "log", on_line))


def python(runner: DockerRunner, place: Path, code: str) -> Finished:
    return run(runner, place, runner.python(), "-c", code)


# ---- what Bazel does in there


def make_workspace(layout: Layout) -> None:
    """A cc_binary that needs an archive which no server has."""
    archive = layout.distdir / "dep-1.tar.gz"
    build = 'cc_library(name = "dep", srcs = ["dep.cc"], visibility = ["//visibility:public"])\n'
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in (("dep-1/dep.cc", "int answer() { return 42; }\n"), ("dep-1/BUILD", build)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    (layout.workspace / "WORKSPACE").write_text(
        'load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")\n'
        'http_archive(name = "dep", urls = ["https://example.invalid/dep-1.tar.gz"],'
        f' sha256 = "{fsutil.sha256_of(archive)}", strip_prefix = "dep-1")\n'
    )
    (layout.workspace / "BUILD").write_text('cc_binary(name = "hello", srcs = ["hello.cc"], deps = ["@dep//:dep"])\n')
    (layout.workspace / "hello.cc").write_text("int answer(); int main() { return answer() - 42; }\n")


def bazel_build(runner: DockerRunner, layout: Layout) -> list[str]:
    inside = runner.inside(layout)
    return [
        runner.bazel(),
        "--batch",
        f"--output_user_root={inside.output_user_root}",
        "build",
        f"--distdir={inside.distdir}",
        f"--repository_cache={inside.repository_cache}",
        "--symlink_prefix=/",
        "--spawn_strategy=standalone",
        "//:hello",
    ]


@pytest.mark.bazel
@pytest.mark.parametrize("archive_in", ["distdir", "repository cache"])
def test_bazel_builds_offline_from_read_only_mounts_and_its_output_belongs_to_the_caller(
    place: Path, monkeypatch: pytest.MonkeyPatch, archive_in: str
) -> None:
    runner, layout = runner_in(place), layout_in(place)
    make_workspace(layout)
    if archive_in == "repository cache":
        archive = layout.distdir / "dep-1.tar.gz"
        entry = layout.repository_cache / "content_addressable" / "sha256" / fsutil.sha256_of(archive) / "file"
        fsutil.copy_file(archive, entry)
        archive.unlink()
    if os.getuid() == 0:  # an ordinary user then builds, as most callers are
        monkeypatch.setattr("npu_serving.building.docker_runner.os.getuid", lambda: 12345)
        monkeypatch.setattr("npu_serving.building.docker_runner.os.getgid", lambda: 23456)
        os.chown(layout.output_user_root, 12345, 23456)

    finished = run(runner, place, *bazel_build(runner, layout), layout=layout)

    assert finished.returncode == 0, finished.output
    made = [path for path in layout.output_user_root.rglob("*") if not path.is_symlink()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(os.getuid(), os.getgid())}
    assert any(path.name == "hello" for path in made)


@pytest.mark.bazel
def test_the_output_root_is_kept_so_a_second_build_runs_no_compiler(place: Path) -> None:
    runner, layout = runner_in(place), layout_in(place)
    make_workspace(layout)
    argv = bazel_build(runner, layout)
    assert run(runner, place, *argv, layout=layout).returncode == 0
    again = run(runner, place, *argv, layout=layout)
    assert "0 processes" in again.output


# ---- what a container may not do


def test_the_network_of_the_machine_is_out_of_reach(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        finished = python(runner_in(place), place, code)
    assert "ConnectionRefusedError" in finished.stderr


def test_there_is_no_interface_but_loopback(place: Path) -> None:
    finished = python(runner_in(place), place, "import os; print(sorted(os.listdir('/sys/class/net')))")
    assert finished.stdout == "['lo']\n"


def test_a_build_has_no_capabilities_and_can_gain_no_privileges(place: Path) -> None:
    finished = run(runner_in(place), place, "/bin/cat", "/proc/self/status")
    status = dict(line.split(":\t", 1) for line in finished.stdout.splitlines() if ":\t" in line)
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Uid"].split()[0] == str(os.getuid())
    assert status["Gid"].split()[0] == str(os.getgid())


def test_processes_memory_and_processors_are_limited(place: Path) -> None:
    runner = runner_in(place, memory_mb=300, jobs=1)
    script = (
        "cd /sys/fs/cgroup;"
        "cat pids.max pids/pids.max; cat memory.max memory/memory.limit_in_bytes; cat cpu.max cpu/cpu.cfs_quota_us"
    )
    words = run(runner, place, "/bin/sh", "-c", script).stdout.split()
    assert words[:3] == ["8192", str(300 << 20), "100000"]


def test_only_the_output_and_tmp_can_be_written_to(place: Path) -> None:
    script = (
        "for d in /npu/src /npu/distdir /npu/store /etc /usr/local/bin /npu/out /tmp; do touch $d/x && echo $d; done"
    )
    finished = run(runner_in(place), place, "/bin/sh", "-c", script)
    assert finished.stdout.split() == ["/npu/out", "/tmp"]
    assert (place / "out" / "x").exists()


def test_further_directories_are_there_in_their_order_and_read_only(place: Path) -> None:
    base = layout_in(place)
    extra = []
    for name in ("one", "two"):
        (place / name).mkdir()
        (place / name / "file").write_text(name)
        extra.append(place / name)
    layout = Layout(base.workspace, base.output_user_root, base.distdir, base.repository_cache, tuple(extra))
    runner = runner_in(place)
    first, second = runner.inside(layout).extra
    finished = run(runner, place, "/bin/cat", f"{second}/file", f"{first}/file", layout=layout)
    assert finished.stdout == "twoone"
    assert run(runner, place, "/usr/bin/touch", f"{first}/new", layout=layout).returncode != 0


def test_nothing_of_the_callers_environment_gets_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_REVISION", "evil")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    finished = python(runner_in(place), place, "import os, json; print(json.dumps(dict(os.environ)))")
    assert set(json.loads(finished.stdout)) <= {"PATH", "HOME", "USER", "LANG", "HOSTNAME", "PWD", "LC_CTYPE"}


# ---- how it is told


def test_lines_arrive_while_the_program_runs(place: Path) -> None:
    layout = layout_in(place)

    def answer(line: str) -> None:
        if line == "ready":
            (layout.output_user_root / "go").touch()

    script = "echo ready; while [ ! -e /npu/out/go ]; do sleep 0.05; done; echo over >&2; exit 7"
    finished = run(runner_in(place), place, "/bin/sh", "-c", script, layout=layout, on_line=answer)
    assert (finished.returncode, finished.stdout, finished.stderr) == (7, "ready\n", "over\n")
    assert (place / "log").read_text().splitlines()[1:] == ["ready", "over"]


def test_a_program_that_is_killed_for_memory_says_so_in_its_output(place: Path) -> None:
    lines: list[str] = []
    runner = runner_in(place, memory_mb=64)
    finished = run(runner, place, runner.python(), "-c", "b'x' * (1 << 30)", on_line=lines.append)
    assert finished.returncode == 137
    assert "OOMKilled" in lines[-1]
    assert "OOMKilled" in finished.stderr
    assert "OOMKilled" in (place / "log").read_text()


def test_a_program_that_is_not_in_the_image_is_named(place: Path) -> None:
    with pytest.raises(MissingToolError, match="/usr/bin/nonexistent"):
        run(runner_in(place), place, "/usr/bin/nonexistent")


def test_a_directory_that_is_not_there_is_named(place: Path) -> None:
    layout = layout_in(place)
    layout.distdir.rmdir()
    with pytest.raises(FileAccessError, match="distdir"):
        run(runner_in(place), place, "/bin/true", layout=layout)


# ---- what is left behind

CHILD = """
import sys
from pathlib import Path
from docker_support import layout_in, runner_in
from npu_serving.building.runner import RunRequest
place = Path(sys.argv[1])
runner = runner_in(place)
argv = ["/bin/sh", "-c", "trap '' INT TERM; echo started; sleep 1000 & wait; sleep 1000"]
runner.run(RunRequest(argv, layout_in(place), runner.environment(), place / "log",
                      on_line=lambda line: print(line, flush=True)))
"""


def start_child(place: Path) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(PROJECT_ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(place)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n", child.communicate()[1]
    return child


def test_ctrl_c_leaves_no_container_even_of_a_program_that_ignores_it(place: Path) -> None:
    with start_child(place) as child:
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate()
    assert "KeyboardInterrupt" in errors
    with connected() as client:
        assert containers_of(place / "out", client=client) == []


@pytest.mark.bazel
def test_docker_stop_ends_a_build_and_the_next_one_goes_on_in_the_same_output_root(place: Path) -> None:
    runner, layout = runner_in(place), layout_in(place)
    make_workspace(layout)
    build_file = layout.workspace / "BUILD"
    whole = build_file.read_text()
    slow = 'genrule(name = "slow", outs = ["hello.cc"], cmd = "echo here >&2; touch /npu/out/begun; sleep 1000")\n'
    (layout.workspace / "hello.cc").rename(layout.workspace / "kept")
    build_file.write_text(slow + whole)
    ended: list[float] = []

    def stop() -> None:
        while not (layout.output_user_root / "begun").exists():
            time.sleep(0.1)
        started = time.monotonic()
        with connected() as client:
            (container,) = containers_of(layout.output_user_root, client=client)
            container.stop(timeout=300)  # it ends by itself: nothing has to be killed
        ended.append(time.monotonic() - started)

    stopper = threading.Thread(target=stop)
    stopper.start()
    finished = run(runner, place, *bazel_build(runner, layout), layout=layout)
    stopper.join()
    assert finished.returncode == 8, "Bazel's own status for an interruption"
    assert "ERROR: build interrupted" in finished.output
    assert ended

    (layout.workspace / "kept").rename(layout.workspace / "hello.cc")
    build_file.write_text(whole)
    assert run(runner, place, *bazel_build(runner, layout), layout=layout).returncode == 0


def test_every_container_carries_the_labels_by_which_this_project_knows_its_own(place: Path) -> None:
    with start_child(place) as child:
        try:
            with connected() as client:
                (made,) = containers_of(place / "out", client=client)
                labels = made.labels
                volumes = made.attrs["Mounts"]
        finally:
            child.send_signal(signal.SIGINT)
            child.communicate()
    assert labels[ROLE] == "build"
    assert labels[OWNER_LABEL].startswith(f"{child.pid}:")
    assert {volume["Type"] for volume in volumes} == {"bind"}, "no volume is made that would have to be removed"


def test_a_container_that_a_killed_run_left_is_removed_by_the_next_one(place: Path) -> None:
    with start_child(place) as child:
        child.kill()
        child.communicate()
    with connected() as client:
        (left,) = containers_of(place / "out", client=client)
        finished = run(runner_in(place), place, "/bin/echo", "on we go")
        assert finished.stdout == "on we go\n"
        assert left.id not in {other.id for other in client.containers.list(all=True, ignore_removed=True)}


def test_a_container_of_a_run_that_is_alive_is_left_alone(place: Path) -> None:
    with start_child(place) as child:
        try:
            with pytest.raises(StateLockedError, match=str(child.pid)):
                run(runner_in(place), place, "/bin/true")
            with connected() as client:
                assert len(containers_of(place / "out", client=client)) == 1
        finally:
            child.send_signal(signal.SIGINT)
            child.communicate()


def test_nothing_is_left_when_a_line_can_not_be_handled(place: Path) -> None:
    def fail(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="hello"):
        run(runner_in(place), place, "/bin/sh", "-c", "echo hello; sleep 1000", on_line=fail)
    with connected() as client:
        assert containers_of(place / "out", client=client) == []


def test_debug_shows_a_program_in_a_container_with_its_environment_and_its_time(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = runner_in(place)
    monkeypatch.setenv("NPU_SERVING_DEBUG", "1")
    run(runner, place, "/bin/true")
    shown = capsys.readouterr().err
    assert "debug: starts /bin/true\n" in shown
    assert f" in a container of {runner.identity()['image']}\n" in shown
    assert "debug:     PATH=" in shown
    assert "debug: /bin/true ended with status 0 after " in shown
