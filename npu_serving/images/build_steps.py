"""The steps that make a toolchain image: pull its base, build it, make one layer of it, try it, label and name it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_serving import known_failures
from npu_serving.console import Progress, Reporter
from npu_serving.errors import (
    DiskFullError,
    FetchError,
    MissingToolError,
    NpuServingError,
    PinMismatchError,
    ProgramError,
)
from npu_serving.facts import least_version
from npu_serving.images.build_context import ImageContext, context_archive
from npu_serving.images.container import ContainerSpec, own_labels, run_container
from npu_serving.images.docker_engine import LABEL, ROLE
from npu_serving.images.layer import EPOCH_S, LayerFile, normalised
from npu_serving.known_failures import diagnose
from npu_serving.process import PROXY_VARIABLES, TAIL_LINES, opened_log
from npu_serving.version_numbers import version_of
from npu_serving.writers.dockerfile import checked_image_name

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

INPUTS = f"{LABEL}.inputs"
IDENTITY = f"{LABEL}.toolchain."
"""Labels that begin so hold what docker/probe.sh found in the finished image."""
PACKAGES = f"{LABEL}.packages"
"""The label with the packages of the image, NAME=VERSION, with blanks between them."""
PROBE = ("/bin/sh", "/usr/local/share/npu-serving/probe.sh")
BUILD_TIMEOUT_S = 3600
NO_SPACE = "no-space"  # the known failure that is an error of its own


@dataclass(frozen=True)
class Made:
    """An image of one layer, without a name, and what is in the layer."""

    image_id: str
    entries: Mapping[str, LayerFile]


def local_image(client: DockerClient, name: str) -> Image | None:
    """The image of that name, if this machine has it."""
    import docker

    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        return None


def pull(client: DockerClient, name: str, reporter: Reporter) -> None:
    """Pulls the base image from its registry. Raises FetchError where that fails."""
    import docker

    checked_image_name(name)
    repository, _, digest = name.partition("@")
    has_tag = ":" in repository.rpartition("/")[2]
    # Without a tag the engine's API pulls every tag there is.
    wanted = name if digest or has_tag else f"{name}:latest"
    reason = ""
    try:
        with reporter.progress(f"pulling {name}", unit="layers") as progress:
            for done, event in enumerate(client.api.pull(wanted, stream=True, decode=True)):
                reason = str(event.get("error") or reason)
                progress.update(done, detail=str(event.get("status", "")))
    except docker.errors.APIError as error:
        raise _no_base(name, str(error.explanation or error)) from error
    if reason:
        raise _no_base(name, reason)


def _no_base(name: str, reason: str) -> NpuServingError:
    if "verification failed for digest" in reason:
        return PinMismatchError(
            f"The registry sent an image for {name} that does not match its digest, so it was not used ({reason}).",
            cause="the registry or a proxy in between answers with a different image",
            cure="try another registry mirror, or load the image from a file with docker load",
        )
    return FetchError(
        f"Could not pull the base image {name} ({reason}).",
        cause="there is no network here, a registry mirror or a login is needed, or the name is wrong",
        cure="choose an image that `docker images` lists, with --base-image NAME or docker_base_image in invoke.yaml; "
        "or set runner in invoke.yaml to host; or load an image without a registry, with docker load or docker import "
        "(docker/README.md)",
    )


def make_layer(
    client: DockerClient, context: ImageContext, log_path: Path, reporter: Reporter, *, no_cache: bool
) -> Made:
    """Builds what the Dockerfile says and makes one layer of its files; what was built on the way is removed.

    Raises ProgramError, with the cure where the cause is known, and DiskFullError.
    """
    import docker

    built = _build(client, context, log_path, reporter, no_cache=no_cache)
    made = _flatten(client, built, reporter)
    with contextlib.suppress(docker.errors.DockerException):  # another build goes on from it
        client.images.remove(built)
    return made


def _build(client: DockerClient, context: ImageContext, log_path: Path, reporter: Reporter, *, no_cache: bool) -> str:
    proxies = {name: os.environ[name] for name in PROXY_VARIABLES if os.environ.get(name)}
    with context_archive(context) as archive, reporter.progress("making the image", unit="steps") as progress:
        events = client.api.build(
            fileobj=archive,
            custom_context=True,
            decode=True,
            nocache=no_cache,
            rm=True,
            forcerm=True,
            network_mode="host",  # apt's; the containers that build have none
            buildargs={**proxies, "SOURCE_DATE_EPOCH": str(EPOCH_S)},
            timeout=BUILD_TIMEOUT_S,
        )
        return _follow(events, log_path, progress)


def _flatten(client: DockerClient, image_id: str, reporter: Reporter) -> Made:
    container = client.api.create_container(image_id, ["/bin/true"], labels=own_labels("export"))["Id"]
    entries: dict[str, LayerFile] = {}
    try:
        with reporter.progress("making one layer of it", unit="bytes") as progress:
            chunks = _counted(client.api.export(container), progress)
            # The SDK returns what the engine said, unread: a status line, or an error after a status of 200.
            answer = client.api.import_image(
                src=normalised(chunks, entries), stream_src=True, changes=[f'LABEL {ROLE}="toolchain"']
            )
    finally:
        client.api.remove_container(container, force=True)
    last = json.loads(str(answer).strip().splitlines()[-1])
    image_id = str(last.get("status", ""))
    if not image_id.startswith("sha256:"):
        raise _explain_failure(str(last.get("error") or answer), [], None)
    return Made(image_id, entries)


def _counted(chunks: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        done += len(chunk)
        progress.update(done)
        yield chunk


def _follow(events: Iterable[Mapping[str, Any]], log_path: Path, progress: Progress) -> str:
    """Keeps the log, shows the progress and returns the id of the image; raises what the build ends with."""
    image_id, step, reason, lines = "", 0, "", list[str]()
    with opened_log(log_path) as log:
        for event in events:
            for line in _lines(event):
                lines.append(line)
                log.write(line + "\n")
                step += line.startswith("Step ")
                progress.update(step, detail=line)
            image_id = _image_id(event) or image_id
            reason = str(event.get("error") or reason)  # raised at the end: a stream that is left early stays open
    if reason or not image_id:
        raise _explain_failure(reason or "Docker reported no image", lines, log_path)
    return image_id


def _image_id(event: Mapping[str, Any]) -> str:
    """The image that a report of the engine names; empty for any other report."""
    told = event.get("aux")
    return str(told.get("ID") or "") if isinstance(told, dict) else ""


def _lines(event: Mapping[str, Any]) -> Iterator[str]:
    for key in ("stream", "status", "error"):
        yield from (line.rstrip() for line in str(event.get(key) or "").splitlines() if line.strip())


def _explain_failure(reason: str, lines: list[str], log_path: Path | None) -> NpuServingError:
    output = "\n".join([*lines, reason])
    log = f"the full output is in {log_path}" if log_path is not None else ""
    known = diagnose(known_failures.IMAGES, output)
    if known is not None and known.id == NO_SPACE:
        what = "Could not make the toolchain image: there is no space left for it."
        return DiskFullError(what, cause=known.cause + (f"; {log}" if log else ""), cure=known.cure)
    tail = "".join(f"\n    {line}" for line in lines[-TAIL_LINES:])
    what = f"Could not make the toolchain image: {reason}{tail}" + (f"\nT{log[1:]}" if log else "")
    if known is not None:
        return ProgramError(what, cause=known.cause, cure=known.cure, output=output)
    cure = "correct what the output says, or try another base image: --base-image NAME"
    return ProgramError(what, cure=cure, output=output)


@contextlib.contextmanager
def removed_on_failure(client: DockerClient, image_id: str) -> Iterator[None]:
    """Removes an image that is rejected in the block. Failing to remove it does not hide why."""
    import docker

    try:
        yield
    except (NpuServingError, KeyboardInterrupt):
        with contextlib.suppress(docker.errors.DockerException, OSError):
            client.images.remove(image_id)
        raise


@dataclass(frozen=True)
class ImageProbe:
    """What was found in an image: the tools' versions, and its packages as NAME=VERSION."""

    identity: Mapping[str, str]
    packages: tuple[str, ...]


