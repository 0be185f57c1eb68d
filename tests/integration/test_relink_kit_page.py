"""The kit's commands of docs/relink-kit.md and docs/cann-upgrade.md, in a container with Python, binutils and CANN, and
nothing else.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import tarfile
from pathlib import Path

import pytest
from docker_support import BASE_IMAGE, missing, require_engine
from small_kits import ANSWER, OTHER, install_adapter, make_members, small_adapter, write_small_kit

from npu_serving import fsutil
from npu_serving.relink_kit.kit_file import checksum_file, write_checksum
from npu_serving.settings import PROJECT_ROOT

pytestmark = pytest.mark.docker
PAGE = PROJECT_ROOT / "docs/relink-kit.md"
IMAGE = "npu-serving-test-kit"
ROOTS = ("python3-minimal", "libpython3-stdlib", "binutils")
"""Packages of this machine, which is of the same Debian as the base image: put into it without a network."""


def commands(page: Path = PAGE) -> list[str]:
    """The lines of the page's console blocks on the serving machine."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [
        line[2:]
        for block in blocks
        for line in block.splitlines()
        if "FILE" in shlex.split(line.replace(".sha256", " "))
    ]


def _files_of_packages() -> list[str]:
    """The files of the packages and of all that they depend on, as dpkg knows them here."""
    closure = ["apt-cache", "depends", "--recurse", "--installed", "--no-recommends", "--no-suggests"]
    closure += ["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances", *ROOTS]
    printed = subprocess.run(closure, capture_output=True, text=True, check=False).stdout
    names = sorted({line for line in printed.splitlines() if line and line[0] not in " <|"})
    if not any(name.startswith("python3") for name in names):
        missing("Debian's python3 and binutils are not installed here: apt-get install python3-minimal binutils")
    listed = subprocess.run(["dpkg", "-L", *names], capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted({path for path in listed if Path(path).is_symlink() or Path(path).is_file()})


def _image() -> None:
    """The base image with these packages: no compiler, no headers, no startup files of C."""
    require_engine()
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        files = io.BytesIO()
        with tarfile.open(fileobj=files, mode="w") as inner:
            for path in _files_of_packages():
                real = Path(os.path.realpath(Path(path).parent), Path(path).name)
                if str(real).startswith("/usr/") and "/share/" not in str(real):
                    inner.add(real, arcname=str(real).lstrip("/"), recursive=False)
        for name, data in (
            ("Dockerfile", f"FROM {BASE_IMAGE}\nADD files.tar /\nRUN ldconfig\n".encode()),
            ("files.tar", files.getvalue()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    built = subprocess.run(
        ["docker", "build", "--network", "none", "-q", "-t", IMAGE, "-"],
        input=context.getvalue(),
        capture_output=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr.decode()


def block_of(section: str) -> list[str]:
    """The lines of the one console block in that section of the page."""
    (text,) = re.findall(rf"^### {section}\n(.*?)^###", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line[2:] for line in block.splitlines()]


class ServingMachine:
    """A container without network that stays while the page's commands are typed in it."""

    def __init__(self, kit: Path, cann: Path) -> None:
        started = ["docker", "run", "--rm", "-d", "--network", "none", "-v", f"{kit.parent}:/kits:ro"]
        started += ["-v", f"{cann}:/usr/local/Ascend:ro", IMAGE, "sleep", "600"]
        self.name = subprocess.run(started, capture_output=True, text=True, check=True).stdout.strip()

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["docker", "exec", "-w", "/kits", self.name, *words], capture_output=True, text=True, check=False
        )

    def follows(self, line: str) -> str:
        typed = {"FILE": "kit.pyz", "FILE.sha256": "kit.pyz.sha256", "DIST": "/srv/serving"}
        words = [typed.get(word, word) for word in shlex.split(line)]
        finished = self.types(*words)
        assert finished.returncode == 0, (line, finished.stdout, finished.stderr)
        return finished.stdout

    def follows_in_one_shell(self, lines: list[str], **named: str) -> str:
        """Types the lines one after the other; what they print."""
        named = {"DIST": "/srv/serving", **named}
        text = re.sub(r"\b(" + "|".join(named) + r")\b", lambda word: named[word[0]], "\n".join(lines))
        finished = self.types("bash", "-euc", text)
        assert finished.returncode == 0, (text, finished.stdout, finished.stderr)
        return finished.stdout

    def serves(self) -> str:
        """The name of the server that is current, which starts."""
        started = self.types("env", "LD_BIND_NOW=1", "/srv/serving/current/bin/tensorflow_model_server")
        assert started.returncode == 0, started.stderr
        return self.types("readlink", "/srv/serving/current").stdout.strip()


def test_the_page_makes_servers_where_there_is_neither_compiler_nor_network_nor_bazel(tmp_path: Path) -> None:
    _image()
    (tmp_path / "kits").mkdir()
    kit = write_small_kit(tmp_path / "kits/kit.pyz", make_members(tmp_path / "members"))
    write_checksum(kit, fsutil.sha256_of(kit))
    cann = install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "first", ANSWER))
    typed = commands()
    assert typed.pop(0) == "sha256sum -c FILE.sha256"
    assert [line.split()[2] for line in typed] == ["show", "verify", "relink", "relink", "relink", "rollback"]
    machine = ServingMachine(kit, cann)
    try:
        for absent in ("gcc", "cc", "g++", "bazel", "pip3", "git"):
            assert machine.types("sh", "-c", f"command -v {absent}").returncode != 0, absent
        assert machine.types("test", "-e", "/usr/lib/x86_64-linux-gnu/crt1.o").returncode != 0
        cut_short = kit.read_bytes()[:-1000]
        for name, damaged in (("cut.pyz", cut_short), ("empty.pyz", b"")):
            (kit.parent / name).write_bytes(damaged)
            (kit.parent / f"{name}.sha256").write_text(checksum_file(kit).read_text().replace(kit.name, name))
            assert machine.types("sha256sum", "-c", f"{name}.sha256").returncode != 0
        assert "SyntaxError" in machine.types("python3", "cut.pyz", "show").stderr
        assert machine.types("python3", "empty.pyz", "show").stdout == ""
        machine.follows("sha256sum -c FILE.sha256")
        for line in typed[:4]:
            machine.follows(line)
        first = machine.serves()
        install_adapter(cann, small_adapter(tmp_path / "next", ANSWER, OTHER))
        assert "linked with" in machine.follows(typed[4])
        assert machine.serves() != first
        install_adapter(cann, small_adapter(tmp_path / "back", ANSWER))
        second = machine.types("readlink", "/srv/serving/current").stdout.strip()
        machine.follows(typed[5])
        assert machine.serves() == first
        assert "tensorflow_model_server" in block_of("Start it")[-1]
        machine.follows_in_one_shell(block_of("Start it"))
        install_adapter(cann, small_adapter(tmp_path / "further", OTHER))
        machine.follows(typed[4])
        assert second not in machine.follows_in_one_shell(block_of("Tidy up"), OLD=second)
        assert machine.types("test", "-e", f"/srv/serving/{second}").returncode != 0
        assert machine.serves() != first
        install_adapter(cann, small_adapter(tmp_path / "back again", ANSWER))
        machine.follows(typed[5])
        assert machine.serves() == first
        on_the_road = commands(PROJECT_ROOT / "docs/cann-upgrade.md")
        assert on_the_road[0] == "sha256sum -c FILE.sha256"
        assert [line.split()[2] for line in on_the_road[1:]] == ["verify", "relink", "relink"]
        machine.types("rm", "-r", "/srv/serving")
        for line in on_the_road:
            machine.follows(line)
        assert machine.serves() == first
    finally:
        subprocess.run(["docker", "kill", machine.name], capture_output=True, check=False)
