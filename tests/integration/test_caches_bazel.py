"""Caches with the real Bazel: a filled one spares every compiler run, one that fails harms nobody."""

from __future__ import annotations

import dataclasses
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import cache_server
import pytest
from cache_server import CacheServer
from docker_support import BASE_IMAGE, missing, require_engine
from listening import Listening

from npu_serving import fsutil
from npu_serving.building import bazel, caches
from npu_serving.building.bazel_program import find_bazel
from npu_serving.building.build_record import BuildRecord
from npu_serving.building.host_runner import HostRunner
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.building.runner import Layout
from npu_serving.console import Silent
from npu_serving.errors import BuildFailedError
from npu_serving.resources import Resources
from npu_serving.settings import PROJECT_ROOT, Settings

pytestmark = pytest.mark.bazel


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    """The documented nginx, on a port that is free; its URL."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        missing("there is no nginx: apt-get install nginx-light")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for name in ("store", "incoming"):
        (tmp_path / name).mkdir()
    tmp_path.chmod(0o755)
    text = (PROJECT_ROOT / "docs" / "nginx-cache.conf").read_text()
    text = text.replace("listen 8080;", f"listen 127.0.0.1:{port};")
    (tmp_path / "nginx.conf").write_text(f"user {_user()};\n{text}")
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen([str(program), "-p", tmp_path, "-c", "nginx.conf"], stdout=log, stderr=log)
    try:
        _wait_for(port, server, tmp_path / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _user() -> str:
    import getpass

    return getpass.getuser()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)


def build(settings: Settings, reporter: Silent | None = None) -> BuildResult:
    """A clean build: Bazel's output and the finished build are gone, what was fetched is kept."""
    for path in (settings.build_root / "bazel", settings.dist_root):
        fsutil.remove(path)
    return build_serving(settings, reporter or Silent())


@pytest.fixture
def settings(sample_settings: Settings, built: BuildResult, tmp_path: Path) -> Settings:
    """The sample in a state directory of its own, with everything fetched."""
    root = tmp_path / "state"
    shutil.copytree(
        sample_settings.build_root, root / "build", symlinks=True, ignore=shutil.ignore_patterns("bazel", ".lock")
    )
    return dataclasses.replace(sample_settings, build_root=root / "build", dist_root=root / "dist", install_link="")


def test_with_a_filled_remote_cache_a_clean_build_runs_no_compiler(settings: Settings, nginx: str) -> None:
    settings = dataclasses.replace(settings, remote_cache=nginx)
    first = build(settings)
    assert (first.record.compiled, first.record.cached) == (first.record.actions["CppCompile"], 0)
    second = build(settings)
    assert second.record.compiled == 0
    assert second.record.linked == 0
    assert set(second.record.ran) <= {"CppLinkstampCompile"}, "Bazel puts the time into its inputs, so it is never kept"
    assert second.record.cached == sum(first.record.ran.values()) - 1
    assert second.build.manifest.files == first.build.manifest.files
    assert second.build.manifest.linker == first.build.manifest.linker != "", "a link from the cache is kept as well"
    assert f"{second.record.cached} results from the cache" in second.text()


@pytest.mark.docker
def test_a_container_without_network_uses_the_remote_cache_too(settings: Settings, nginx: str) -> None:
    require_engine()
    settings = dataclasses.replace(settings, runner="docker", docker_base_image=BASE_IMAGE, remote_cache=nginx)
    assert build(settings).record.compiled > 20
    assert build(settings).record.compiled == 0


# ---- caches that fail, with a tree of one action, for the sample takes its time


@pytest.fixture
def tiny(tmp_path: Path, sample_settings: Settings) -> TinyTree:
    tree = tmp_path / "src"
    package = tree / "tensorflow_serving" / "model_servers"
    package.mkdir(parents=True)
    (tree / "WORKSPACE").touch()
    (package / "BUILD").write_text(
        'genrule(name = "tensorflow_model_server", outs = ["server"], cmd = "echo made > $@", executable = 1)\n'
    )
    return TinyTree(tmp_path, sample_settings)


class TinyTree:
    """A workspace whose server is a file that one action writes."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.settings = dataclasses.replace(settings, build_root=root / "build")
        src, out, distdir, store = (fsutil.make_directory(root / name) for name in ("src", "out", "distdir", "store"))
        self.layout = Layout(src, out, distdir, store)
        self.root = root

    def build(self, **changes: str) -> tuple[BuildRecord, list[str]]:
        """The record of a clean build, and what was warned of."""
        for path in self.layout.output_user_root.glob("?" * 32):
            fsutil.remove(path)
        settings = dataclasses.replace(self.settings, **changes)  # type: ignore[arg-type]
        runner = HostRunner(settings, find_bazel(settings, Silent()))
        reporter = Listening()

        def build(layout: Layout, flags: tuple[str, ...]) -> BuildRecord:
            local = ("--spawn_strategy=standalone", "--genrule_strategy=standalone")
            command = bazel.Command(bazel.TARGET, "abc", (*local, *flags))
            log = self.root / "log"
            return bazel.build(runner, layout, command, Resources(1, 1000), log_path=log, reporter=reporter)

        wanted = caches.find_caches(settings)
        record = caches.build_with(wanted, runner, self.layout, reporter, self.root / "relay.log", build)
        assert record.output is not None
        assert record.output.read_text() == "made\n"
        return record, reporter.warnings


def test_entries_of_a_disk_cache_that_rotted_are_made_again(tiny: TinyTree) -> None:
    cache = tiny.root / "a cache"
    assert tiny.build(disk_cache=str(cache))[0].cached == 0
    assert tiny.build(disk_cache=str(cache))[0].cached == 1
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(b"rotten")
    assert tiny.build(disk_cache=str(cache))[0].ran == {"Genrule": 1}


def test_a_remote_cache_that_lies_errs_or_hangs_is_named_and_the_build_goes_on(tiny: TinyTree) -> None:
    with cache_server.serving() as server:
        tiny.build(remote_cache=server.url)
        assert tiny.build(remote_cache=server.url)[0].cached == 1
        for mode in (CacheServer.CORRUPT, CacheServer.ERRORS, CacheServer.HANGS_ON_PUT):
            server.mode = mode
            if mode == CacheServer.HANGS_ON_PUT:
                server.entries.clear()
            record, warnings = tiny.build(remote_cache=server.url)
            assert record.ran == {"Genrule": 1}, mode
            assert all("continues without it" in warning for warning in warnings), mode
            assert warnings, mode


def test_a_remote_cache_over_grpc_that_is_none_is_named_and_the_build_goes_on(tiny: TinyTree) -> None:
    with cache_server.serving() as server:  # HTTP, which is no answer over gRPC
        record, warnings = tiny.build(remote_cache=server.url.replace("http:", "grpc:"))
    assert record.ran == {"Genrule": 1}
    assert "does not work" in warnings[0]


def test_an_executor_that_does_not_answer_is_an_error_with_its_cure(tiny: TinyTree) -> None:
    with cache_server.serving() as server, pytest.raises(BuildFailedError) as caught:
        tiny.build(remote_executor=server.url.replace("http:", "grpc:"))
    assert "remote executor" in caught.value.cause
    assert "--remote-executor" in caught.value.cure
