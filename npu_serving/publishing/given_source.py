"""What is published: a version's directory on this machine, or one in an archive or an image that a digest names."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving import archives, fsutil
from npu_serving.console import Reporter
from npu_serving.errors import FetchError, RequestError
from npu_serving.models.layout import MODEL_LAYOUT, model_name_of, version_directories
from npu_serving.models.saved_model import SAVED_MODEL, SAVED_MODEL_TEXT
from npu_serving.settings import Settings, user_path
from npu_serving.shown_text import in_a_line, shown_url
from npu_serving.writers.shell import shell_word

if TYPE_CHECKING:
    from docker import DockerClient

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FETCHED = ("file://", "http://", "https://")
_IMAGE = "oci://"
_ROLE = "publishing"  # of the container that a model is copied out of
_DEEPEST = 4  # directories above a model in an archive
_OWN_NAME = "model"


@dataclass(frozen=True)
class GivenSource:
    """What was typed: SOURCE, --sha256 and --path. RequestError where the three don't go together."""

    text: str
    sha256: str = ""
    within: str = ""

    def __post_init__(self) -> None:
        """Refuses what nothing could be fetched by, before anything is."""
        if self.is_remote:
            self._check_remote()
            return
        for flag, value in (("--sha256", self.sha256), ("--path", self.within)):
            if value:
                raise RequestError(
                    f"{flag} would have no effect.",
                    cause="the source is a directory of this machine",
                    cure=f"leave out {flag}",
                )

    def _check_remote(self) -> None:
        shown = shown_url(self.text)
        if self.text.startswith(_IMAGE):
            if self.sha256:
                raise RequestError(
                    "--sha256 would have no effect.",
                    cause="the digest of an image is a part of its name",
                    cure="leave out --sha256, and write oci://NAME@sha256:DIGEST",
                )
            name = self.text[len(_IMAGE) :]
            if not re.fullmatch(r"[A-Za-z0-9._/:-]+@sha256:[0-9a-f]{64}", name):
                plain = shell_word(name.partition("@")[0])
                raise RequestError(
                    f"{shown} names no image by its digest.",
                    cause="a name can mean another image each day: what is not pinned is not published",
                    cure=f"docker pull {plain} && docker image inspect -f '{{{{.RepoDigests}}}}' {plain} shows it; "
                    f"of an image that was loaded here, docker image inspect -f '{{{{.Id}}}}' {plain} does",
                )
            if ".." in self.within.split("/") or not self.within.strip("/."):
                raise RequestError(
                    f"--path {in_a_line(self.within)} is not the directory of a model in {shown}."
                    if self.within
                    else f"Which directory of {shown} has the model is not said.",
                    cause="of an image one directory is copied out, not all of it",
                    cure="name it: --path /models/NAME/1",
                )
            return
        if not self.text.startswith(_FETCHED):
            raise RequestError(
                f"A model can't be fetched from {shown}.",
                cause="archives at file://, https:// and http:// are, and oci:// images, each by its digest",
                cure="copy it to this machine, and name the directory",
            )
        from npu_serving.lock.lockfile import url_problem

        problem = "" if self.text.startswith("file:") else url_problem(self.text)
        if problem:
            raise RequestError(f"{shown} is not a URL that can be fetched: {problem}.", cure="correct it")
        if not _DIGEST.fullmatch(self.sha256):
            how = "is not said" if not self.sha256 else f"is not a sha256: {in_a_line(self.sha256)}"
            raise RequestError(
                f"What {shown} has to contain {how}.",
                cause="who holds the server there could put another model in its place: nothing is fetched without a "
                "digest",
                cure=self._how_to_get_the_digest(),
            )

    def _how_to_get_the_digest(self) -> str:
        if self.text.startswith("file:"):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.text).path)
            return f"sha256sum {shell_word(path)} prints it; give it with --sha256"
        return (
            f"curl -fsSL {shell_word(self.text)} | sha256sum prints it, of what is there now; better ask who made the "
            "model; give it with --sha256"
        )

    @property
    def is_remote(self) -> bool:
        """Whether it is a URL."""
        return fsutil.is_remote(self.text)

    @property
    def shown(self) -> str:
        """As it may be printed."""
        return shown_url(self.text)

    @contextlib.contextmanager
    def directory(self, settings: Settings, reporter: Reporter) -> Iterator[Path]:
        """The version's directory, while the block runs. Raises what a fetch does, RequestError, UnsafeArchiveError."""
        if not self.is_remote:
            yield local_version(user_path(self.text, "the model").absolute())
            return
        if self.text.startswith(_IMAGE):
            with _of_image(self.text[len(_IMAGE) :], self.within, settings, reporter) as found:
                yield found
            return
        from npu_serving.fetch.content_store import ContentStore
        from npu_serving.fetch.fetching import fetch_file
        from npu_serving.fetch.transfer import WantedFile

        name = urllib.parse.unquote(urllib.parse.urlsplit(self.text).path).rpartition("/")[2] or "model.tar.gz"
        wanted = WantedFile(in_a_line(name), name, (self.text,), self.sha256)
        archive = fetch_file(wanted, ContentStore(settings.store_root), reporter=reporter)
        with _unpacked(archive, self.within, self.shown, settings, reporter) as found:
            yield found


