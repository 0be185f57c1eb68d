"""A build as a Debian package (deb(5)): the same bytes for the same build."""

from __future__ import annotations

import hashlib
import io
import re
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from npu_serving.builds.manifest import Build
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import RequestError
from npu_serving.facts import DEBIAN_MACHINES
from npu_serving.packaging.contents import OWNER, PREFIX, PackageFile, build_time, contents, write_tar
from npu_serving.tar_writer import GNU, TarWriter, compressed
from npu_serving.version_numbers import version_of

if TYPE_CHECKING:
    from packaging.version import Version

NAME = "npu-serving"
PIECE_BYTES = 1 << 20
GCC_OF_GLIBCXX = {
    21: "5", 22: "6", 23: "7", 24: "7.2", 25: "8", 26: "9", 27: "9.2", 28: "9.3", 29: "11", 30: "12", 31: "13.1",
    32: "13.2", 33: "14",
}  # fmt: skip
"""The GCC whose libstdc++ first has GLIBCXX_3.4.N (GCC's manual, "ABI Policy and Guidelines")."""
_VERSION = re.compile(r"(GLIBC|GLIBCXX)_(\d+(?:\.\d+)*)\Z")


def write_deb(build: Build, path: Path) -> None:
    """A Debian package (deb(5), format 2.0) that installs to /opt/npu-serving; it runs no scripts.

    Its dependencies are what the files' symbol versions ask of the C and C++ libraries. CANN is not a Debian package
    and is not among them.
    """
    entries, mtime = contents(build), build_time(build)
    control = io.BytesIO()
    with compressed(control) as stream, TarWriter(stream, GNU, mtime=mtime, owner=OWNER) as tar:
        tar.add_bytes("./control", _control(build, entries).encode())
        tar.add_bytes("./md5sums", _md5sums(entries).encode())
    data_path = path.with_name(path.name + ".data")
    with data_path.open("wb") as file, compressed(file) as stream:
        write_tar(stream, entries, prefix=f"./{PREFIX}", mtime=mtime)
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        _ar_member(file, "debian-binary", io.BytesIO(b"2.0\n"), 4, mtime)
        _ar_member(file, "control.tar.gz", io.BytesIO(control.getvalue()), len(control.getvalue()), mtime)
        with data_path.open("rb") as data:
            _ar_member(file, "data.tar.gz", data, data_path.stat().st_size, mtime)


def deb_version(build: Build) -> str:
    """The package's version: Serving's, the CANN and the time of the build, and the digest of its inputs.

    Of two builds with the same Serving and CANN the later one is an upgrade for apt.
    """
    manifest = build.manifest
    cann = debian_release(manifest.adapter.get("cann_version", ""))
    built = time.strftime("%Y%m%d%H%M%S", time.gmtime(build_time(build)))
    return f"{debian_release(manifest.serving_version, '0')}+cann{cann}+{built}.{manifest.input_digest[:12]}"


def debian_release(release: str, least: str = "") -> str:
    """A release's name such that Debian (deb-version(7)) sorts it where it belongs: 8.0.RC3 as 8.0~rc3, before 8.0.0.

    Alpha comes before beta, beta before RC, and all of them before the release that they lead to. A release without a
    number, such as an unknown one, gets `least` and a tilde in front: it is older than all others.
    """
    words = re.sub(r"[^a-z0-9.+]+", ".", release.lower()).strip(".") or "unknown"
    words = re.sub(r"\.*(?<![a-z])(alpha|beta|rc)(?![a-z])\.?", r"~\1", words)
    return words if words[0].isdigit() else f"{least}~{words.lstrip('~')}"


def deb_architecture(build: Build) -> str:
    """Debian's name for the server's machine."""
    machine = read_elf(build.server).machine
    if machine not in DEBIAN_MACHINES:
        raise RequestError(
            f"{build.server} is for {machine}, for which no Debian architecture is known.", cure="use --format tar"
        )
    return DEBIAN_MACHINES[machine]


def dependencies(paths: list[Path]) -> tuple[str, ...]:
    """What Debian packages the files need, by the symbol versions in them: `libc6 (>= 2.27)` and so on."""
    needed: dict[str, Version] = {}
    names: set[str] = set()
    for path in paths:
        elf = read_elf(path)
        names |= set(elf.needed)
        for need in elf.version_needs:
            for version in need.versions:
                found = _VERSION.match(version.name)
                if found:
                    family, numbers = found.group(1), version_of(found.group(2))
                    needed[family] = max(needed.get(family, numbers), numbers)
    wanted = []
    if "GLIBC" in needed:
        wanted.append(f"libc6 (>= {needed['GLIBC']})")
    if "libgcc_s.so.1" in names:
        wanted.append("libgcc-s1 | libgcc1")
    if "libstdc++.so.6" in names:
        wanted.append(_libstdcxx(needed["GLIBCXX"].micro if "GLIBCXX" in needed else 0))
    return tuple(wanted)


def _libstdcxx(last: int) -> str:
    """The package with GLIBCXX_3.4.`last`."""
    known = [gcc for number, gcc in sorted(GCC_OF_GLIBCXX.items()) if number >= last]
    if last > max(GCC_OF_GLIBCXX):
        raise RequestError(
            f"The server needs GLIBCXX_3.4.{last}, and this program doesn't know which libstdc++6 has it.",
            cure="use --format tar; or add the GCC that has it to GCC_OF_GLIBCXX in "
            "npu_serving/packaging/debian_package.py",
        )
    return f"libstdc++6 (>= {known[0]})" if last else "libstdc++6"


def _control(build: Build, entries: tuple[PackageFile, ...]) -> str:
    elf_files = [build.directory / name for name in build.manifest.files]
    fields = {
        "Package": NAME,
        "Version": deb_version(build),
        "Architecture": deb_architecture(build),
        "Maintainer": "npu-serving <npu-serving@localhost>",
        "Installed-Size": str(sum(-(-entry.size_bytes // 1024) for entry in entries)),
        "Depends": ", ".join(dependencies(elf_files)),
        "Section": "misc",
        "Priority": "optional",
        "Description": "TensorFlow Serving with the TF Adapter of Ascend NPUs\n"
        f" Built from {build.manifest.build_id}. CANN and the driver come from the machine.",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def _md5sums(entries: tuple[PackageFile, ...]) -> str:
    """What dpkg --verify compares with; MD5 is what deb(5) asks for, and protects nothing here."""
    lines = []
    for entry in entries:
        digest = hashlib.md5(usedforsecurity=False)
        with entry.source.open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                digest.update(piece)
        lines.append(f"{digest.hexdigest()}  {PREFIX}/{entry.name}\n")
    return "".join(lines)


def _ar_member(file: IO[bytes], name: str, data: IO[bytes], size_bytes: int, mtime: int) -> None:
    """A member of an archive as ar(5) has it: a header of 60 bytes, and the data on an even boundary."""
    file.write(f"{name:<16}{mtime:<12}{0:<6}{0:<6}{'100644':<8}{size_bytes:<10}`\n".encode("ascii"))
    while piece := data.read(PIECE_BYTES):
        file.write(piece)
    if size_bytes % 2:
        file.write(b"\n")
