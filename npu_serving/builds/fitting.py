"""Which releases of the adapter a server fits, by what it exports and what their adapters are known to need of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Callable

from npu_serving.builds.manifest import BuildManifest, ReleaseFit
from npu_serving.cann.known_adapters import OF_SAMPLE, KnownAdapter, is_release, readable_adapters
from npu_serving.elf.demangle import demangled
from npu_serving.elf.symbols import read_elf
from npu_serving.findings import WARNING, Finding, as_finding

UNREAD_LIST = "unread-list"
Needing = Callable[[str], Sequence[str]]
"""The releases whose adapters are known to need a symbol of the server."""


def named_adapters(manifest: BuildManifest) -> tuple[KnownAdapter, ...]:
    """The adapters that a build was to fit and that were named by their files, with what they needed then."""
    files = manifest.also_fits_files.items()
    return tuple(KnownAdapter(name, "", "", needs.symbols, needs.sha256) for name, needs in files)


def judged_adapters(manifest: BuildManifest, own: Path) -> tuple[KnownAdapter, ...]:
    """Those that a build is compared with: all that are known for its version, and the files that it was to fit.

    `own` is the directory of the user's; a damaged file in it is left out (unread_lists() says so).
    """
    return (*readable_adapters(_serving_of(manifest), own)[0], *named_adapters(manifest))


def unread_lists(manifest: BuildManifest, own: Path) -> tuple[Finding, ...]:
    """What is wrong with the user's lists, so that a build was not compared with all that is in them."""
    errors = readable_adapters(_serving_of(manifest), own)[1]
    return tuple(replace(as_finding(error, UNREAD_LIST, str(own)), severity=WARNING) for error in errors)


def _serving_of(manifest: BuildManifest) -> str:
    return OF_SAMPLE if manifest.source["name"] == OF_SAMPLE else manifest.serving_version


def fits_of(server: Path, needs: Mapping[str, Sequence[str]]) -> tuple[ReleaseFit, ...]:
    """How a server fits adapters, by what each needs of it.

    CANN's own part is not looked at: that is verify-serving's, with the CANN that is installed. Raises ElfError and
    FileAccessError where the server can't be read.
    """
    exported = read_elf(server).defined_names if needs else frozenset()
    return tuple(
        ReleaseFit(release, tuple(name for name in symbols if name not in exported))
        for release, symbols in needs.items()
    )


def needs_by_release(adapters: Iterable[KnownAdapter]) -> dict[str, Sequence[str]]:
    """What each needs of the server, by its release or its file."""
    return {item.release: item.symbols for item in adapters}


def needing(needs: Callable[[], Mapping[str, Sequence[str]]]) -> Needing:
    """Who needs a symbol, of those whose needs are asked for with the first symbol; files have no release to name."""

    @functools.cache
    def by_symbol() -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for release, symbols in needs().items():
            if is_release(release) and not release.endswith((".so", ".whl")):
                for name in symbols:
                    found.setdefault(name, []).append(release)
        return found

    return lambda symbol: by_symbol().get(symbol, ())


def needing_of(manifest: BuildManifest, own: Path) -> Needing:
    """The same, of all that are known for the version of a build; a damaged file of the user's hides no finding."""
    return needing(lambda: needs_by_release(judged_adapters(manifest, own)))


def fit_text(found: Sequence[ReleaseFit]) -> list[str]:
    """Lines for a person: the releases that it fits, then each that it does not, with the first symbol it lacks."""
    fitting = [item.release for item in found if item.fits]
    lines = [f"It has what the adapters of these releases need of it: {', '.join(fitting)}"] if fitting else []
    lacking = [item for item in found if item.lacks]
    return [
        *lines,
        *(f"For {adapter_text(item)} it lacks {lacked}" for item, lacked in zip(lacking, lacked_text(lacking))),
    ]


def adapter_text(item: ReleaseFit) -> str:
    """What its adapter is called."""
    return f"the adapter {item.release}" if "/" in item.release else f"the adapter of {item.release}"


def lacked_text(lacking: Sequence[ReleaseFit]) -> list[str]:
    """For each of them, how many symbols it lacks, and the first by its C++ name."""
    first = demangled(item.lacks[0] for item in lacking)
    counts = ["1 symbol" if len(item.lacks) == 1 else f"{len(item.lacks)} symbols" for item in lacking]
    return [f"{many}, such as {first[item.lacks[0]]}" for item, many in zip(lacking, counts)]
