"""The image to run: a base, the build in one layer upon it, and nothing of the toolchain."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from npu_serving import fsutil
from npu_serving.builds.manifest import SERVER, Build
from npu_serving.console import Reporter
from npu_serving.errors import FetchError, MissingToolError, ProgramError
from npu_serving.images import build_steps
from npu_serving.images.base_images import base_here, pull_base
from npu_serving.images.container import ContainerSpec, run_container
from npu_serving.images.docker_engine import LABEL, ROLE, connected
from npu_serving.packaging.contents import OWNER, PREFIX, PackageFile, add_entries, build_time, contents
from npu_serving.packaging.debian_package import NAME as REPOSITORY
from npu_serving.settings import Settings
from npu_serving.tar_writer import GNU, TarWriter
from npu_serving.templating import render
from npu_serving.writers.dockerfile import checked_image_name

if TYPE_CHECKING:
    from docker import DockerClient

BUILD_TIMEOUT_S = 1800
OCI = "org.opencontainers.image"


@dataclass(frozen=True)
class RuntimeImage:
    """An image that is there."""

    tag: str
    image_id: str
    size_bytes: int
    made: bool
    """False where it was there already."""


def make_runtime_image(build: Build, settings: Settings, reporter: Reporter) -> RuntimeImage:
    """The image of that build, made if it isn't there; its name appears in the last step, on an image that was tried.

    Raises FetchError where the base can't be pulled, PinMismatchError where it isn't the pinned one, ProgramError
    where the image can't be made, and MissingToolError where no engine answers or the base's C or C++ library is too
    old for the server.
    """
    base = checked_image_name(settings.docker_base_image)
    entries = contents(build)
    dockerfile = render("docker/runtime/Dockerfile.j2", base_image=base, prefix=PREFIX)
    with connected() as client:
        if base_here(client, base) is None:
            if settings.offline:
                raise FetchError(
                    f"The base image {base} is not on this machine, and --offline forbids pulling it.",
                    cure="load it with docker load, or use --base-image with an image that `docker images` lists",
                )
            pull_base(client, base, reporter)
        tag = f"{REPOSITORY}:{build.manifest.build_id}"
        inputs = _inputs_digest(dockerfile, str(client.images.get(base).id), entries)
        existing = build_steps.local_image(client, tag)
        if existing is not None and existing.labels.get(build_steps.INPUTS) == inputs:
            return RuntimeImage(tag, str(existing.id), int(existing.attrs["Size"]), made=False)
        labels = {**_labels(build, base), build_steps.INPUTS: inputs}
        with reporter.progress(f"making {tag}"), _context(dockerfile, entries, build_time(build)) as archive:
            image_id = _build(client, archive, labels)
        with build_steps.removed_on_failure(client, image_id):
            _require_fit(client, image_id, base)
            client.images.get(image_id).tag(REPOSITORY, build.manifest.build_id)
        made = client.images.get(tag)
        return RuntimeImage(tag, str(made.id), int(made.attrs["Size"]), made=True)


def _inputs_digest(dockerfile: str, base_id: str, entries: Sequence[PackageFile]) -> str:
    files = [[entry.name, entry.mode, fsutil.sha256_of(entry.source)] for entry in entries]
    return hashlib.sha256(json.dumps([dockerfile, base_id, files]).encode()).hexdigest()


def _labels(build: Build, base_image: str) -> dict[str, str]:
    manifest = build.manifest
    return {
        ROLE: "runtime",
        f"{LABEL}.build": manifest.build_id,
        f"{OCI}.title": "TensorFlow Serving for Ascend NPUs",
        f"{OCI}.description": "tensorflow_model_server with the TF Adapter; CANN and the driver come from the machine",
        f"{OCI}.version": manifest.build_id,
        f"{OCI}.revision": manifest.source.get("digest", ""),
        f"{OCI}.created": manifest.created,
        f"{OCI}.base.name": base_image,
    }


@contextlib.contextmanager
def _context(dockerfile: str, entries: Sequence[PackageFile], mtime: int) -> Iterator[IO[bytes]]:
    with tempfile.TemporaryFile(prefix="npu-serving-context-") as archive:
        with TarWriter(cast("IO[bytes]", archive), GNU, mtime=mtime, owner=OWNER) as tar:
            add_entries(tar, entries, prefix=PREFIX)
            tar.add_bytes("Dockerfile", dockerfile.encode())
        archive.seek(0)
        yield archive


def _build(client: DockerClient, archive: IO[bytes], labels: dict[str, str]) -> str:
    """The id of the image, which has no name yet."""
    reports = list(
        client.api.build(
            fileobj=archive,
            custom_context=True,
            decode=True,
            rm=True,
            forcerm=True,
            network_mode="none",
            labels=labels,
            timeout=BUILD_TIMEOUT_S,
        )
    )
    reason = "".join(str(report.get("error", "")) for report in reports)
    named = [str(report["aux"]["ID"]) for report in reports if "ID" in (report.get("aux") or {})]
    if reason or not named:
        raise ProgramError(
            f"Could not make the runtime image ({reason or 'Docker reported no image'}).",
            cause="the disk that holds Docker's images is full" if "no space left" in reason else "",
            cure="check Docker with `docker info` and its disk space with `docker system df`, then run the same "
            "command again",
        )
    return named[-1]


def _require_fit(client: DockerClient, image_id: str, base_image: str) -> None:
    """MissingToolError where the loader of the image says that its libraries are too old; CANN's may be missing."""
    program = f"/{PREFIX}/{SERVER}"
    spec = ContainerSpec(
        image=image_id,
        argv=("/bin/sh", "-c", f"LD_TRACE_LOADED_OBJECTS=1 exec {program}"),
        role="probe",
    )
    finished = run_container(client, spec)
    too_old = [line.strip() for line in finished.output.splitlines() if "version `" in line and "not found" in line]
    own = [line.strip() for line in finished.output.splitlines() if "libstdc++.so.6 => not found" in line]
    if too_old or own or "libc.so.6" not in finished.output:
        shown = "\n".join(f"    {line}" for line in (too_old or own or finished.output.splitlines())[:5])
        raise MissingToolError(
            f"The server would not start in {base_image}:\n{shown}",
            cause="it was built on a newer system, or for another processor",
            cure="use --base-image with the system that it was built on, or build in a container: --runner docker",
        )
