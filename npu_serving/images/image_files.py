"""Images as files, to be copied to a machine without a registry: saved the same way each time, and loaded again."""

from __future__ import annotations

import tarfile
import urllib.parse
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter
from npu_serving.errors import ProgramError, RequestError
from npu_serving.images.docker_engine import connected
from npu_serving.lock.lockfile import is_safe_file_name
from npu_serving.tar_writer import PAX, TarWriter, member
from npu_serving.writers.dockerfile import checked_image_name


def image_file_name(name: str) -> str:
    """A file name for the image of that name, such as ubuntu%3A18.04.tar; no two names share one."""
    file_name = urllib.parse.quote(checked_image_name(name), safe="") + ".tar"
    if not is_safe_file_name(file_name):
        raise RequestError(f"{name} is too long for a file name.", cure="give the image a shorter name with docker tag")
    return file_name


def image_size_bytes(name: str) -> int:
    """How large the image is, about; RequestError where this machine has none of that name."""
    import docker

    with connected() as client:
        try:
            return int(client.images.get(checked_image_name(name)).attrs.get("Size", 0))
        except docker.errors.ImageNotFound as error:
            raise RequestError(
                f"This machine has no image {name}.",
                cure="choose one that `docker images` lists, or get it with docker pull or ./inv build-image",
            ) from error


def save_image(name: str, path: Path, reporter: Reporter) -> None:
    """Writes the image to `path` in docker save's format; the same image gives the same bytes.

    Raises RequestError where there is no such image, MissingToolError where no engine answers.
    """
    saved = path.with_name(f"{path.name}.saved")
    try:
        _ask_engine(name, saved, reporter)
        _write_plain(saved, path)
    finally:
        fsutil.remove(saved)


def load_image(path: Path, reporter: Reporter) -> tuple[str, ...]:
    """Loads the image in that file into Docker, and returns its names. Raises MissingToolError, ProgramError."""
    with connected() as client, path.open("rb") as file, reporter.progress(f"loading {path.name}", unit="bytes"):
        images = client.images.load(file)
    if not images:
        raise ProgramError(
            f"Docker loaded {path} but reported no image in it.",
            cause="the file was not made by docker save",
            cure="make it again with docker save or ./inv bundle",
        )
    return tuple(tag for image in images for tag in image.tags or [str(image.id)])


def _ask_engine(name: str, path: Path, reporter: Reporter) -> None:
    total = image_size_bytes(name)
    with connected() as client, fsutil.new_file(path) as file:
        chunks = client.api.get_image(name)
        with reporter.progress(f"saving {name}", total=total, unit="bytes") as progress:
            for chunk in chunks:
                file.write(chunk)
                progress.update(file.tell())


def _write_plain(saved: Path, path: Path) -> None:
    """Members by name, without what depends on when and by which engine they were saved."""
    with fsutil.new_file(path) as file, tarfile.open(saved, "r:") as given, TarWriter(file, PAX) as plain:
        for info in sorted(given.getmembers(), key=lambda found: found.name):
            stripped = member(info.name, info.size, mode=0o755 if info.isdir() else 0o644, kind=info.type)
            stripped.linkname = info.linkname
            plain.add(stripped, given.extractfile(info) if info.isreg() else None)
