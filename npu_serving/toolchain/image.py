"""The toolchain image: planned from all that goes into it, made when it isn't there, tagged by their digest."""

from __future__ import annotations

import contextlib
import io
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_serving import fsutil
from npu_serving.console import Progress, Reporter, duration_text
from npu_serving.errors import DiskFullError, FetchError, MissingToolError, NpuServingError, ProgramError
from npu_serving.process import PROXY_VARIABLES, TAIL_LINES, opened_log
from npu_serving.settings import Settings
from npu_serving.toolchain.container import ContainerSpec, run_container
from npu_serving.toolchain.engine import LABEL, ROLE, connected
from npu_serving.toolchain.image_context import (
    BAZEL,
    ImageContext,
    checked_image_name,
    context_archive,
    read_context,
)

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

REPOSITORY = "npu-serving-toolchain"
INPUTS = f"{LABEL}.inputs"
IDENTITY = f"{LABEL}.toolchain."
"""Labels that begin so hold what docker/probe.sh found in the finished image."""
PROBE = ("/bin/sh", "/usr/local/share/npu-serving/probe.sh")
BUILD_TIMEOUT_S = 3600
OLDEST_GCC = (8, 4)

# What a failed image build says, why, and what to do. The first that is found counts.
_TROUBLE: tuple[tuple[str, str, str], ...] = (
    (
        r"exec format error",
        "the base image is for another processor than this machine's",
        "give --base-image the name of an image for this machine",
    ),
    (
        r"Temporary failure resolving|Could not connect to|Failed to fetch|Could not resolve|Unable to connect to",
        "the package archive of the base image's distribution can't be reached from here",
        "set http_proxy and https_proxy if there is a proxy, or give --base-image one with a mirror in its apt sources",
    ),
    (
        r"Unable to locate package|has no installation candidate",
        "the distribution of the base image has no package of that name",
        "give --base-image an Ubuntu 18.04 or a Debian 12",
    ),
    (
        r"apt-get: (?:command )?not found|os-release: No such file|exec: \"/bin/sh\"",
        "the base image is neither a Debian nor an Ubuntu",
        "give --base-image an Ubuntu 18.04 or a Debian 12",
    ),
)


@dataclass(frozen=True)
class ImagePlan:
    """What there is and what has to be done. `base_id` and `tag` are empty while the base image isn't here."""

    base_image: str
    base_id: str
    context: ImageContext
    tag: str
    image_id: str
    """The finished image's id; empty where it has to be made."""
    offline: bool
    logs: Path

    @property
    def steps(self) -> tuple[str, ...]:
        """What build_image() will do, in order; nothing where the image is there."""
        if self.image_id:
            return ()
        pull = () if self.base_id else (f"pull the base image {self.base_image}",)
        made = self.tag or f"the {self.context.flavour} toolchain image"
        return (*pull, f"make {made} from {self.base_image} with the packages of docker/packages.txt")

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "tag": self.tag,
            "image_id": self.image_id,
            "flavour": self.context.flavour,
            "base_image": self.base_image,
            "base_id": self.base_id,
            "steps": list(self.steps),
        }

    def text(self) -> str:
        """For a person."""
        return "\n".join(self.steps) if self.steps else f"{self.tag} is up to date."


@dataclass(frozen=True)
class ImageResult:
    """A toolchain image that is there; `identity` is what was found in it (compiler, glibc, machine, python, bazel)."""

    tag: str
    image_id: str
    base_image: str
    built: bool
    seconds: float = 0.0
    identity: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "tag": self.tag,
            "image_id": self.image_id,
            "base_image": self.base_image,
            "built": self.built,
            "seconds": round(self.seconds, 1),
            "identity": dict(self.identity),
        }

    def text(self) -> str:
        """For a person."""
        what = f"{self.identity.get('compiler', '')}, {self.identity.get('glibc', '')}, {self.base_image}"
        if not self.built:
            return f"{self.tag} is up to date ({what})."
        return f"{self.tag} was made in {duration_text(self.seconds)} ({what})."


def plan_image(settings: Settings, bazel: Path, *, bazel_sha256: str = "", flavour: str = "distro") -> ImagePlan:
    """What has to be done to have the toolchain image of these settings, with that Bazel in it. Changes nothing.

    With `bazel_sha256`, which the caller has verified, the program need not be there before build_image().

    Raises RequestError for a base image or Bazel that can't be meant, MissingToolError where no engine answers.
    """
    context = read_context(flavour, settings.docker_base_image, bazel, bazel_sha256)
    with connected() as client:
        return _plan(client, settings, context)


