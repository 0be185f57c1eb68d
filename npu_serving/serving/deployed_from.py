"""What a server was deployed from: a file, what replaces parts of it, and the digest of what came out of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a probe reads records, and has no time to import a writer of files
    from npu_serving.deploy.rendering import RenderedFile


@dataclass(frozen=True)
class DeployedFrom:
    """A deployment file with its overlays and the values of --set, in their order; `digest` is files_digest()."""

    file: Path
    overlays: tuple[Path, ...] = ()
    values: tuple[str, ...] = ()
    digest: str = ""

    @property
    def name(self) -> str:
        """The same for the same files and values, and no other's."""
        parts = [str(path.expanduser().absolute()) for path in (self.file, *self.overlays)] + list(self.values)
        return hashlib.sha256(b"\0".join(os.fsencode(part) for part in parts)).hexdigest()[:12]

    def directory(self, build_root: Path) -> Path:
        """Where the files of its server are."""
        return build_root.absolute() / "deployments" / self.name


def files_digest(files: Mapping[str, RenderedFile]) -> str:
    """The sha256 of a deployment's files, in hexadecimal digits: another one means that a server is to be restarted."""
    whole = hashlib.sha256()
    for name, file in sorted(files.items()):
        text = file.text.encode("utf-8", "surrogateescape")
        whole.update(f"{name}\0{file.mode:o}\0{len(text)}\0".encode())
        whole.update(text)
    return whole.hexdigest()
