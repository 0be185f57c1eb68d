"""The settings that a build was made with, and what `sample` means in settings. Light to import: rollback needs it."""

from __future__ import annotations

from npu_serving.state_lock import state_lock
from dataclasses import replace

from npu_serving import fsutil
from npu_serving.dist.artifact import Build
from npu_serving.errors import RequestError
from npu_serving.settings import RUNNERS, Settings

LIBPYTHON = "libpython3.7m.so.1.0"


def with_sample(settings: Settings) -> Settings:
    """The settings with `sample` replaced by the paths of its CANN and libpython, which are made if missing."""
    if not _takes_sample(settings):
        return settings
    from npu_serving.sample.cann import build_sample_libpython, install_sample_cann

    root = settings.build_root / "sample"
    if sample_is_missing(settings):
        fsutil.make_directory(root)
        with state_lock(root, doing="making the sample"):
            build_sample_libpython(root)
            install_sample_cann(root)
    return replace(settings, adapter="auto", cann_root=str(root / "Ascend"), python_prefix=root / "python3.7.5")


def sample_is_missing(settings: Settings) -> bool:
    """Whether the settings mean the sample's adapter, and it isn't made yet."""
    root = settings.build_root / "sample"
    made = (root / "python3.7.5" / "lib" / LIBPYTHON).is_file() and (root / "Ascend" / "tfplugin" / "latest").exists()
    return _takes_sample(settings) and not made


def _takes_sample(settings: Settings) -> bool:
    if settings.adapter == "auto" and settings.source == "sample":
        return not settings.cann_root
    return settings.adapter == "sample"


def settings_of(build: Build, settings: Settings) -> Settings:
    """The settings that a build was made with: source, runner, base image, flags; its CANN if it is the sample's.

    What it was made with comes from a file, so it is checked like anything else that is read.
    """
    manifest = build.manifest
    runner = manifest.toolchain.get("runner", settings.runner)
    if runner not in RUNNERS:
        raise RequestError(f"{build.directory}/manifest.json names a runner {runner!r}.", cure="./inv build-serving")
    return with_sample(
        replace(
            settings,
            source=manifest.source["name"],
            runner=runner,
            docker_base_image=manifest.toolchain.get("base_image", settings.docker_base_image),
            bazel_args=tuple(manifest.flags),
        )
    )
