"""The settings that a finished build was made with, so that what is done later to it is done the same way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from npu_serving.builds.current import find_build
from npu_serving.builds.manifest import MANIFEST, Build, BuildManifest
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.linking.linkers import KINDS
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import RUNNERS, WITHOUT_ADAPTER, XLA, XLA_FULL, Settings


def xla_of(manifest: BuildManifest) -> str:
    """How much of XLA a build got: all of it, before there was a choice."""
    return manifest.xla if manifest.xla in XLA else XLA_FULL


def settings_to_serve(settings: Settings, build: str = "") -> Settings:
    """Those of the build that is to serve, the current one by default; the settings given where there is none.

    Nothing is said of a build that is not there: the tasks that start one do.
    """
    try:
        return settings_of(find_build(settings.dist_root, build), settings)
    except NpuServingError:
        return settings


def settings_of(build: Build, settings: Settings) -> Settings:
    """The settings that a build was made with: source, runner, base image, flags, the linker that was asked
    for; its CANN if it is the sample's.

    What it was made with comes from a file, so it is checked like anything else that is read.
    """
    return with_sample(settings_of_manifest(build.manifest, settings, build.directory / MANIFEST))


def settings_of_manifest(manifest: BuildManifest, settings: Settings, path: Path) -> Settings:
    """The same for the manifest in the file `path`, with the sample's CANN by its name."""
    runner = manifest.toolchain.get("runner", settings.runner)
    if runner not in RUNNERS:
        raise RequestError(
            f"{path} names an unknown runner {runner!r}.",
            cause="it was changed by hand, or written by another version of this project",
            cure="build again: ./inv build-serving",
        )
    adapter = settings.adapter
    if manifest.without_adapter:
        adapter = WITHOUT_ADAPTER
    elif settings.without_adapter:  # which is said of what is built, not of what is there
        adapter = Settings.adapter
    return replace(
        settings,
        adapter=adapter,
        source=manifest.source["name"],
        runner=runner,
        docker_base_image=manifest.toolchain.get("base_image", settings.docker_base_image),
        bazel_args=tuple(manifest.flags),
        also_fits=tuple(manifest.also_fits) or settings.also_fits,
        xla=xla_of(manifest),
        linker=manifest.linker_setting if manifest.linker_setting in KINDS else settings.linker,
    )
