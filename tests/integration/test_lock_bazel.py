"""What lock-deps says of a tree beside what the real Bazel 0.24.1 does with it."""

from __future__ import annotations

import functools
import hashlib
import http.server
import re
import subprocess
import threading
import zipfile
from pathlib import Path

import pytest

from npu_serving.errors import WorkspaceError
from npu_serving.lock.workspace import lock_tree

pytestmark = pytest.mark.bazel

VERSION = "".join(
    f"#define TF_MODELSERVER_{part}_VERSION {number}\n" for part, number in (("MAJOR", 1), ("MINOR", 15), ("PATCH", 0))
)
HTTP = 'load("@bazel_tools//tools/build_defs/repo:http.bzl", "http_archive")\n'


class Workspace:
    """A workspace with two archives, `one` and `two`, which tell their name when they are loaded from."""

    def __init__(self, root: Path, bazel: Path, output: Path, url: str) -> None:
        self.root = root
        self._url = url
        self._bazel = bazel
        self._output = output
        self.write("tensorflow_serving/model_servers/version.h", VERSION)
        for name in ("one", "two"):
            with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
                for member, text in (("WORKSPACE", ""), ("BUILD", ""), ("v.bzl", f"V = {name!r}\n")):
                    archive.writestr(member, text)
            self.write(f"{name}/WORKSPACE", "")
            self.write(f"{name}/BUILD", "")
            self.write(f"{name}/v.bzl", f"V = {name!r}\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def archive(self, name: str, file: str, rule: str = "http_archive") -> str:
        path = self.root / f"{file}.zip"
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return f'{rule}(name = "{name}", urls = ["{self._url}/{path.name}"], sha256 = "{sha256}")\n'

    def build(self, *flags: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._bazel, "--batch", "--nohome_rc", "--nosystem_rc", f"--output_user_root={self._output}", "build",
             "--nobuild", "--curses=no", "--color=no", *flags, "//:x"],
            cwd=self.root, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def seen_by_bazel(self, names: list[str]) -> dict[str, str]:
        loads = "".join(f'load("@{name}//:v.bzl", {name} = "V")\n' for name in names)
        prints = "".join(f'print("seen: {name} " + {name})\n' for name in names)
        self.write("BUILD", f'{loads}{prints}filegroup(name = "x")\n')
        finished = self.build()
        assert finished.returncode == 0, finished.stderr
        return dict(re.findall(r"seen: (\w+) (\w+)", finished.stderr))

    def seen_by_us(self, names: list[str]) -> dict[str, str]:
        lock = lock_tree(self.root, lambda archive: self.root / archive.file_name).lock
        found = {item.name: item.file_name[: -len(".zip")] for item in lock.archives if not item.shadowed}
        return {name: found.get(name, "local") for name in names}


@pytest.fixture
def workspace(tmp_path, bazel, tmp_path_factory):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        output = tmp_path_factory.getbasetemp() / "bazel-of-small-workspaces"
        yield Workspace(tmp_path, bazel, output, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def test_of_declarations_with_one_name_the_same_one_counts_as_for_bazel(workspace):
    one, two = (lambda name: workspace.archive(name, "one")), (lambda name: workspace.archive(name, "two"))
    workspace.write("empty.bzl", "X = 1\n")
    workspace.write(
        "more.bzl",
        HTTP
        + "def more():\n"
        + "".join(f"    {workspace.archive(name, 'two')}" for name in ("in_two_parts", "in_one_macro"))
        + f"    {workspace.archive('in_one_macro', 'one')}"
        + '    if not native.existing_rule("guarded"):\n'
        + f"        {workspace.archive('guarded', 'two')}"
        + '    if "guarded_too" not in native.existing_rules():\n'
        + f"        {workspace.archive('guarded_too', 'two')}"
        + f"    {workspace.archive('new_in_macro', 'two')}",
    )
    names = [
        "twice", "in_two_parts", "loaded_from", "local_first", "guarded", "guarded_too", "in_one_macro",
        "new_in_macro", "thrice",
    ]  # fmt: skip
    workspace.write(
        "WORKSPACE",
        HTTP
        + one("twice") + two("twice") + one("in_two_parts") + one("loaded_from") + one("guarded") + one("guarded_too")
        + f'local_repository(name = "local_first", path = "{workspace.root}/two")\n' + one("local_first")
        + 'load("@loaded_from//:v.bzl", "V")\nload("//:empty.bzl", "X")\n'
        + two("loaded_from") + one("thrice")
        + 'load("//:more.bzl", "more")\n'
        + two("thrice") + one("thrice")
        + "more()\n",
    )  # fmt: skip
    ours = workspace.seen_by_us(names)
    assert ours == workspace.seen_by_bazel(names)
    assert ours["twice"] == "two"
    assert ours["in_two_parts"] == "one"


@pytest.mark.parametrize("between", ["", 'load("//:empty.bzl", "X")\n'])
def test_a_native_rule_after_a_load_is_refused_by_both(workspace, between):
    workspace.write("empty.bzl", "X = 1\n")
    local = f'local_repository(name = "thing", path = "{workspace.root}/two")\n'
    workspace.write("WORKSPACE", HTTP + workspace.archive("thing", "one") + between + local)
    workspace.write("BUILD", 'filegroup(name = "x")\n')
    finished = workspace.build()
    assert finished.returncode != 0
    assert "Cannot redefine repository after any load statement" in finished.stderr
    with pytest.raises(WorkspaceError, match="local_repository declares 'thing' again") as caught:
        workspace.seen_by_us(["thing"])
    assert caught.value.cure


def test_bazel_takes_an_archive_without_a_sha256_from_no_cache_and_no_distdir(workspace):
    """So a pin of ours alone doesn't make an offline build, which is what lock-deps says."""
    digest = hashlib.sha256((workspace.root / "one.zip").read_bytes()).hexdigest()
    cached = workspace.root / "cache" / "content_addressable" / "sha256" / digest / "file"
    cached.parent.mkdir(parents=True)
    cached.write_bytes((workspace.root / "one.zip").read_bytes())
    workspace.write("BUILD", 'load("@thing//:v.bzl", "V")\nfilegroup(name = "x")\n')
    places = [f"--repository_cache={workspace.root}/cache", f"--distdir={workspace.root}"]
    for sha256, expected in ((f', sha256 = "{digest}"', 0), ("", 1)):
        workspace.write(
            "WORKSPACE", HTTP + f'http_archive(name = "thing", urls = ["file:///nowhere/one.zip"]{sha256})\n'
        )
        finished = workspace.build(*places)
        assert finished.returncode == expected, finished.stderr
    assert "Error downloading [file:/nowhere/one.zip]" in finished.stderr


def test_two_archives_that_want_one_name_in_the_distdir_come_from_the_repository_cache(workspace):
    declared = ""
    for name in ("one", "two"):
        data = (workspace.root / f"{name}.zip").read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        cached = workspace.root / "cache" / "content_addressable" / "sha256" / digest / "file"
        cached.parent.mkdir(parents=True)
        cached.write_bytes(data)
        workspace.write("distdir/x.zip", "the bytes of neither")
        declared += f'http_archive(name = "{name}_", urls = ["file:///{name}/x.zip"], sha256 = "{digest}")\n'
    workspace.write("WORKSPACE", HTTP + declared)
    loads = "".join(f'load("@{name}_//:v.bzl", {name} = "V")\n' for name in ("one", "two"))
    workspace.write("BUILD", f'{loads}filegroup(name = "x")\n')
    finished = workspace.build(f"--repository_cache={workspace.root}/cache", f"--distdir={workspace.root}/distdir")
    assert finished.returncode == 0, finished.stderr
