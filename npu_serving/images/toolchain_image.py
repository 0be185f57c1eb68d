"""The toolchain image: planned from all that goes into it, made when it isn't there, tagged by their digest."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving import fsutil
from npu_serving.console import Reporter, duration_text, table
from npu_serving.errors import EXIT_ACTION_NEEDED, FetchError
from npu_serving.images.apt_sources import all_on_this_machine
from npu_serving.images.base_images import base_here, pinned_reference, pull_base
from npu_serving.images.build_context import ImageContext, read_context
from npu_serving.images.build_steps import (
    IDENTITY,
    INPUTS,
    PACKAGES,
    Made,
    finish,
    local_image,
    make_layer,
    probe,
    removed_on_failure,
)
from npu_serving.images.docker_engine import connected
from npu_serving.images.layer import Difference, differences
from npu_serving.settings import GUIDE_FLAVOUR, Settings

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

REPOSITORY = "npu-serving-toolchain"
MOST_LINES = 50


@dataclass(frozen=True)
class ImagePlan:
    """What there is and what has to be done. `base_id` and `tag` are empty while the base image isn't here."""

    base_image: str
    base_id: str
    context: ImageContext
    tag: str
    image_id: str
    """The finished image's id; empty where it has to be made."""
    can_be_made: bool
    """Whether the packages come from somewhere: not with --offline, unless their source is this machine."""
    logs: Path

    @property
    def steps(self) -> tuple[str, ...]:
        """What build_image() will do, in order; nothing where the image is there."""
        if self.image_id:
            return ()
        pull = () if self.base_id else (f"pull the base image {pinned_reference(self.base_image)}",)
        missing = ", ".join(file.name for file in self.context.missing)
        fetch = (f"fetch its inputs: {missing}",) if missing else ()
        made = self.tag or f"the {self.context.flavour} toolchain image"
        tools = " and the tools of docker/guide/steps.yaml" if self.context.flavour == GUIDE_FLAVOUR else ""
        return (*pull, *fetch, f"make {made} from {self.base_image} with the packages of docker/packages.txt{tools}")

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
    layers: tuple[str, ...] = ()
    """The digests of its layers: what is in it, whoever made it and whenever."""
    packages: tuple[str, ...] = ()
    """Its packages, NAME=VERSION."""

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "tag": self.tag,
            "image_id": self.image_id,
            "base_image": self.base_image,
            "built": self.built,
            "seconds": round(self.seconds, 1),
            "identity": dict(self.identity),
            "layers": list(self.layers),
            "packages": list(self.packages),
        }

    def text(self) -> str:
        """For a person."""
        what = f"{self.identity.get('compiler', '')}, {self.identity.get('glibc', '')}, {self.base_image}"
        if not self.built:
            return f"{self.tag} is up to date ({what})."
        return f"{self.tag} was made in {duration_text(self.seconds)} ({what})."


