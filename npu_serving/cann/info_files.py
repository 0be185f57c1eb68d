"""The files in which CANN's installers record what they installed: ascend_*_install.info, version.info, version.cfg.

They are read as they come: a byte order mark, CRLF, a binary file or one without end give what can be made of them, and
never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.facts import DEBIAN_MACHINES

_LONGEST = 1 << 16  # bytes; the real ones have some hundred
_KEY = re.compile(r"[A-Za-z][\w.]{0,63}", re.ASCII)
_VALUE = re.compile(r"[ -~]{1,4096}")
_VERSION = re.compile(r"\d+(\.[A-Za-z0-9]+)+([.+-]\w+)*", re.ASCII)
_PART = re.compile(r"(\w+)_(?:running|installed)_version", re.ASCII)
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
_FAMILY = re.compile(r"V\d+R\d+C\d+", re.ASCII)
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "aarch64", DEBIAN_MACHINES["aarch64"]: "aarch64"}
"""How installers write a processor's name -> as `uname -m` does; older ones write an aarch64 as Debian does."""


@dataclass(frozen=True)
class PackageInfo:
    """What the files of one package say; "" and nothing where they don't.

    `release` is CANN's version, 6.3.RC2; `build` the package's own, 6.3.0.1.241, which is all that a driver has;
    `family` is the V100R001C11 of its inner version, and `fits` are the families that it declares to fit, as pairs of
    the first and the last; `parts` are the releases of a toolkit's parts; `unreadable` are files without read
    permission.
    """

    release: str = ""
    build: str = ""
    family: str = ""
    fits: tuple[tuple[str, str], ...] = ()
    architecture: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    unreadable: tuple[Path, ...] = ()

    def declares(self, family: str) -> bool:
        """Whether that family is among those that fit; V100R001C9 comes before V100R001C11."""
        return any(_numbers(first) <= _numbers(family) <= _numbers(last) for first, last in self.fits)


def read_info(directory: Path, package: str = "*") -> PackageInfo:
    """What the info files in `directory` say about that package (toolkit, tfplugin, …), the most detailed one first."""
    unreadable: list[Path] = []
    installed = [
        values
        for pattern in (f"ascend_{package}_install.info", f"*-linux/ascend_{package}_install.info")
        for values in _pairs_of(directory, pattern, unreadable)
    ]
    parts: dict[str, str] = {}
    for values in _pairs_of(directory, "version.cfg", unreadable):
        parts = _parts(values)
    own = list(_pairs_of(directory, "version.info", unreadable))
    # A toolkit's parts have a version.info each: read only where nothing else names the release.
    of_parts = [] if installed or parts or own else list(_pairs_of(directory, "*/version.info", unreadable))
    described = [*installed, *own, *of_parts]
    release = (
        _version(installed, "version") or next(iter(parts.values()), "") or _version([*own, *of_parts], "version_dir")
    )
    return PackageInfo(
        release=release,
        build=_version([*own, *of_parts], "version"),
        family=_family(_first(described, "innerversion")),
        fits=_ranges(_first(described, "compatible_version")),
        architecture=ARCHITECTURES.get(_first(described, "arch"), ""),
        parts=parts,
        unreadable=tuple(unreadable),
    )


def parse_pairs(text: str) -> dict[str, str]:
    """The lines KEY=VALUE of a file, keys in small letters; of two the first counts, and other lines don't."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        key, value = key.strip().lower(), value.strip().strip('"')
        if equals and _KEY.fullmatch(key) and _VALUE.fullmatch(value):
            pairs.setdefault(key, value)
    return pairs


def text_of(file: Path) -> str:
    """The beginning of a file, as text; "" for what is not a file. Raises OSError where it can't be read."""
    if not file.is_file():
        return ""
    with file.open("rb") as stream:
        return stream.read(_LONGEST).decode("utf-8-sig", "replace")


def matching(directory: Path, pattern: str) -> Iterator[Path]:
    """What matches in a directory, in order; nothing where it can't be entered or is a loop of links."""
    try:
        yield from sorted(directory.glob(pattern))
    except (OSError, RuntimeError):  # no permission; a loop of links, on Python 3.9
        return


def _pairs_of(directory: Path, pattern: str, unreadable: list[Path]) -> Iterator[dict[str, str]]:
    for file in matching(directory, pattern):
        try:
            pairs = parse_pairs(text_of(file))
        except PermissionError:
            unreadable.append(file)
        except OSError:
            continue
        else:
            if pairs:
                yield pairs


def _first(files: list[dict[str, str]], key: str) -> str:
    return next((pairs[key] for pairs in files if key in pairs), "")


def _version(files: list[dict[str, str]], key: str) -> str:
    return next((pairs[key] for pairs in files if _VERSION.fullmatch(pairs.get(key, ""))), "")


def _parts(pairs: Mapping[str, str]) -> dict[str, str]:
    """version.cfg: `runtime_running_version=[7.6.0.1.220:8.0.0]`; what runs counts before what is installed."""
    parts: dict[str, str] = {}
    for state in ("_running_", "_installed_"):
        for key, value in pairs.items():
            part, release = _PART.fullmatch(key), value.strip("[]").rpartition(":")[2]
            if part and state in key and _VERSION.fullmatch(release):
                parts.setdefault(part.group(1), release)
        if parts:
            break
    return parts


def _family(inner: str) -> str:
    found = _FAMILY.match(inner)
    return found.group() if found else ""


def _ranges(text: str) -> tuple[tuple[str, str], ...]:
    """`[V100R001C13,V100R001C19],[V100R001C30]`: what stands alone is a range of one."""
    ranges = []
    for inside in _BRACKETED.findall(text):
        ends = [_family(end.strip()) for end in inside.split(",")]
        if len(ends) in (1, 2) and all(ends):
            ranges.append((ends[0], ends[-1]))
    return tuple(ranges)


def _numbers(family: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", family)]
