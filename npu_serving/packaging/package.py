"""package: a finished build as a tar file, a Debian package, or an image to run."""

from __future__ import annotations

import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.builds.current import find_build, packages_directory
from npu_serving.builds.manifest import Build
from npu_serving.console import Reporter
from npu_serving.errors import RequestError
from npu_serving.packaging import debian_package
from npu_serving.packaging.contents import contents
from npu_serving.packaging.named_file import DEB, IMAGE, TAR, chosen_format, file_to_write
from npu_serving.packaging.tar_file import write_tarball
from npu_serving.settings import Settings
from npu_serving.writers.dockerfile import checked_image_name
from npu_serving.writers.shell import command_line

_WRITERS: dict[str, Callable[[Build, Path], None]] = {TAR: write_tarball, DEB: debian_package.write_deb}


@dataclass(frozen=True)
class PackagePlan:
    """What would be made."""

    format: str
    build_id: str
    target: str
    """A path, or the name of an image."""

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {"format": self.format, "build_id": self.build_id, "target": self.target}

    def text(self) -> str:
        """One line."""
        return f"Would make {self.target} from {self.build_id}."


@dataclass(frozen=True)
class PackageResult:
    """What was made: a file with its sha256, or an image with its id."""

    plan: PackagePlan
    digest: str
    size_bytes: int
    made: bool = True

    def to_json(self) -> dict[str, object]:
        """The plan, and the result."""
        return {**self.plan.to_json(), "digest": self.digest, "size_bytes": self.size_bytes, "made": self.made}

    def text(self) -> str:
        """Where it is, and what to do with it."""
        target = self.plan.target
        if not self.made:
            return f"{target} is up to date."
        next_steps = {
            TAR: command_line(["tar", "-xf", target, "-C", "/opt"]),
            DEB: command_line(["sudo", "apt-get", "install", target]),
            IMAGE: f"docker save {target}, or docker run as docs/image-to-run.md shows",
        }
        size_mb = self.size_bytes / 1e6
        return f"{target} ({size_mb:.1f} MB, {self.digest[:23]}…) made.\nNext: {next_steps[self.plan.format]}"


def plan_package(settings: Settings, *, kind: str = "", build: str = "", output: Path | None = None) -> PackagePlan:
    """What package() would make; changes nothing. RequestError for a format, a build or a base image that doesn't
    exist.

    `kind` is a format, or "" for what the name of the file means; `output` the file, or the directory for it.
    """
    kind = chosen_format(kind, output)
    found = find_build(settings.dist_root, build)
    if found.manifest.without_adapter:
        raise RequestError(
            f"{found.manifest.build_id} has no adapter, so it is not packaged.",
            cause="it was linked without one, to be tried on the CPU",
            cure="hand on the kit, which is linked where CANN is; or build here with --adapter auto",
        )
    if kind == IMAGE:
        checked_image_name(settings.docker_base_image)
    contents(found)
    return PackagePlan(kind, found.manifest.build_id, _target(found, settings, kind, output))


def package(
    settings: Settings, reporter: Reporter, *, kind: str = "", build: str = "", output: Path | None = None
) -> PackageResult:
    """Makes it; the same build gives the same bytes. The file appears in one step, the image's name in the last."""
    plan = plan_package(settings, kind=kind, build=build, output=output)
    found = find_build(settings.dist_root, build)
    if plan.format == IMAGE:
        from npu_serving.packaging.runtime_image import make_runtime_image

        image = make_runtime_image(found, settings, reporter)
        return PackageResult(plan, image.image_id, image.size_bytes, image.made)
    target = Path(plan.target)
    fsutil.make_directory(target.parent)
    with fsutil.explained(target), tempfile.TemporaryDirectory(prefix=".tmp.", dir=target.parent) as temporary:
        unfinished = Path(temporary) / target.name
        with reporter.progress(f"packing {target.name}"):
            _WRITERS[plan.format](found, unfinished)
        fsutil.link_or_copy(unfinished, target)
    return PackageResult(plan, f"sha256:{fsutil.sha256_of(target)}", target.stat().st_size)


def _target(build: Build, settings: Settings, kind: str, output: Path | None) -> str:
    if kind == IMAGE:
        return f"{debian_package.NAME}:{build.manifest.build_id}"
    name = (
        f"{build.manifest.build_id}-{platform.machine()}.tar.gz"
        if kind == TAR
        else f"{debian_package.NAME}_{debian_package.deb_version(build)}_{debian_package.deb_architecture(build)}.deb"
    )
    return str(file_to_write(output, packages_directory(settings.dist_root), name))
