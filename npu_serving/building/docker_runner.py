"""Bazel in a container of the toolchain image: no network, no capabilities, fixed paths, the caller's user id."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from npu_serving import fsutil
from npu_serving.building.bazel_program import BazelProgram, fetch_bazel, find_bazel_for_image
from npu_serving.building.runner import Layout, RunRequest
from npu_serving.console import Reporter
from npu_serving.doctor.places import build_places, check_places
from npu_serving.errors import MissingToolError
from npu_serving.fetch.mirrors import places_of
from npu_serving.images.container import (
    PLAIN_ENVIRONMENT,
    Bind,
    ContainerSpec,
    remove_left_over,
    run_container,
)
from npu_serving.images.docker_engine import connected
from npu_serving.images.guide_flavour import fetch_guide_inputs
from npu_serving.images.toolchain_image import (
    ImagePlan,
    ImageResult,
    ReproductionReport,
    build_image,
    plan_image,
    reproduce_image,
)
from npu_serving.process import Finished
from npu_serving.resources import available_resources
from npu_serving.settings import GUIDE_FLAVOUR, Settings

# The same in every build: Bazel names its output after the workspace's path, and paths get into what is built.
WORKSPACE = Path("/npu/src")
OUTPUT = Path("/npu/out")
DISTDIR = Path("/npu/distdir")
STORE = Path("/npu/store")
EXTRA = Path("/npu/extra")
WRITABLE = Path("/npu/writable")


class DockerRunner:
    """Runs Bazel in a container, one for each command."""

    name = "docker"
    where = "in a container"

    def __init__(self, settings: Settings, bazel: BazelProgram, reporter: Reporter) -> None:
        self._settings = settings
        self._bazel = bazel
        self._reporter = reporter
        self._image: ImageResult | None = None

    def plan(self) -> ImagePlan:
        """What has to be done to have the image; changes nothing. MissingToolError where no engine answers."""
        return plan_image(self._settings, self._bazel.path, bazel_sha256=self._bazel.sha256)

    def check(self, layout: Layout) -> None:
        """Refuses file systems from which nothing can be started; the paths inside are always the same."""
        check_places(build_places(self._settings, self.name, layout.workspace))

    def what_is_missing(self) -> str:
        """The toolchain image, and the bazel that goes into it, where they are missing."""
        return "; ".join(self.plan().steps)

    def prepare(self, reporter: Reporter) -> None:
        """Makes the toolchain image if it isn't there, and fetches the bazel for it."""
        plan = self.plan()
        if not plan.image_id:
            _fetch_inputs(self._settings, self._bazel, reporter)
        self._image = build_image(plan, self._settings, reporter)

    def identity(self) -> dict[str, str]:
        """Image, compiler, C library, Bazel and Python, as recorded in the finished image; needs the image."""
        image = self._ready_image()
        return {"runner": self.name, "image": image.image_id, "base_image": image.base_image, **image.identity}

    def toolchain_key(self) -> str:
        """The image's layers: its id would differ between two machines that made the same one."""
        return " ".join(self._ready_image().layers)

    def inside(self, layout: Layout) -> Layout:
        """The fixed places where the container sees the layout's directories."""
        return Layout(
            workspace=WORKSPACE,
            output_user_root=OUTPUT,
            distdir=DISTDIR,
            repository_cache=STORE,
            extra=tuple(EXTRA / str(number) for number in range(len(layout.extra))),
            writable=tuple(WRITABLE / str(number) for number in range(len(layout.writable))),
        )

    def bazel(self) -> str:
        """Bazel's path in the image."""
        return "/usr/local/bin/bazel"

    def python(self) -> str:
        """The image's python; the path that the tree's own .bazelrc names."""
        return "/usr/bin/python"

    def environment(self) -> dict[str, str]:
        """Fixed; nothing of the caller's."""
        return dict(PLAIN_ENVIRONMENT)

    def run(self, request: RunRequest) -> Finished:
        """Runs it in its directory, in a container that is gone when this returns or raises.

        That is the workspace where the request names none. Everything but the output is read-only. A container that a
        killed run left in the same output root is ended first. Where the kernel killed a program that ran out of
        memory, the last line of its output says so.
        """
        output_root = fsutil.make_directory(request.layout.output_user_root).resolve()
        resources = available_resources(self._settings.jobs, self._settings.memory_mb)
        spec = ContainerSpec(
            image=self._ready_image().image_id,
            argv=tuple(request.argv),
            role="build",
            environment=request.env,
            directory=str(request.directory or WORKSPACE),
            binds=self._binds(request.layout),
            user=(os.getuid(), os.getgid()),
            output_root=output_root,
            processors=resources.jobs,
            memory_mb=resources.memory_mb,
        )
        with connected() as client:
            if remove_left_over(client, output_root):
                self._reporter.note("removed a container that an earlier, killed run had left behind")
            return run_container(
                client, spec, log_path=request.log_path, on_line=request.on_line, on_tick=request.on_tick
            )

    def _binds(self, layout: Layout) -> tuple[Bind, ...]:
        inside = self.inside(layout)
        return tuple(
            Bind(source, PurePosixPath(target), read_only=read_only)
            for read_only, where in ((True, _read), (False, _written))
            for source, target in zip(where(layout), where(inside))
        )

    def _ready_image(self) -> ImageResult:
        if self._image is None:
            plan = self.plan()
            if not plan.image_id:
                raise MissingToolError(
                    "The toolchain image for this build is missing.",
                    cause=f"it was never made from {plan.base_image}, or one of its inputs has changed",
                    cure="make it with: ./inv build-image",
                )
            self._image = build_image(plan, self._settings, self._reporter)
        return self._image


def _read(layout: Layout) -> tuple[Path, ...]:
    return (layout.workspace, layout.distdir, layout.repository_cache, *layout.extra)


def _written(layout: Layout) -> tuple[Path, ...]:
    return (layout.output_user_root, *layout.writable)


def _fetch_inputs(settings: Settings, bazel: BazelProgram, reporter: Reporter) -> None:
    """Fetches what the image is made from, but its base and its packages."""
    if settings.docker_flavour == GUIDE_FLAVOUR:
        fetch_guide_inputs(settings, reporter)
    fetch_bazel(bazel, settings, reporter)


def make_image(
    settings: Settings, reporter: Reporter, *, no_cache: bool = False, reproduce: bool = False, dry_run: bool = False
) -> ImagePlan | ImageResult | ReproductionReport:
    """The task `build-image`: the plan, or the image itself, made if it is missing, or made twice."""
    places_of(settings.mirrors)  # a wrong one is refused, whether or not there is something to fetch
    bazel = find_bazel_for_image(settings, reporter)
    plan = DockerRunner(settings, bazel, reporter).plan()
    if dry_run:
        return plan
    if no_cache or reproduce or not plan.image_id:
        _fetch_inputs(settings, bazel, reporter)
    if reproduce:
        return reproduce_image(plan, settings, reporter)
    return build_image(plan, settings, reporter, no_cache=no_cache)
