"""The sample's archives, packed from plain files into the same bytes on every machine.

Nothing is compressed, so the bytes don't depend on the zlib version: gzip holds stored blocks, zip stored members.
`python -m npu_serving.sample.sample_archives --repin` renews every pin after the contents were changed on purpose.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import stat
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents import read_document
from npu_serving.errors import PinMismatchError
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.tar_writer import USTAR, TarWriter, stored_gzip

MTIME = 1571184000  # 2019-10-16, the day of TensorFlow 1.15.0; zip can't go back before 1980
ZIP_DATE = (2019, 10, 16, 0, 0, 0)


@dataclass(frozen=True)
class SampleArchive:
    """One archive: the file Bazel looks for, what it holds, and where the tree pins its digest."""

    repository: str
    file: str  # Bazel 0.24.1 looks an archive up by the basename of its first URL
    format: str  # "tar.gz" or "zip"
    prefix: str
    source: str  # a directory below archives/
    pinned_in: str  # a file below the sample's directory
    sha256: str
    size_bytes: int
    needed: str  # by whom: "server", "xla_cpu_jit" or "nobody"


@dataclass(frozen=True)
class _SampleArchiveList:
    """archives.json."""

    archives: tuple[SampleArchive, ...]


def load_archives(sample: Path = SAMPLE_DIRECTORY) -> list[SampleArchive]:
    """The archives of archives.json. One that holds the pin of another comes after it."""
    return list(read_document(sample / "archives.json", _SampleArchiveList).archives)


def build_archives(output_dir: Path) -> list[Path]:
    """Packs every archive into `output_dir`, under the names Bazel looks for; returns their paths.

    Files that are right already are kept. Raises PinMismatchError, before it writes anything of an archive, when
    the contents do not give the pinned digest.
    """
    paths = []
    for archive in load_archives():
        packed = pack(archive)
        digest = hashlib.sha256(packed).hexdigest()
        if digest != archive.sha256:
            raise PinMismatchError(
                f"{archive.file}, made from examples/sample/archives/{archive.source}, has sha256 {digest}, "
                f"not the pinned {archive.sha256}.",
                cause="a file in that directory was changed, added or left over, or lost its executable bit",
                cure="look for the change with: git status examples/sample; or, if it is intended, run: "
                "python -m npu_serving.sample.sample_archives --repin",
            )
        path = output_dir / archive.file
        fsutil.write_file(path, packed)
        paths.append(path)
    return paths


def repin(sample: Path = SAMPLE_DIRECTORY) -> list[str]:
    """Renews the digests in archives.json and in the files that declare the archives; returns the names that changed.

    Raises PinMismatchError when a declaring file does not hold the old digest, once.
    """
    renewed: list[SampleArchive] = []
    changed = []
    for archive in load_archives(sample):
        packed = pack(archive, sample)
        now = replace(archive, sha256=hashlib.sha256(packed).hexdigest(), size_bytes=len(packed))
        if now != archive:
            changed.append(archive.file)
            _renew_pin(sample / archive.pinned_in, archive.sha256, now.sha256)
        renewed.append(now)
    rows = ",\n    ".join(json.dumps(asdict(archive)) for archive in renewed)
    fsutil.write_file(sample / "archives.json", f'{{\n  "archives": [\n    {rows}\n  ]\n}}\n')
    return changed


def pack(archive: SampleArchive, sample: Path = SAMPLE_DIRECTORY) -> bytes:
    """The bytes of an archive."""
    root = sample / "archives" / archive.source
    return _zip(root, archive.prefix) if archive.format == "zip" else stored_gzip(_tar(root, archive.prefix))


def _renew_pin(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    if text.count(old) != 1:
        raise PinMismatchError(
            f"{path} must contain the sha256 {old} exactly once.",
            cause="it was edited by hand",
            cure=f"put {old} where the archive is declared, then run the same command again",
        )
    fsutil.write_file(path, text.replace(old, new))


def _members(root: Path) -> Iterator[tuple[str, Path]]:
    """Directories (their names end in "/") and files below `root`, in the order of their names' bytes."""
    found = []
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if "__pycache__" not in path.parts:
            found.append((f"{name}/" if path.is_dir() else name, path))
    yield from sorted(found)


def _mode(path: Path) -> int:
    return 0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644


def _tar(root: Path, prefix: str) -> bytes:
    buffer = io.BytesIO()
    with TarWriter(buffer, USTAR, mtime=MTIME) as tar:
        tar.add_directory(prefix)
        for name, path in _members(root):
            if path.is_dir():
                tar.add_directory(prefix + name)
            else:
                tar.add_file(prefix + name, path, mode=_mode(path))
    return buffer.getvalue()


def _zip(root: Path, prefix: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as packed:
        for name, path in [("", root), *_members(root)]:
            info = zipfile.ZipInfo(prefix + name, ZIP_DATE)
            info.create_system = 3  # Unix, whose modes the attributes are
            kind = stat.S_IFDIR if path.is_dir() else stat.S_IFREG
            info.external_attr = (kind | _mode(path)) << 16
            packed.writestr(info, b"" if path.is_dir() else path.read_bytes())
    return buffer.getvalue()


def main(argv: list[str] | None = None) -> int:
    """The command line: packs the archives into a directory, or renews their pins."""
    parser = argparse.ArgumentParser(prog="python -m npu_serving.sample.sample_archives", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, metavar="DIR", help="pack the archives into DIR")
    what.add_argument("--repin", action="store_true", help="renew the pins after the contents were changed on purpose")
    arguments = parser.parse_args(argv)
    lines = repin() if arguments.repin else [str(path) for path in build_archives(arguments.output)]
    sys.stdout.write("\n".join(lines or ["nothing has changed"]) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
