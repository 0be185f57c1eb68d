"""What is said right after a build of adapters that its server does not fit, though it was to, or could."""

from __future__ import annotations

import dataclasses

from npu_serving.building.build_command import build_command
from npu_serving.building.context import BuildContext
from npu_serving.building.lacking_symbols import is_of_xla
from npu_serving.builds.fitting import adapter_text, lacked_text
from npu_serving.builds.manifest import BuildManifest, ReleaseFit
from npu_serving.cann.known_adapters import KNOWN, NONE
from npu_serving.settings import XLA_FULL, XLA_OF_ADAPTER


def fit_warnings(context: BuildContext, manifest: BuildManifest) -> list[str]:
    """What to tell a person: each adapter that the server was to fit and does not, and the known ones that it lacks
    something for and was not to fit; each with what to type.
    """
    lacking = [item for item in manifest.releases if item.lacks]
    found = []
    for item, lacked in zip(lacking, lacked_text(lacking)):
        if _was_asked(item, manifest):
            what = f"The server was to fit {adapter_text(item)} as well, and lacks {lacked}."
            found.append(f"{what} Next: {_cure(context, manifest, item)}")
    others = [item.release for item in lacking if not _was_asked(item, manifest)]
    if others:
        found.append(
            f"The server was not to fit the adapters of {', '.join(others)}, so that an upgrade to them needs a link. "
            f"To have it fit all that are known: {_built_for(context, KNOWN)}"
        )
    return found


def _was_asked(item: ReleaseFit, manifest: BuildManifest) -> bool:
    return item.release in manifest.also_fits or KNOWN in manifest.also_fits


def _cure(context: BuildContext, manifest: BuildManifest, item: ReleaseFit) -> str:
    """The link asked for each symbol of it, so that nothing which is linked has what it lacks."""
    settings = context.settings
    if settings.xla == XLA_OF_ADAPTER and all(is_of_xla(name, context.output_base) for name in item.lacks):
        return f"build it with all of XLA: {build_command(settings, xla=XLA_FULL)}"
    fitting = [each.release for each in manifest.releases if each.fits and _was_asked(each, manifest)]
    command = _built_for(context, *(fitting or [NONE]))
    return f"nothing that the server is linked from has that; to build for the others alone: {command}"


def _built_for(context: BuildContext, *words: str) -> str:
    settings = dataclasses.replace(context.settings, also_fits=words)
    return build_command(settings, xla=settings.xla)
