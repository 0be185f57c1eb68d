"""What the toolchain image is made from: the Dockerfile rendered from docker/, the files beside it, and their digest.

The context is a tar file without owners or times, so that the same content is the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from npu_serving import fsutil
from npu_serving.errors import RequestError
from npu_serving.facts import pinned_bazel
from npu_serving.fetch.content_store import ContentStore
from npu_serving.images.apt_sources import render_sources
from npu_serving.images.guide_flavour import GUIDE, GuideStep, guide_steps, guide_wheels
from npu_serving.images.layer import EPOCH_S
from npu_serving.settings import GUIDE_FLAVOUR, PROJECT_ROOT, Settings
from npu_serving.tar_writer import USTAR, TarWriter
from npu_serving.templating import render
from npu_serving.writers.dockerfile import checked_image_name

DOCKER_DIRECTORY = PROJECT_ROOT / "docker"
SCRIPTS = ("install-packages.sh", "packages.txt", "probe.sh")
GUIDE_SCRIPTS = ("lib.sh", "packages-guide.txt")
APT_SOURCES = "sources.list"
BAZEL = "bazel"


@dataclass(frozen=True)
class ContextFile:
    """A file of the build context; `source` is where its bytes are, or they themselves."""

    name: str
    source: Path | bytes
    sha256: str
    mode: int = 0o644


@dataclass(frozen=True)
class ImageContext:
    """Everything the image is made from, but the base image."""

    flavour: str
    dockerfile: str
    files: tuple[ContextFile, ...]
    bazel_sha256: str = ""
    """That of the Bazel in it, or of the archive that it is made from."""

    @property
    def missing(self) -> tuple[ContextFile, ...]:
        """The files that have to be fetched before the image can be made."""
        return tuple(file for file in self.files if isinstance(file.source, Path) and not file.source.exists())

    def digest(self, base_id: str) -> str:
        """The sha256 of all that goes into an image made from this context and that base."""
        inputs = {
            "flavour": self.flavour,
            "base": base_id,
            "dockerfile": self.dockerfile,
            "files": [[file.name, file.mode, file.sha256] for file in self.files],
        }
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def read_context(settings: Settings, bazel: Path, bazel_sha256: str = "") -> ImageContext:
    """The context for the flavour and the base that are set, with that Bazel; a known sha256 is not taken again.

    The Bazel of a known sha256 need not be there yet: a plan can be made before it is fetched.
    Raises RequestError for a base image with an invalid name, and a Bazel that is not a program
    of its own (a script that fetches or starts another one would do neither inside).
    """
    flavour = settings.docker_flavour
    if bazel.exists() or not bazel_sha256:
        _require_program(bazel, sources_will_do=flavour == GUIDE_FLAVOUR)
    sources = render_sources(settings.apt_sources).encode()
    files = [ContextFile(APT_SOURCES, sources, hashlib.sha256(sources).hexdigest())]
    files += [_script(DOCKER_DIRECTORY / name) for name in SCRIPTS]
    program = ContextFile(BAZEL, bazel, bazel_sha256 or fsutil.sha256_of(bazel), 0o755)
    if flavour == GUIDE_FLAVOUR:
        files += _guide_files(ContentStore(settings.store_root))
        program = dataclasses.replace(program, name=f"sources/bazel/{BAZEL}")
    files.append(program)
    return ImageContext(flavour, render_dockerfile(flavour, settings.docker_base_image), tuple(files), program.sha256)


def _guide_files(store: ContentStore) -> list[ContextFile]:
    """The scripts of the guide's steps and their archives, each under its tool's name; a plan needs no archive."""
    steps = guide_steps()
    files = [_script(GUIDE / name) for name in _guide_scripts(steps)]
    for step in steps:
        for tool in step.tools:
            files.append(ContextFile(f"sources/{step.name}/{tool.name}", store.path(tool.sha256), tool.sha256))
    for wheel in guide_wheels():
        files.append(ContextFile(f"sources/python/wheels/{wheel.file_name}", store.path(wheel.sha256), wheel.sha256))
    return files


def _guide_scripts(steps: tuple[GuideStep, ...]) -> list[str]:
    return [*GUIDE_SCRIPTS, *(f"{step.name}.sh" for step in steps)]


def _script(path: Path) -> ContextFile:
    return ContextFile(path.name, path, fsutil.sha256_of(path))


def _require_program(bazel: Path, *, sources_will_do: bool) -> None:
    with fsutil.explained(bazel, doing="read"), bazel.open("rb") as file:
        magic = file.read(4)
    if magic == b"\x7fELF" or (sources_will_do and magic == b"PK\x03\x04"):
        return
    raise RequestError(
        f"{bazel} is not Bazel itself but a program that starts it, so it can't be put into an image.",
        cause="it is bazelisk's or a distribution's wrapper script",
        cure=f"set `bazel` in invoke.yaml to a real Bazel {pinned_bazel()}, or leave it empty to use the pinned "
        "release",
    )


def render_dockerfile(flavour: str, base_image: str) -> str:
    """The Dockerfile's text."""
    steps = guide_steps() if flavour == GUIDE_FLAVOUR else ()
    scripts = [APT_SOURCES, *SCRIPTS, *(_guide_scripts(steps) if steps else ())]
    return render(
        "docker/Dockerfile.j2",
        flavour=flavour,
        base_image=checked_image_name(base_image),
        scripts=scripts,
        steps=steps,
        epoch=EPOCH_S,
    )


@contextlib.contextmanager
def context_archive(context: ImageContext) -> Iterator[IO[bytes]]:
    """The context as Docker takes it: a tar file, ready to be read; removed when the block ends."""
    with tempfile.TemporaryFile(prefix="npu-serving-context-") as archive:
        with TarWriter(cast("IO[bytes]", archive), USTAR) as tar:
            tar.add_bytes("Dockerfile", context.dockerfile.encode())
            for file in context.files:
                if isinstance(file.source, bytes):
                    tar.add_bytes(file.name, file.source, mode=file.mode)
                else:
                    tar.add_file(file.name, file.source, mode=file.mode)
        archive.seek(0)
        yield archive