def probe(client: DockerClient, image_id: str, base_image: str, context: ImageContext) -> ImageProbe:
    """What is in the image, tried without network as a build will be; raises when something doesn't work."""
    spec = ContainerSpec(image=image_id, argv=PROBE, role="probe")
    finished = run_container(client, spec)
    lines = [line.partition("=")[::2] for line in finished.stdout.splitlines() if "=" in line]
    found = {key: value for key, value in lines if key != "package"}
    if finished.returncode != 0 or not found.get("bazel") or not found.get("compiler"):
        raise ProgramError(
            f"The image made from {base_image} does not work: {finished.output.strip()}",
            cause="one of its tools does not start",
            cure="use --base-image with an Ubuntu 18.04 or a Debian 12 image for this machine's processor",
            returncode=finished.returncode,
            output=finished.output,
        )
    _require_compiler(found["compiler"], base_image)
    found["bazel"] = f"{found['bazel']} sha256:{context.bazel_sha256}"
    return ImageProbe(found, tuple(value for key, value in lines if key == "package"))


def _require_compiler(compiler: str, base_image: str) -> None:
    numbers = re.search(r"[0-9][0-9.]*", compiler.partition(",")[0])
    if numbers is None:
        raise ProgramError(
            f"Could not find the version of the compiler in {base_image}: it printed {compiler!r}.",
            cure="use --base-image with an Ubuntu 18.04 or a Debian 12 image",
        )
    oldest = least_version("gcc")
    if version_of(numbers.group()) < version_of(oldest):
        raise MissingToolError(
            f"{base_image} has {compiler}, but the guide's table 6-1 requires {oldest} or later.",
            cure="use --base-image with an Ubuntu 18.04 or a Debian 12 image",
        )


def finish(client: DockerClient, made: Made, tag: str, inputs: str, flavour: str, found: ImageProbe) -> Image:
    """Writes what was found into the image's labels, which adds no layer, and gives it its name."""
    labels = {
        INPUTS: inputs,
        ROLE: "toolchain",
        f"{LABEL}.flavour": flavour,
        PACKAGES: " ".join(found.packages),
        **{IDENTITY + key: value for key, value in found.identity.items()},
    }
    dockerfile = f'FROM {made.image_id}\nCMD ["/bin/bash"]\n'
    events = client.api.build(
        fileobj=io.BytesIO(dockerfile.encode()), labels=labels, decode=True, rm=True, forcerm=True
    )
    reports = list(events)
    reason = "".join(str(report.get("error", "")) for report in reports)
    if reason:
        raise _not_labelled(reason)
    named = [_image_id(report) for report in reports]
    if not any(named):
        raise _not_labelled("Docker reported no image")
    image = client.images.get([image_id for image_id in named if image_id][-1])
    repository, _, version = tag.partition(":")
    image.tag(repository, version)
    return client.images.get(tag)


def _not_labelled(reason: str) -> ProgramError:
    return ProgramError(
        f"Could not label the toolchain image ({reason}).",
        cause="the Docker engine is too old, or is another program with Docker's interface",
        cure="check with `docker version` that it is 18.09 or later, then run ./inv build-image again",
    )
