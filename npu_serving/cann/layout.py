"""How CANN's packages lie on disk: directories, `latest` links, version files, what their set_env.sh scripts name.

The names are those of the CANN 5 to 8 installers (toolkit, nnae, tfplugin, driver) and of their set_env.sh.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ADAPTER = Path("npu_bridge", "_tf_adapter.so")
FAMILIES = {"toolkit": ("ascend-toolkit", "cann"), "nnae": ("nnae",), "tfplugin": ("tfplugin",), "driver": ("driver",)}
"""Component -> the directories below the root that may hold it."""
ADAPTER_DIRECTORIES = ("python/site-packages", "tfplugin/python/site-packages", "")
"""Where npu_bridge is in a tfplugin: CANN 5.1 and later, before that, and `pip install -t`."""
RUNTIME_LIBRARIES = (
    "tools/aml/lib64",
    "tools/aml/lib64/plugin",
    "lib64",
    "lib64/plugin/opskernel",
    "lib64/plugin/nnengine",
    "opp/built-in/op_impl/ai_core/tbe/op_tiling/lib/linux/{machine}",
    "{machine}-linux/lib64",
    "fwkacllib/lib64",
)
"""What set_env.sh of toolkit and nnae puts into LD_LIBRARY_PATH, in its order; the last two are for older layouts."""
DRIVER_LIBRARIES = ("lib64", "lib64/common", "lib64/driver")

_LONGEST_INFO_FILE = 1 << 16
_VERSION = re.compile(r"(cann-)?\d+\.\d+[\w.]*")
_PATH_PARTS = {"latest", "python", "site-packages", *(name for names in FAMILIES.values() for name in names)}


@dataclass(frozen=True)
class Component:
    """An installed package: its directory (through `latest` where that is good) and version, "" if it tells none."""

    name: str
    path: Path
    version: str

    def to_json(self) -> dict[str, str]:
        """The component as `--json` shows it."""
        return {"name": self.name, "path": str(self.path), "version": self.version}


@dataclass(frozen=True)
class Found:
    """What one look at a place gave."""

    components: dict[str, Component]
    problems: tuple[str, ...]


def examine(root: Path) -> Found:
    """The components that are installed below `root`, and what is wrong with its links."""
    components: dict[str, Component] = {}
    problems: list[str] = []
    for name, families in FAMILIES.items():
        for family in families:
            path = _newest(root / family, problems)
            if path is not None and name not in components:
                components[name] = Component(name, path, version_of(path))
    return Found(components, tuple(problems))


def root_of(path: Path) -> Path:
    """The directory above the component that `path` leads into: /usr/local/Ascend for …/Ascend/nnae/latest."""
    while path.name in _PATH_PARTS or (_VERSION.fullmatch(path.name) and path.parent.name in _PATH_PARTS):
        path = path.parent
    return path


def adapter_in(plugin: Path) -> Path | None:
    """The adapter of the tfplugin at `plugin`."""
    for directory in ADAPTER_DIRECTORIES:
        candidate = plugin / directory / ADAPTER
        if os.path.lexists(candidate):
            return candidate
    return None


def is_directory(path: Path) -> bool:
    """Whether `path` leads to a directory that can be seen; False for loops of links and closed doors."""
    try:
        return path.is_dir()
    except OSError:
        return False


def version_of(directory: Path) -> str:
    """The version that a component's files tell, or its directory's name; "" where neither does."""
    for pattern, expression in (
        ("ascend_*_install.info", r"^version=(\S+)"),
        ("*-linux/ascend_*_install.info", r"^version=(\S+)"),
        ("version.cfg", r"_(?:running|installed)_version=\[[^\]:]*:([^\]\s]+)\]"),
        ("version.info", r"^version_dir=(\S+)"),
        ("*/version.info", r"^version_dir=(\S+)"),
        ("version.info", r"^[Vv]ersion=(\S+)"),
    ):
        for file in _matching(directory, pattern):
            found = re.search(expression, _head_of(file), re.MULTILINE)
            if found:
                return found.group(1)
    real = Path(os.path.realpath(directory))
    is_release = bool(_VERSION.fullmatch(real.name)) and (real.parent.name in _PATH_PARTS or "cann-" in real.name)
    return real.name.removeprefix("cann-") if is_release else ""


def version_around(file: Path) -> str:
    """The version that the directories around a file tell, the nearest first; "" where none does."""
    for directory in list(Path(os.path.realpath(file)).parents)[:6]:
        version = version_of(directory)
        if version:
            return version
    return ""


def _newest(family: Path, problems: list[str]) -> Path | None:
    """The directory of the release in use: that which `latest` points to, else the one with the highest number."""
    trouble = _trouble_with(family)
    if trouble:
        problems.append(trouble)
        return None
    if not is_directory(family):
        return None
    latest = family / "latest"
    trouble = _trouble_with(latest)
    if not trouble and is_directory(latest):
        return latest
    releases = sorted(
        (path for path in _matching(family, "*") if _VERSION.fullmatch(path.name) and is_directory(path)),
        key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)],
    )
    if releases and not trouble:
        trouble = f"{latest} is missing, so {family.parent}'s set_env.sh scripts lead nowhere."
    if trouble:
        problems.append(trouble + (f" The newest release there is {releases[-1].name}." if releases else ""))
    if releases:
        return releases[-1]
    is_flat = any(is_directory(family / name) for name in ("python", "lib64", "fwkacllib"))
    return family if is_flat else None


def _trouble_with(link: Path) -> str:
    """What is wrong with a link that leads nowhere; "" for anything else."""
    try:
        link.stat()
    except FileNotFoundError:
        return f"{link} points to {os.readlink(link)}, which does not exist." if link.is_symlink() else ""
    except OSError as error:
        if error.errno == errno.ELOOP:
            return f"{link} is a link that leads back to itself."
        return f"{link} can't be looked at: {error.strerror}."
    return ""


def _matching(directory: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(directory.glob(pattern))
    except (OSError, RuntimeError):  # no permission; a loop of links, on Python 3.9
        return


def _head_of(file: Path) -> str:
    try:
        if not file.is_file():
            return ""
        with file.open("rb") as stream:
            return stream.read(_LONGEST_INFO_FILE).decode("utf-8", "replace")
    except OSError:
        return ""
