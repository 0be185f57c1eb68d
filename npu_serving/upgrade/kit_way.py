"""The way `kit`: where what a build was linked from is gone, the relink kit that was packed of that build has it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving.builds.current import kit_files
from npu_serving.builds.manifest import Build, BuildManifest
from npu_serving.cann.install import Cann
from npu_serving.cann.known_adapters import KNOWN
from npu_serving.errors import (
    FileAccessError,
    KitError,
    MissingToolError,
    NpuServingError,
    ProgramError,
    RequestError,
    VerificationError,
)
from npu_serving.relink_kit.kit_file import Kit, read_kit
from npu_serving.relink_kit.relink import KitPlanned, KitRequest, plan_relink
from npu_serving.settings import Settings

KITS = "kits"
"""The directory below the build root that kits are unpacked into."""
OF_THE_KIT = (KitError, MissingToolError, ProgramError, VerificationError)
"""What is wrong with a kit, its linker or what it makes: another way may do it."""
_LETTERS_OF_DIGEST = 12  # of the objects, in the name of a kit's file


@dataclass(frozen=True)
class UsableKit:
    """How a build would be linked from its relink kit, or why not; both empty where there is no kit of it."""

    planned: KitPlanned | None = None
    trouble: NpuServingError | None = None


def usable_kit(build: Build, cann: Cann, settings: Settings) -> UsableKit:
    """The newest relink kit of that build in dist/packages that can be linked here; changes nothing.

    A kit is one of the build where both have the same objects, and a server of either is to fit the same: then they
    differ in the adapter alone.
    """
    trouble: NpuServingError | None = None
    request = _request(cann, settings)
    for path in kit_files(settings.dist_root) if build.manifest.objects else []:
        of_this_build = build.manifest.objects[:_LETTERS_OF_DIGEST] in path.name
        try:
            kit = read_kit(path)
            if kit.file.objects != build.manifest.objects:
                continue
            of_this_build = True
            _check_fits(kit, build.manifest)
            planned = plan_relink(kit, request)
            return UsableKit(replace(planned, request=replace(request, install_link=settings.install_link)))
        except (*OF_THE_KIT, RequestError, FileAccessError) as error:
            if trouble is None and (of_this_build or not isinstance(error, KitError)):
                trouble = of_kit(error, path)
    return UsableKit(None, trouble)


def of_kit(error: NpuServingError, path: Path) -> NpuServingError:
    """The error, which says first that it is about that kit."""
    what = error.what
    for name in (f"{path} can't be used: ", str(path)):
        if what.startswith(name):
            what = ("it" if name == str(path) else "") + what[len(name) :]
    error.what = f"The relink kit {path} can't be used: {what}"
    return error


def cure_of_kit(trouble: NpuServingError | None) -> str:
    """What makes a kit usable that is not; "" where that is not known, since other cures name flags of its program."""
    return trouble.cure if isinstance(trouble, KitError) else ""


@contextlib.contextmanager
def after(trouble: NpuServingError | None) -> Iterator[None]:
    """Has an error of the way that is taken in a kit's place say what was wrong with the kit, and what cures that."""
    try:
        yield
    except NpuServingError as error:
        if trouble is not None:
            error.what = f"{trouble.what}\n{error.what}"
            error.cure = "; or ".join(cure for cure in (cure_of_kit(trouble), error.cure) if cure)
        raise


def _check_fits(kit: Kit, manifest: BuildManifest) -> None:
    """KitError where a server of the kit would not be to fit what the build is: an upgrade loses nothing unsaid.

    What has become known since is in neither of the two.
    """
    asked = set(manifest.also_fits)
    wanted = [item.release for item in manifest.releases if KNOWN in asked or item.release in asked]
    lost = [release for release in wanted if "/" not in release and release not in kit.file.fits]
    for name, needs in manifest.also_fits_files.items():
        if not set(needs.symbols) <= set(kit.file.fits.get(Path(name).name, ())):
            lost.append(name)
    if lost or asked != set(kit.file.manifest.also_fits):
        of_them = f", without {', '.join(lost)}" if lost else ""
        raise KitError(
            f"it was packed to fit other releases than the build{of_them}.",
            cause="another kit of the same objects was packed since",
            cure="put the kit of this build into its place, or pack it again where its objects are: "
            "./inv package --format kit",
        )


def _request(cann: Cann, settings: Settings) -> KitRequest:
    """Without the link that leads to the current server: a run refuses one that can not be made, a plan does not."""
    return KitRequest(
        settings.dist_root,
        settings.build_root / KITS,
        cann.setting,
        cann.cann_root,
        linker=settings.linker,
        found=cann,
        more_space="set build_root in invoke.yaml to a directory with more space",
    )
