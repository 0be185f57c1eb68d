"""Which releases of the adapter a server fits, by what it exports and what their adapters are known to need of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving.builds.manifest import Build
from npu_serving.cann.known_adapters import OF_SAMPLE, known_adapters
from npu_serving.elf.demangle import demangled
from npu_serving.elf.symbols import read_elf

SAMPLE = "sample"


@dataclass(frozen=True)
class ReleaseFit:
    """A release of the adapter, and the symbols (mangled) that its adapter needs and the server does not export."""

    release: str
    lacks: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the server has all that its adapter needs of it."""
        return not self.lacks

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {"release": self.release, "fits": self.fits, "lacks": list(self.lacks)}


def releases_that_fit(build: Build, own: Path) -> tuple[ReleaseFit, ...]:
    """How the build's server fits each release that is known for its version; `own` is the directory of the user's.

    CANN's own part is not looked at: that is verify-serving's, with the CANN that is installed. Raises ElfError and
    FileAccessError where the server can't be read, RequestError for a damaged file of the user's.
    """
    manifest = build.manifest
    serving = OF_SAMPLE if manifest.source["name"] == SAMPLE else manifest.serving_version
    exported = read_elf(build.server).defined_names
    return tuple(
        ReleaseFit(item.release, tuple(name for name in item.symbols if name not in exported))
        for item in known_adapters(serving, own)
    )


def fit_text(found: tuple[ReleaseFit, ...]) -> list[str]:
    """Lines for a person: the releases that it fits, then each that it does not, with the first symbol it lacks."""
    fitting = [item.release for item in found if item.fits]
    lines = [f"It has what the adapters of these releases need of it: {', '.join(fitting)}"] if fitting else []
    first = demangled(item.lacks[0] for item in found if item.lacks)
    for item in found:
        if item.lacks:
            many = "1 symbol" if len(item.lacks) == 1 else f"{len(item.lacks)} symbols"
            lines.append(f"For the adapter of {item.release} it lacks {many}, such as {first[item.lacks[0]]}")
    return lines
