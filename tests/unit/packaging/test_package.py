"""Packages: what is in them, that they are the same bytes each time, and that Debian's own tools read them."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from npu_serving import fsutil
from npu_serving.builds.manifest import MANIFEST, SERVER, Build, BuildManifest
from npu_serving.console import Silent
from npu_serving.errors import DiskFullError, RequestError
from npu_serving.packaging import debian_package, tar_file
from npu_serving.packaging.contents import RUNTIME, contents
from npu_serving.packaging.debian_package import dependencies, write_deb
from npu_serving.packaging.entry_point import entry_point_is_current, entry_point_text
from npu_serving.packaging.package import package, plan_package
from npu_serving.packaging.tar_file import write_tarball
from npu_serving.settings import Settings

MANIFEST_OF_ALL = BuildManifest(
    build_id="serving-1.15.0-cann-6.3.RC2-0123456789ab",
    input_digest="01" * 32,
    serving_version="1.15.0",
    source={"name": "1.15.0", "digest": "1" * 64},
    adapter={"sha256": "a" * 64, "cann_version": "6.3.RC2"},
    lock_digest="2" * 64,
    toolchain={"runner": "host"},
    flags=(),
    actions={},
    patches={},
    files={},
    created="2026-11-22T21:52:49Z",
)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    return make_build(tmp_path / "dist")


def make_build(dist: Path) -> Build:
    """A build whose server is a real program, made now: its files have today's times and the caller's rights."""
    directory = dist / MANIFEST_OF_ALL.build_id
    for name in (SERVER, "lib/_tf_adapter.so", "lib/a library.so"):
        fsutil.copy_file(Path("/bin/true"), directory / name, mode=0o700)
    files = {
        path.relative_to(directory).as_posix(): fsutil.sha256_of(path)
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    manifest = dataclasses.replace(MANIFEST_OF_ALL, files=files)
    fsutil.write_file(directory / MANIFEST, json.dumps(manifest.to_json()))
    fsutil.point_link(dist / "current", directory.name)
    return Build(directory, manifest, current=True)


def settings_for(build: Build) -> Settings:
    return Settings(dist_root=build.directory.parent)


def test_a_package_holds_the_build_its_papers_and_the_programs_around_the_server(build: Build) -> None:
    names = [entry.name for entry in contents(build)]
    assert names == sorted(names)
    assert set(names) == {*build.manifest.files, MANIFEST, "bin/serve", "bin/healthcheck"}


@pytest.mark.parametrize("write", [write_tarball, write_deb])
def test_the_same_build_gives_the_same_bytes_wherever_it_lies(build: Build, tmp_path: Path, write: object) -> None:
    elsewhere = make_build(tmp_path / "another place")
    for path in elsewhere.directory.rglob("*"):
        os.utime(path, (0, 0))
    one, other = tmp_path / "one", tmp_path / "other"
    write(build, one)  # type: ignore[operator]
    write(elsewhere, other)  # type: ignore[operator]
    assert one.read_bytes() == other.read_bytes()


def test_everything_in_the_tar_file_belongs_to_root_and_can_be_read_by_all(build: Build, tmp_path: Path) -> None:
    write_tarball(build, tmp_path / "x.tar.gz")
    with tarfile.open(tmp_path / "x.tar.gz") as tar:
        for member in tar:
            assert (member.uid, member.gid) == (0, 0)
            assert member.mode in (0o755, 0o644)
            assert member.name.split("/")[0] == build.manifest.build_id
            if member.isfile():
                name = member.name.partition("/")[2]
                data = tar.extractfile(member)
                assert data is not None
                source = {entry.name: entry.source for entry in contents(build)}[name]
                assert data.read() == source.read_bytes()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb: this is no Debian")
def test_debians_own_tool_reads_the_package(build: Build, tmp_path: Path) -> None:
    path = tmp_path / "x.deb"
    write_deb(build, path)
    fields = dict(
        line.split(": ", 1)
        for line in subprocess.run(
            ["dpkg-deb", "-f", path], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        if ": " in line
    )
    assert fields["Version"] == "1.15.0+cann6.3~rc2+20261122215249.010101010101"
    assert fields["Depends"].startswith("libc6 (>= 2.")
    subprocess.run(["dpkg", "--compare-versions", fields["Version"], "gt", "1.15.0"], check=True)
    subprocess.run(["dpkg-deb", "-x", path, tmp_path / "root"], check=True)
    for entry in contents(build):
        assert (tmp_path / "root" / "opt" / "npu-serving" / entry.name).read_bytes() == entry.source.read_bytes()


def test_dependencies_follow_from_the_symbol_versions(tmp_path: Path) -> None:
    source = tmp_path / "x.cc"
    source.write_text(
        "#include <string>\n#include <iostream>\nint main(int n, char**) { std::cout << std::string(n, 'x'); }\n"
    )
    program = tmp_path / "x"
    subprocess.run(["g++", "-o", program, source], check=True)
    wanted = dependencies([program])
    assert [item.split(" ")[0] for item in wanted] == ["libc6", "libstdc++6"] or "libgcc-s1 | libgcc1" in wanted
    needed = subprocess.run(["objdump", "-p", program], capture_output=True, text=True, check=True).stdout
    newest = max(
        (tuple(map(int, word[6:].split("."))) for word in needed.split() if word.startswith("GLIBC_2")), default=()
    )
    assert wanted[0] == f"libc6 (>= {'.'.join(map(str, newest))})"
    assert dependencies([]) == ()


def test_each_version_of_libstdcxx_asks_for_the_gcc_that_first_had_it() -> None:
    assert debian_package._libstdcxx(22) == "libstdc++6 (>= 6)"
    assert debian_package._libstdcxx(11) == "libstdc++6 (>= 5)"
    assert debian_package._libstdcxx(0) == "libstdc++6"
    with pytest.raises(RequestError, match=r"GLIBCXX_3\.4\.99"):
        debian_package._libstdcxx(99)


def test_a_damaged_build_is_not_packed(build: Build) -> None:
    build.server.write_bytes(b"something else")
    for kind in ("tar", "deb", "image"):
        with pytest.raises(RequestError, match="damaged"):
            package(settings_for(build), Silent(), kind=kind)
    assert not (build.directory.parent / "packages").exists()


def test_a_dry_run_names_the_file_and_makes_nothing(build: Build, tmp_path: Path) -> None:
    plan = plan_package(settings_for(build), kind="deb", output=tmp_path / "out")
    assert plan.target == str(tmp_path / "out" / "npu-serving_1.15.0+cann6.3~rc2+20261122215249.010101010101_amd64.deb")
    assert not (tmp_path / "out").exists()
    with pytest.raises(RequestError, match="rpm"):
        plan_package(settings_for(build), kind="rpm")
    with pytest.raises(RequestError, match="not a valid image name"):
        plan_package(dataclasses.replace(settings_for(build), docker_base_image="No Image"), kind="image")


def test_a_package_appears_whole_and_nothing_is_left_beside_it(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = package(settings_for(build), Silent(), kind="tar", output=tmp_path / "out")
    (made,) = (tmp_path / "out").iterdir()
    assert result.digest == f"sha256:{fsutil.sha256_of(made)}"
    before = made.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tar_file, "write_tar", full)
    with pytest.raises(DiskFullError):
        package(settings_for(build), Silent(), kind="tar", output=tmp_path / "out")
    monkeypatch.undo()
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [before]


def served(directory: Path, *flags: str, **environment: str) -> str:
    """What a server says that the entry point starts: the scripts that were sourced, then each of its flags."""
    fsutil.copy_file(RUNTIME / "serve", directory / "bin" / "serve", mode=0o755)
    server = b'#!/bin/sh\necho "$SOURCED"\nprintf "<%s>" "$@"\n'
    fsutil.write_file(directory / "bin" / "tensorflow_model_server", server, mode=0o755)
    return subprocess.run(
        [directory / "bin" / "serve", *flags],
        env={"PATH": "/usr/bin:/bin", "ASCEND_ROOT": str(directory / "cann"), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


def test_the_entry_point_sources_one_set_env_whatever_it_returns(tmp_path: Path) -> None:
    for name in ("nnae", "ascend-toolkit", "tfplugin"):
        fsutil.write_file(
            tmp_path / "cann" / name / "set_env.sh", f'SOURCED="$SOURCED {name}"\nexport SOURCED\nfalse\n'
        )
    assert served(tmp_path, "--port=1") == " ascend-toolkit tfplugin\n<--port=1>"


@pytest.mark.parametrize(
    "places",
    [["cann"], ["cann-8.5.0"], ["cann-8.5.0", "cann-9.0.0"], ["nnae"], ["ascend-toolkit/latest"], ["nnae", "cann"]],
)
def test_the_entry_point_knows_every_layout_of_the_table(places: list[str], tmp_path: Path) -> None:
    for place in places:
        script = f'SOURCED="$SOURCED {place}"\nexport SOURCED\n'
        fsutil.write_file(tmp_path / "cann" / place / "set_env.sh", script)
    assert served(tmp_path, "--port=1") == f" {places[-1]}\n<--port=1>"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("export SOURCED=yes; exit 3", "yes"),  # it would end the entry point
        ("export SOURCED=yes; yes x | head -c 3000000; yes y | head -c 3000000 >&2", "yes"),
        ("set -ef; export SOURCED=yes; false; export SOURCED=no", "yes"),
        ("cd /; export SOURCED=$PWD", "/"),
        ("read -r answer; export SOURCED=read-$answer", "read-"),
        ('export SOURCED="it\'s \\$HOME \\`x\\` declare -x A=1"', "it's $HOME `x` declare -x A=1"),
        ("export SOURCED='two\nlines'", "two\nlines"),
        ("SOURCED=not-exported", ""),
        ("syntax error (", ""),
        ("trap - EXIT; export SOURCED=yes", ""),
    ],
)
def test_a_set_env_that_misbehaves_does_so_in_a_shell_of_its_own(script: str, told: str, tmp_path: Path) -> None:
    fsutil.write_file(tmp_path / "cann/cann/set_env.sh", f"{script}\n")
    assert served(tmp_path, "--port=1", HOME="/") == f"{told}\n<--port=1>"


def test_a_set_env_that_hangs_is_given_up_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fsutil.write_file(tmp_path / "cann/cann/set_env.sh", "export SOURCED=yes\nsleep 600\n")
    assert served(tmp_path, "--port=1", NPU_SERVING_SET_ENV_SECONDS="0.2") == "\n<--port=1>"
    assert f"warning: {tmp_path}/cann/cann/set_env.sh did not end within 0.2 seconds" in capfd.readouterr().err


def test_a_set_env_that_leaves_a_program_running_is_not_waited_for(tmp_path: Path) -> None:
    left = tmp_path / "left"
    script = f"sleep 600 & echo $! > {shlex.quote(str(left))}; export SOURCED=yes\n"
    fsutil.write_file(tmp_path / "cann/cann/set_env.sh", script)
    try:
        assert served(tmp_path, "--port=1") == "yes\n<--port=1>"
        assert Path(f"/proc/{int(left.read_text())}").exists()
    finally:
        os.kill(int(left.read_text()), signal.SIGKILL)


def test_the_entry_points_layouts_are_those_that_cann_info_knows() -> None:
    assert entry_point_is_current()
    text = entry_point_text((RUNTIME / "serve").read_text())
    changed = text.replace("cann ascend-toolkit", "ascend-toolkit")
    assert changed != text
    assert entry_point_text(changed) == text


def test_the_entry_point_takes_the_adapters_package_from_where_pip_has_put_it(tmp_path: Path) -> None:
    for name in ("elsewhere", "cann/tfplugin"):
        fsutil.write_file(tmp_path / name / "npu_bridge" / "__init__.py", "")
    fsutil.write_file(tmp_path / "cann/cann/set_env.sh", "export SOURCED=cann PYTHONPATH=/toolkit\n")
    show = b'#!/bin/sh\necho "$PYTHONPATH"\n'
    program = tmp_path / "bin" / "tensorflow_model_server"
    for variable, first in (("", "cann/tfplugin"), (str(tmp_path / "elsewhere"), "elsewhere")):
        served(tmp_path, "--port=1", TFPLUGIN_INSTALL_PATH=variable)
        fsutil.write_file(program, show, mode=0o755)
        told = subprocess.run(
            [tmp_path / "bin" / "serve", "--port=1"],
            env={"PATH": "/usr/bin:/bin", "ASCEND_ROOT": str(tmp_path / "cann"), "TFPLUGIN_INSTALL_PATH": variable},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert told == f"{tmp_path / first}:/toolkit\n"


def test_each_line_of_a_file_of_flags_is_one_flag_and_empty_lines_are_none(tmp_path: Path) -> None:
    fsutil.write_file(tmp_path / "flags", "--port=1\n\n--model_name=a b'$HOME\n--rest_api_port=2")
    told = served(tmp_path, NPU_SERVING_CONFIG=str(tmp_path))
    assert told == "\n<--port=1><--model_name=a b'$HOME><--rest_api_port=2>"


def test_the_next_command_can_be_pasted_whatever_the_directory_is_called(build: Build, tmp_path: Path) -> None:
    output = tmp_path / "a 'b\nc"
    for kind in ("tar", "deb"):
        result = package(settings_for(build), Silent(), kind=kind, output=output)
        words = shlex.split(result.text().partition("Next: ")[2])
        assert result.plan.target in words


@pytest.mark.parametrize(
    ("name", "kind", "begins"),
    [
        ("mine.tar.gz", "tar", b"\x1f\x8b"),
        ("mine.TGZ", "tar", b"\x1f\x8b"),
        ("mine.tar", "tar", b"serving-1.15.0-cann-6.3.RC2-0123456789ab/"),
        ("mine-1.15.0.deb", "deb", b"!<arch>\n"),
    ],
)
@pytest.mark.parametrize("stated", [True, False])
def test_a_name_that_ends_like_a_file_is_the_file_in_the_format_that_it_names(
    name: str, kind: str, begins: bytes, stated: bool, build: Build, tmp_path: Path
) -> None:
    output = tmp_path / "new" / name
    asked: Any = {"kind": kind if stated else "", "output": output}
    assert plan_package(settings_for(build), **asked).target == str(output)
    assert package(settings_for(build), Silent(), **asked).plan.format == kind
    assert [path.name for path in output.parent.iterdir()] == [name]
    assert output.read_bytes().startswith(begins)
    if kind == "tar":
        with tarfile.open(output) as tar:
            assert MANIFEST_OF_ALL.build_id in tar.getnames()


@pytest.mark.parametrize("name", ["out", "build-1.15", "v2.0", "with.dots.in.it"])
def test_any_other_name_is_the_directory_for_the_file(name: str, build: Build, tmp_path: Path) -> None:
    made = Path(package(settings_for(build), Silent(), output=tmp_path / name).plan.target)
    assert made.parent == tmp_path / name
    assert made.is_file()


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("", "mine.zip", "not made"),
        ("", "mine.tar.xz", r"not made \(\.tar\.xz\)"),
        ("deb", "mine.rpm", "not made"),
        ("deb", "mine.tar.gz", "which is a tar package"),
        ("tar", "mine.deb", "which is a deb package"),
        ("", "there.tar.gz", "is a directory"),
        ("", "a-file", "is a file"),
        ("zip", "mine.tar.gz", "--format can't be"),
    ],
)
def test_a_name_that_cannot_be_that_file_is_refused_before_anything_is_made(
    kind: str, name: str, said: str, build: Build, tmp_path: Path
) -> None:
    (tmp_path / "there.tar.gz").mkdir()
    (tmp_path / "a-file").write_text("mine")
    before = sorted(tmp_path.iterdir())
    for act in (
        lambda: plan_package(settings_for(build), kind=kind, output=tmp_path / name),
        lambda: package(settings_for(build), Silent(), kind=kind, output=tmp_path / name),
    ):
        with pytest.raises(RequestError, match=said):
            act()
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "a-file").read_text() == "mine"
