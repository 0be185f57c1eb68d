"""The `guide` flavour by a real engine, with small stand-ins that are made and installed like the real sources.

The real ones are many hours of compiling; what is tried here is everything around them, Bazel's bootstrap included.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_support import real_bazel, require_engine, settings_in

from npu_serving.building.docker_runner import make_image
from npu_serving.console import Silent
from npu_serving.fetch import toolchains
from npu_serving.fetch.content_store import ContentStore
from npu_serving.images import build_context, guide_flavour
from npu_serving.images.container import ContainerSpec, run_container
from npu_serving.images.docker_engine import connected
from npu_serving.images.toolchain_image import ImageResult, build_image, plan_image
from npu_serving.settings import Settings

pytestmark = pytest.mark.docker

CONFIGURE = """#!/bin/sh
set -eu
prefix=/usr/local
for word in "$@"; do case $word in --prefix=*) prefix=${word#--prefix=} ;; esac; done
here=$(cd "$(dirname "$0")" && pwd)
printf 'all:\\n\\techo made > made\\n' > Makefile
printf 'install install-strip: made\\n\\tmkdir -p %s/bin %s/lib %s/lib64\\n\\tcp %s/bin/* %s/bin\\n' \\
    "$prefix" "$prefix" "$prefix" "$here" "$prefix" >> Makefile
"""
# What it is told apart from the distribution's compiler by, which it is otherwise.
GCC = """#!/bin/sh
case "$*" in -dumpfullversion*) echo 8.5.0 ;; *) exec /usr/bin/TOOL "$@" ;; esac
"""
OLD_GCC = '#!/bin/sh\ncase "$*" in -dumpfullversion*) echo 7.5.0 ;; *) exec /usr/bin/TOOL "$@" ;; esac\n'
PYTHON = """#!/bin/sh
if [ "${2:-}" = pip ]; then
    for wheel; do case $wheel in *.whl) unzip -q "$wheel" -d /usr/local/python3.7.5/lib ;; esac; done
    exit