@dataclass(frozen=True)
class ReproductionReport:
    """Two images made from the same plan, one after the other without any cache, and what they differ in."""

    image: ImageResult
    second_layers: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether their layers have the same digests."""
        return self.image.layers == self.second_layers

    @property
    def exit_code(self) -> int:
        """3 where they differ."""
        return 0 if self.same else EXIT_ACTION_NEEDED

    def to_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            **self.image.to_json(),
            "reproduced": self.same,
            "second_layers": list(self.second_layers),
            "differences": [difference.to_json() for difference in self.differences],
        }

    def text(self) -> str:
        """For a person: the first differences, file by file."""
        if self.same:
            layers = ", ".join(self.image.layers)
            return f"{self.image.text()}\nMade twice without any cache, with identical layers ({layers})."
        rows = [(f"  /{difference.path}", difference.what) for difference in self.differences[:MOST_LINES]]
        more = len(self.differences) - len(rows)
        lines = [self.image.text(), f"Made twice, and {len(self.differences)} paths differ:", table(rows)]
        return "\n".join([*lines, *([f"  and {more} more (--json shows all)"] if more > 0 else [])])


def plan_image(settings: Settings, bazel: Path, *, bazel_sha256: str = "") -> ImagePlan:
    """What has to be done to have the toolchain image of these settings, with that Bazel in it. Changes nothing.

    With `bazel_sha256`, which the caller has verified, the program need not be there before build_image().

    Raises RequestError for a base image or Bazel that can't be used, MissingToolError where no engine answers.
    """
    context = read_context(settings, bazel, bazel_sha256)
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
        plan = _with_base(client, plan, settings, reporter)
        made = make_layer(client, plan.context, _fresh_log(plan), reporter, no_cache=no_cache)
        return _result(_named(client, plan, made), plan, built=True, seconds=time.monotonic() - started)


def reproduce_image(plan: ImagePlan, settings: Settings, reporter: Reporter) -> ReproductionReport:
    """Makes the image twice without any cache and compares; the first one is kept and named.

    Raises like build_image().
    """
    started = time.monotonic()
    with connected() as client:
        plan = _with_base(client, plan, settings, reporter)
        first = make_layer(client, plan.context, _fresh_log(plan), reporter, no_cache=True)
        image = _result(_named(client, plan, first), plan, built=True, seconds=time.monotonic() - started)
        reporter.note(f"{image.text()} Making it again, to compare.")
        second = make_layer(client, plan.context, _fresh_log(plan), reporter, no_cache=True)
        try:
            layers = _layers(client.images.get(second.image_id))
        finally:
            client.images.remove(second.image_id)
        return ReproductionReport(image, layers, differences(first.entries, second.entries))


def _with_base(client: DockerClient, plan: ImagePlan, settings: Settings, reporter: Reporter) -> ImagePlan:
    """The plan with the base image at hand; FetchError where nothing may be fetched that has to be."""
    if not plan.can_be_made or (settings.offline and not plan.base_id):
        missing = "a package archive" if plan.base_id else f"its base image {plan.base_image}"
        raise FetchError(
            f"Could not make the toolchain image without {missing}.",
            cause="it is not on this machine, and --offline forbids fetching it",
            cure="run ./inv build-image without --offline, or docker load the image from a machine that has it; "
            "or name a "
            "mirror of the packages on this machine: --apt-source 'http://localhost:PORT/debian SUITE COMPONENT'",
        )
    if plan.base_id:
        return plan
    pull_base(client, plan.base_image, reporter)
    return _plan(client, settings, plan.context)


def _fresh_log(plan: ImagePlan) -> Path:
    log_path = fsutil.make_directory(plan.logs) / "build-image.log"
    fsutil.remove(log_path)
    return log_path


def _named(client: DockerClient, plan: ImagePlan, made: Made) -> Image:
    with removed_on_failure(client, made.image_id):
        found = probe(client, made.image_id, plan.base_image, plan.context)
        return finish(client, made, plan.tag, plan.context.digest(plan.base_id), plan.context.flavour, found)


def _plan(client: DockerClient, settings: Settings, context: ImageContext) -> ImagePlan:
    base = base_here(client, settings.docker_base_image)
    digest = context.digest(str(base.id)) if base is not None else ""
    tag = f"{REPOSITORY}:{digest[:12]}" if digest else ""
    made = local_image(client, tag) if tag else None
    complete = made is not None and made.labels.get(INPUTS) == digest
    return ImagePlan(
        base_image=settings.docker_base_image,
        base_id=str(base.id) if base is not None else "",
        context=context,
        tag=tag,
        image_id=str(made.id) if made is not None and complete else "",
        can_be_made=not settings.offline or all_on_this_machine(settings.apt_sources),
        logs=settings.logs,
    )


def _result(image: Image, plan: ImagePlan, *, built: bool, seconds: float = 0.0) -> ImageResult:
    labels = image.labels
    identity = {key[len(IDENTITY) :]: value for key, value in labels.items() if key.startswith(IDENTITY)}
    packages = tuple(labels.get(PACKAGES, "").split())
    return ImageResult(plan.tag, str(image.id), plan.base_image, built, seconds, identity, _layers(image), packages)


def _layers(image: Image) -> tuple[str, ...]:
    return tuple(image.attrs["RootFS"].get("Layers") or ())
