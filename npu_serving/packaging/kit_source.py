"""What a relink kit is made of: a build's manifest, or that of what was built without an adapter, and its link."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving.building.context import BuildContext
from npu_serving.building.inputs import choose_runner, find_fits
from npu_serving.building.prepared import PREPARED, prepared_file, prepared_of
from npu_serving.building.saved_links import links_directory
from npu_serving.building.sources import resolve_source
from npu_serving.builds.build_settings import settings_of_manifest
from npu_serving.builds.current import CURRENT, find_build, link_target
from npu_serving.builds.fitting import named_adapters
from npu_serving.builds.manifest import MANIFEST, BuildManifest
from npu_serving.cann.install import cann_of
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.console import Reporter
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import RequestError
from npu_serving.linking.link_command import parameter_file
from npu_serving.linking.saved_link import SavedLink, read_saved_link
from npu_serving.packaging.bare_link import linker_words, needed_libraries, resolved
from npu_serving.packaging.kit_members import SYSTEM, KitLink, kit_link
from npu_serving.packaging.link_place import LinkPlace, link_place
from npu_serving.settings import WITHOUT_ADAPTER, Settings

_BUILD_AGAIN = "./inv build-serving links it again and keeps how, compiling only what is not there; then pack again"


@dataclass(frozen=True)
class KitSource:
    """The manifest, and the link that goes with it."""

    manifest: BuildManifest
    saved: SavedLink
    made_of: str
    """What the manifest is of, for a person."""
    settings: Settings
    """Those that it was made with, but for the adapter: a kit asks for none."""
    fits: tuple[KnownAdapter, ...] = ()
    """What a server that is linked from it is to fit besides its adapter."""


def kit_source(settings: Settings, build: str = "", objects: str = "") -> KitSource:
    """The build that is named, or what was made ready of those `objects` without an adapter; else the current build,
    and without one, or with `adapter: none`, what was made ready last without an adapter.

    RequestError where it is not known how it is linked.
    """
    ready = prepared_of(settings, objects) if not build else None
    if objects and ready is None:
        raise RequestError(
            f"What was made ready of the objects {objects[:12]} is not in {settings.build_root / PREPARED}.",
            cause="it was removed in the meantime",
            cure="run the same command again",
        )
    if ready is not None and (objects or settings.without_adapter or not link_target(settings.dist_root, CURRENT)):
        manifest, named = ready, f"the objects {ready.objects[:12]}, built without an adapter"
        path = prepared_file(settings, ready.objects)
    else:
        found = find_build(settings.dist_root, build)
        manifest, named, path = found.manifest, found.manifest.build_id, found.directory / MANIFEST
    saved = read_saved_link(links_directory(settings) / f"{manifest.objects}.json") if manifest.objects else None
    if saved is None:
        raise RequestError(
            f"How {named} was linked is not kept in {links_directory(settings)}, so that no kit can be made of it.",
            cause="it was built by an earlier version of this project, or build_root was cleaned or is another one",
            cure=_BUILD_AGAIN,
        )
    its_own = dataclasses.replace(settings_of_manifest(manifest, settings, path), adapter=WITHOUT_ADAPTER)
    fits = find_fits(its_own, resolve_source(its_own), named_adapters(manifest))
    return KitSource(manifest, saved, named, its_own, fits)


@contextlib.contextmanager
def link_of(source: KitSource, reporter: Reporter) -> Iterator[KitLink]:
    """The link as it is in a kit, whose files can be read until the block ends.

    RequestError where one of them is gone or changed since, BuildFailedError for what is not there any more.
    """
    context = BuildContext(
        settings=source.settings,
        source=resolve_source(source.settings),
        cann=cann_of(source.settings),
        libpython=Path(),
        runner=choose_runner(source.settings, reporter),
        archives=(),
    )
    with link_place(context, source.saved) as place:
        other = place.why_other
        if other:
            raise RequestError(
                f"No kit can be made of {source.made_of}: {other}.",
                cause="another build has written over it since, Bazel's output was removed, or a package was installed",
                cure=_BUILD_AGAIN,
            )
        yield _link(source.saved, place)


def _link(saved: SavedLink, place: LinkPlace) -> KitLink:
    words = linker_words(place.shown(), parameter_file(saved.command), saved.parameters)
    digests = {item.name: item.sha256 for item in saved.inputs}
    files = resolved(words, place.find)
    link = kit_link(files, replaced=saved.replaced, digests=digests, needed={})
    missing = _needed_by_system(link)
    return kit_link(files, replaced=saved.replaced, digests=digests, needed=_found(missing, words, place))


def _found(names: tuple[str, ...], words: tuple[str, ...], place: LinkPlace) -> Mapping[str, Path]:
    return needed_libraries(names, words, place.find) if names else {}


def _needed_by_system(link: KitLink) -> tuple[str, ...]:
    """The libraries that the toolchain's own need, and no word of the command names."""
    own = [member for member in link.members if member.path.startswith(f"{SYSTEM}/") and ".so" in member.path]
    needed = {name for member in own for name in read_elf(member.sources[0]).needed}
    return tuple(sorted(name for name in needed if f"{SYSTEM}/{name}" not in {member.path for member in own}))