def build_image(plan: ImagePlan, settings: Settings, reporter: Reporter, *, no_cache: bool = False) -> ImageResult:
    """Carries the plan out. The tag appears in the last step, on an image that was tried; nothing to do if it is there.

    Raises FetchError where the base image can't be pulled, ProgramError where a step of the build fails,
    MissingToolError for a base whose compiler is too old.
    """
    started = time.monotonic()
    with connected() as client:
        if plan.image_id and not no_cache:
            return _result(client.images.get(plan.image_id), plan, built=False)
        if plan.offline:
            raise FetchError(
                "The toolchain image is not here, and it can't be made without a package archive.",
                cause="--offline was asked for",
                cure="./inv build-image without --offline, or docker load the image from a machine that has it",
            )
        if not plan.base_id:
            _pull(client, plan.base_image, reporter)
            plan = _plan(client, settings, plan.context)
        log_path = fsutil.make_directory(plan.logs) / "build-image.log"
        fsutil.remove(log_path)
        made = _build(client, plan, log_path, reporter, no_cache=no_cache)
        with _removed_on_failure(client, made):
            identity = _probe(client, made, plan)
            image = _finish(client, made, plan, identity)
        return _result(image, plan, built=True, seconds=time.monotonic() - started)


def _plan(client: DockerClient, settings: Settings, context: ImageContext) -> ImagePlan:
    base = _local_image(client, settings.docker_base_image)
    digest = context.digest(str(base.id)) if base is not None else ""
    tag = f"{REPOSITORY}:{digest[:12]}" if digest else ""
    made = _local_image(client, tag) if tag else None
    complete = made is not None and made.labels.get(INPUTS) == digest
    return ImagePlan(
        base_image=settings.docker_base_image,
        base_id=str(base.id) if base is not None else "",
        context=context,
        tag=tag,
        image_id=str(made.id) if made is not None and complete else "",
        offline=settings.offline,
        logs=settings.logs,
    )


def _local_image(client: DockerClient, name: str) -> Image | None:
    import docker

    try:
        return client.images.get(name)
    except docker.errors.ImageNotFound:
        return None


def _result(image: Image, plan: ImagePlan, *, built: bool, seconds: float = 0.0) -> ImageResult:
    labels = image.labels
    identity = {key[len(IDENTITY) :]: value for key, value in labels.items() if key.startswith(IDENTITY)}
    return ImageResult(plan.tag, str(image.id), plan.base_image, built, seconds, identity)


def _pull(client: DockerClient, name: str, reporter: Reporter) -> None:
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


def _no_base(name: str, reason: str) -> FetchError:
    return FetchError(
        f"The base image {name} is not here and can't be pulled: {reason}",
        cause="there is no network here, a registry mirror or a login is needed, or the name is wrong",
        cure="the same command with --base-image NAME, one of `docker images`, or docker_base_image in invoke.yaml; "
        "or --runner host. docker load or docker import brings an image without a registry (docker/README.md)",
    )


def _build(client: DockerClient, plan: ImagePlan, log_path: Path, reporter: Reporter, *, no_cache: bool) -> str:
    """The id of the image that the Dockerfile makes; it has no name yet."""
    proxies = {name: os.environ[name] for name in PROXY_VARIABLES if os.environ.get(name)}
    with context_archive(plan.context) as archive, reporter.progress("making the image", unit="steps") as progress:
        events = client.api.build(
            fileobj=archive,
            custom_context=True,
            decode=True,
            nocache=no_cache,
            rm=True,
            forcerm=True,
            network_mode="host",  # apt's; the containers that build have none
            buildargs=proxies,
            timeout=BUILD_TIMEOUT_S,
        )
        return _follow(events, log_path, progress)


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
            reason = str(event.get("error") or reason)  # told at the end: a stream that is left early stays open
    if reason or not image_id:
        raise _explain_failure(reason or "the engine named no image", lines, log_path)
    return image_id


def _image_id(event: Mapping[str, Any]) -> str:
    """The image that a report of the engine names; empty for any other report."""
    told = event.get("aux")
    return str(told.get("ID") or "") if isinstance(told, dict) else ""


