"""package-client: the client library as a wheel of its own, npu-serving-client, with what of the package it imports.

It is written here, file by file, as the specification of binary distributions has it: nothing is fetched for it, and
the same tree gives the same bytes. https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import __version__, fsutil
from npu_serving.builds.current import packages_directory
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.writers.shell import command_line

NAME = "npu-serving-client"
REQUIRES = ("numpy>=1.24", "grpcio>=1.60")
IMAGES = "Pillow>=10"
PYTHON = ">=3.9"
_PACKAGE = "npu_serving"
_README = PROJECT_ROOT / "templates" / "client-readme.md"
_LICENSE = PROJECT_ROOT / "LICENSE"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # no member of a zip file is older


@dataclass(frozen=True)
class ClientWheel:
    """The wheel: where it is or would be, what is in it, and whether it had to be written."""

    path: Path
    files: tuple[str, ...]
    digest: str
    size_bytes: int
    written: bool
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "path": str(self.path),
            "files": list(self.files),
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "written": self.written,
            "dry_run": self.dry_run,
        }

    def text(self) -> str:
        """Where it is, and how it is installed."""
        if self.dry_run:
            return f"Would write {self.path}, with {len(self.files)} files."
        if not self.written:
            return f"{self.path} is up to date."
        install = command_line(["pip", "install", self.path])
        return f"{self.path} ({self.size_bytes / 1e3:.0f} kB, {self.digest[:23]}…) made.\nNext: {install}"


def package_client(settings: Settings, *, output: Path | None = None, dry_run: bool = False) -> ClientWheel:
    """Writes the wheel into the directory `output`, dist/packages by default, in one step."""
    name = f"{NAME.replace('-', '_')}-{__version__}"
    path = (output if output is not None else packages_directory(settings.dist_root)) / f"{name}-py3-none-any.whl"
    files = _files(f"{name}.dist-info")
    data = _zipped(files)
    written = False if dry_run else fsutil.write_file(path, data)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    return ClientWheel(path, tuple(files), digest, len(data), written, dry_run)


def _files(info: str) -> Mapping[str, bytes]:
    """The members of the wheel by name, in their order."""
    files = {str(path.relative_to(PROJECT_ROOT)): fsutil.read_bytes(path) for path in sorted(_modules())}
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: npu-serving\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/licenses/LICENSE"] = fsutil.read_bytes(_LICENSE)
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    return files


def _metadata() -> str:
    fields = [
        ("Metadata-Version", "2.1"),
        ("Name", NAME),
        ("Version", __version__),
        ("Summary", "Ask a TensorFlow Serving from Python, without TensorFlow"),
        ("License", "Apache-2.0"),
        ("Requires-Python", PYTHON),
        *(("Requires-Dist", requirement) for requirement in REQUIRES),
        ("Provides-Extra", "images"),
        ("Requires-Dist", f'{IMAGES}; extra == "images"'),
        ("Description-Content-Type", "text/markdown"),
    ]
    return "".join(f"{name}: {value}\n" for name, value in fields) + "\n" + fsutil.read_text(_README)


def _modules() -> set[Path]:
    """The library's files, and those of the package that they import, whenever they do."""
    found: set[Path] = set()
    left = sorted((PROJECT_ROOT / _PACKAGE / "client").glob("*.py"))
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left += _imported_by(path)
    return found | {PROJECT_ROOT / _PACKAGE / "__init__.py"}


def _imported_by(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(fsutil.read_bytes(path))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == _PACKAGE:
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                file = PROJECT_ROOT.joinpath(*name.split(".")).with_suffix(".py")
                if file.is_file():
                    yield file


def _zipped(files: Mapping[str, bytes]) -> bytes:
    """The files as a zip, without compression: that would be other bytes with another zlib."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as packed:
        for name, data in files.items():
            member = zipfile.ZipInfo(name, _LONG_AGO)
            member.external_attr = 0o100644 << 16
            member.create_system = 3  # Unix, whatever this machine is
            packed.writestr(member, data)
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode("ascii")