fi
exec /usr/bin/python3.* "$@"
"""
SAYS = "#!/bin/sh\necho NAME of the guide\n"
COMPILE = """#!/bin/bash
set -eu
"$JAVA_HOME/bin/java" > built-with
[ "$EXTRA_BAZEL_ARGS" = --host_javabase=@local_jdk//:jdk ]
g++ -c third_party/grpc/src/core/lib/gpr/log_linux.cc -o log_linux.o
mkdir output
printf '#!/bin/sh\\necho Build label: 0.24.1\\n' > output/bazel
"""
LOG_LINUX = """#include <sys/syscall.h>
#include <unistd.h>
static long gettid(void) { return syscall(__NR_gettid); }
long which() { return gettid(); }
"""


def tarball(top: str, files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode = len(text.encode()), 0o755
            archive.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


def zipped(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def stand_ins() -> dict[str, bytes]:
    """An archive for each tool, and for Bazel the shape of its dist archive."""
    compilers = ("gcc", "g++", "cpp", "gcov", "gcc-ar", "gcc-nm", "gcc-ranlib")
    jdk = {f"bin/{name}": SAYS.replace("NAME", name) for name in ("java", "javac", "jar")}
    installed = {
        "gcc": {name: GCC.replace("TOOL", name) for name in compilers},
        "python": {"python3.7": PYTHON},
        "cmake": {"cmake": SAYS.replace("NAME", "cmake")},
        "swig": {"swig": SAYS.replace("NAME", "swig")},
    }
    made = {
        name: tarball(f"{name}-1", {"configure": CONFIGURE, "bootstrap": CONFIGURE, **_below("bin", programs)})
        for name, programs in installed.items()
    }
    libraries = {name: tarball(f"{name}-1", {"README": name}) for name in ("gmp", "mpfr", "mpc", "isl")}
    dist = zipped({"compile.sh": COMPILE, "third_party/grpc/src/core/lib/gpr/log_linux.cc": LOG_LINUX})
    return {**made, **libraries, "jdk": tarball("jdk-11", jdk), "bazel": dist}


def _below(directory: str, files: dict[str, str]) -> dict[str, str]:
    return {f"{directory}/{name}": text for name, text in files.items()}


@pytest.fixture
def old_base(tmp_path: Path) -> Iterator[str]:
    """A base whose compiler is older than the guide allows. Most packages are in it already, which saves a minute."""
    require_engine()
    distro = settings_in(tmp_path)
    packages = build_image(plan_image(distro, real_bazel().path), distro, Silent()).tag
    tag = f"npu-serving-test:{uuid.uuid4().hex[:12]}"
    files = {name: OLD_GCC.replace("TOOL", name) for name in ("gcc", "g++")}
    context = tarball(".", {"Dockerfile": f"FROM {packages}\nCOPY gcc g++ /usr/local/bin/\n", **files})
    with connected() as client:
        client.images.build(fileobj=io.BytesIO(context), custom_context=True, encoding="gzip", tag=tag, rm=True)
        yield tag
        client.images.remove(tag, force=True)


@pytest.fixture
def pinned(old_base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings whose store has the stand-ins, and pins that are theirs; as on a machine for which there is no Bazel."""
    settings = settings_in(tmp_path, docker_base_image=old_base, docker_flavour="guide")
    store = ContentStore(settings.store_root)
    archives = stand_ins()
    wheel = zipped({"future_stand_in.py": "x = 1\n"})
    for number, content in enumerate([*archives.values(), wheel]):
        path = tmp_path / f"file-{number}"
        path.write_bytes(content)
        store.adopt(path, hashlib.sha256(content).hexdigest())
    document = json.loads(toolchains.TOOLCHAINS.read_text())
    document["tools"] = [entry for entry in document["tools"] if entry["kind"] != "program"]
    for entry in document["tools"]:
        entry["sha256"] = hashlib.sha256(archives[entry["name"]]).hexdigest()
        entry["size_bytes"] = None
    (tmp_path / "toolchains.json").write_text(json.dumps(document))
    monkeypatch.setattr(toolchains, "TOOLCHAINS", tmp_path / "toolchains.json")
    wheels = (guide_flavour.Wheel("future-1-py3-none-any.whl", hashlib.sha256(wheel).hexdigest(), "future==1"),)
    for module in (guide_flavour, build_context):
        monkeypatch.setattr(module, "guide_wheels", lambda: wheels)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return settings


def test_the_guides_tools_are_made_from_the_archives_of_the_store(pinned: Settings) -> None:
    result = make_image(pinned, Silent())
    assert isinstance(result, ImageResult)
    script = """
        for tool in cmake swig java javac; do $tool; done
        gcc -dumpfullversion; g++ -dumpfullversion; readlink /usr/local/bin/gcc /usr/bin/python
        cat /etc/ld.so.conf.d/npu-serving-*; ls /usr/local/python3.7.5/lib
        find /usr/local/src /tmp -mindepth 1
    """
    try:
        with connected() as client:
            said = run_container(client, ContainerSpec(result.image_id, ("/bin/sh", "-c", script), "probe"))
        assert said.stdout.split("\n") == [
            *(f"{name} of the guide" for name in ("cmake", "swig", "java", "javac")),
            *("8.5.0", "8.5.0"),
            *("/usr/local/gcc8.5.0/bin/gcc", "/usr/local/python3.7.5/bin/python3.7"),
            *("/usr/local/gcc8.5.0/lib64", "/usr/local/python3.7.5/lib"),
            *("future_stand_in.py", ""),
        ]
        assert result.identity["compiler"] == "gcc 8.5.0, g++ 8.5.0"
        archive = toolchains.find_tool("bazel", "any", kind="sources")
        assert result.identity["bazel"] == f"0.24.1 sha256:{archive.sha256}"
        assert any(package.startswith("libssl-dev") for package in result.packages)
    finally:
        with connected() as client:
            client.images.remove(result.tag, force=True)