def _lines(event: Mapping[str, Any]) -> Iterator[str]:
    for key in ("stream", "status", "error"):
        yield from (line.rstrip() for line in str(event.get(key) or "").splitlines() if line.strip())


def _explain_failure(reason: str, lines: list[str], log_path: Path) -> NpuServingError:
    output = "\n".join([*lines, reason])
    if "no space left on device" in output.lower():
        return DiskFullError(
            "The toolchain image could not be made: the disk that holds the engine's images is full.",
            cause=f"docker info names it under Docker Root Dir; the whole output is in {log_path}",
            cure="docker system df shows what takes the space; free some, then the same command again",
        )
    tail = "".join(f"\n    {line}" for line in lines[-TAIL_LINES:])
    what = f"The toolchain image could not be made: {reason}{tail}\nThe whole output is in {log_path}"
    for pattern, cause, cure in _TROUBLE:
        if re.search(pattern, output):
            return ProgramError(what, cause=cause, cure=cure, output=output)
    return ProgramError(what, output=output)


@contextlib.contextmanager
def _removed_on_failure(client: DockerClient, image_id: str) -> Iterator[None]:
    """Removes an image that is found unfit in the block. That it can't be removed does not hide why."""
    import docker

    try:
        yield
    except NpuServingError:
        with contextlib.suppress(docker.errors.DockerException, OSError):
            client.images.remove(image_id)
        raise


def _probe(client: DockerClient, image_id: str, plan: ImagePlan) -> dict[str, str]:
    """What is in the image, tried without network as a build will be; raises when it would not do."""
    spec = ContainerSpec(image=image_id, argv=PROBE, role="probe")
    finished = run_container(client, spec)
    found = dict(line.partition("=")[::2] for line in finished.stdout.splitlines() if "=" in line)
    if finished.returncode != 0 or not found.get("bazel") or not found.get("compiler"):
        raise ProgramError(
            f"The image made from {plan.base_image} does not work: {finished.output.strip()}",
            cause="a tool in it does not start",
            cure="give --base-image an Ubuntu 18.04 or a Debian 12 for this machine",
            returncode=finished.returncode,
            output=finished.output,
        )
    numbers = re.findall(r"\d+", found["compiler"].partition(",")[0])
    if not numbers:
        raise ProgramError(
            f"The compiler of {plan.base_image} does not tell its version: {found['compiler']!r}",
            cure="give --base-image an Ubuntu 18.04 or a Debian 12",
            output=finished.output,
        )
    if tuple(int(number) for number in numbers[:2]) < OLDEST_GCC:
        raise MissingToolError(
            f"{plan.base_image} has {found['compiler']}; the guide's table 6-1 asks for 8.4 or later.",
            cure="give --base-image an Ubuntu 18.04 or a Debian 12",
        )
    (bazel,) = [file for file in plan.context.files if file.name == BAZEL]
    return {**found, "bazel": f"{found['bazel']} sha256:{bazel.sha256}"}


def _finish(client: DockerClient, made: str, plan: ImagePlan, identity: Mapping[str, str]) -> Image:
    """Writes what was found into the image's labels, which adds no layer, and gives it its name."""
    digest = plan.context.digest(plan.base_id)
    labels = {INPUTS: digest, ROLE: "toolchain", **{IDENTITY + key: value for key, value in identity.items()}}
    events = client.api.build(
        fileobj=io.BytesIO(f"FROM {made}\n".encode()), labels=labels, decode=True, rm=True, forcerm=True
    )
    reports = list(events)
    reason = "".join(str(report.get("error", "")) for report in reports)
    if reason:
        raise _not_labelled(reason)
    named = [_image_id(report) for report in reports]
    if not any(named):
        raise _not_labelled("the engine named no image")
    image = client.images.get([image_id for image_id in named if image_id][-1])
    image.tag(REPOSITORY, plan.tag.partition(":")[2])
    return client.images.get(plan.tag)


def _not_labelled(reason: str) -> ProgramError:
    return ProgramError(
        f"The toolchain image could not be labelled: {reason}",
        cause="the engine is too old for the label, or is not Docker's",
        cure="docker version tells the engine; 18.09 or later will do. Then ./inv build-image again",
    )