def local_version(path: Path) -> Path:
    """The directory of a version: the one that is named, or the only one of a model. RequestError for anything else."""
    with fsutil.explained(path, doing="read"):
        if path.is_file():
            saved = path.name in (SAVED_MODEL, SAVED_MODEL_TEXT)
            raise RequestError(
                f"{path} is a file, and a version of a model is a directory.",
                cause=MODEL_LAYOUT,
                cure=f"name {path.parent}"
                if saved
                else f"./inv convert-pb {shell_word(path)} --output models/{model_name_of(path)}",
            )
        if not path.is_dir():
            raise RequestError(f"{path} does not exist.", cause="the path was mistyped", cure="correct it")
        if _has_model(path):
            return path
        versions = version_directories(path)
    if len(versions) == 1:
        return next(iter(versions.values()))
    if versions:
        listed = ", ".join(str(number) for number in sorted(versions)[:10])
        raise RequestError(
            f"{path} has several versions: {listed}.",
            cause="one version is published at a time",
            cure=f"name one, such as {versions[max(versions)]}",
        )
    raise RequestError(f"{path} has no {SAVED_MODEL}.", cause=MODEL_LAYOUT, cure="name the directory that has it")


@contextlib.contextmanager
def _unpacked(archive: Path, within: str, shown: str, settings: Settings, reporter: Reporter) -> Iterator[Path]:
    with fsutil.scratch_directory(settings.build_root / "publishing") as scratch:
        with reporter.progress(f"unpacking {shown}"):
            archives.extract(archive, scratch / _OWN_NAME)
        yield _model_in(scratch / _OWN_NAME, within, shown)


def _model_in(top: Path, within: str, shown: str) -> Path:
    """The directory of the model in what was unpacked: the one that is named, or the only one that there is."""
    if within:
        place = top.joinpath(*[part for part in within.split("/") if part not in ("", ".", "..")])
        if place.is_dir() and _has_model(place):
            return place
    found = sorted(Path(place) for place, _, files in fsutil.walk(top) if {SAVED_MODEL, SAVED_MODEL_TEXT} & {*files})
    found = [each for each in found if len(each.relative_to(top).parts) <= _DEEPEST]
    listed = ", ".join(in_a_line(str(each.relative_to(top))) for each in found[:5])
    if within or not found:
        raise RequestError(
            f"{shown} has no {SAVED_MODEL} {f'in {in_a_line(within)}' if within else 'in it'}.",
            cause=MODEL_LAYOUT,
            cure=f"name with --path one of {listed}" if found else "name an archive of a version's directory",
        )
    if len(found) > 1:
        raise RequestError(f"{shown} has several models: {listed}.", cure="name one of them with --path")
    return found[0]


@contextlib.contextmanager
def _of_image(name: str, within: str, settings: Settings, reporter: Reporter) -> Iterator[Path]:
    """The directory of an image, which is fetched where the engine has not got it. Nothing of it is run."""
    import docker

    from npu_serving.images.container import own_labels
    from npu_serving.images.docker_engine import connected

    with fsutil.scratch_directory(settings.build_root / "publishing") as scratch:
        packed = scratch / "model.tar"
        with connected() as client, reporter.progress(f"fetching {name}", unit="bytes") as progress:
            image = _image(client, name)
            container = client.containers.create(image, command=["none"], labels=own_labels(_ROLE))
            try:
                chunks, _ = container.get_archive(within)
                with fsutil.new_file(packed) as file:
                    for chunk in chunks:
                        file.write(chunk)
                        progress.update(file.tell())
            except docker.errors.NotFound as error:
                plain = shell_word(image)
                raise RequestError(
                    f"The image {name} has no {in_a_line(within)}.",
                    cause="the model is in another directory of it",
                    cure=f"docker create --name look {plain} none && docker export look | tar -t; docker rm look "
                    "shows what it has",
                ) from error
            finally:
                container.remove()
        with _unpacked(packed, "", f"{_IMAGE}{name}", settings, reporter) as found:
            yield found


def _image(client: DockerClient, name: str) -> str:
    """What the engine calls the image of that digest, which it fetches where it has not got it.

    An image that was loaded from a file has no digest of a registry; its own is that of its contents as well.
    """
    import docker

    digest = name.rpartition("@")[2]
    for known in (name, digest):
        with contextlib.suppress(docker.errors.ImageNotFound):
            client.images.get(known)
            return known
    try:
        client.images.pull(name)
    except docker.errors.APIError as error:
        raise FetchError(
            f"The image {name} can't be fetched: {in_a_line(str(error.explanation))}",
            cause="its name or digest is not what the registry has, or the registry can't be reached from here, or "
            "wants a login",
            cure=f"docker pull {shell_word(name)} until that works; or docker load it from a file, and give the digest "
            "that docker image inspect -f '{{.Id}}' shows",
        ) from error
    return name


def _has_model(directory: Path) -> bool:
    return any(os.path.lexists(directory / name) for name in (SAVED_MODEL, SAVED_MODEL_TEXT))
