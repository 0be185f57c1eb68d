"""The environment that CANN's set_env.sh would set for a server, and what becomes of the caller's own values."""

from __future__ import annotations

import functools
import os
import re
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.cann.install import CannInstallation
from npu_serving.cann.layout import Component, is_directory, packages, root_above
from npu_serving.documents import read_document
from npu_serving.facts import LIBPYTHON

TABLE = Path(__file__).with_name("environment.yaml")
_MODULES = "PYTHONPATH"
_PACKAGES = re.compile(r"/python(\d\.\d{1,2})/(?:site|dist)-packages(?:/|$)")
_VERSION_OF_LIBPYTHON = LIBPYTHON.removeprefix("libpython").partition("m.so")[0]


@dataclass(frozen=True)
class CannEnvironmentTable:
    """environment.yaml, whose comments say what each key means."""

    variables: Mapping[str, Mapping[str, str]]
    lists: Mapping[str, Mapping[str, tuple[str, ...]]]
    adapter_lists: tuple[str, ...]


@dataclass(frozen=True)
class CannEnvironment:
    """What a server gets of CANN: the directories of its libraries, variables to set and to leave out, and directories
    that come first in a list such as PYTHONPATH. `warnings` name each value of the caller's that is replaced, and why;
    `runtime` is the toolkit or nnae that it is of.
    """

    library_path: tuple[Path, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    lists: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    unfit: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Directories of the caller's that are left out of such a list."""
    warnings: tuple[str, ...] = ()
    runtime: Component | None = None

    def added_to(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment with it, but for LD_LIBRARY_PATH."""
        whole = {name: value for name, value in env.items() if name not in self.left_out}
        whole.update(self.variables)
        for name, first in self.lists.items():
            own = [str(path) for path in first]
            without = {"", *own, *self.unfit.get(name, ())}
            others = [entry for entry in env.get(name, "").split(":") if entry not in without]
            whole[name] = ":".join([*own, *others])
        return whole


@functools.cache
def environment_table() -> CannEnvironmentTable:
    """environment.yaml."""
    return read_document(TABLE, CannEnvironmentTable)


def cann_environment(installation: CannInstallation | None, caller: Mapping[str, str]) -> CannEnvironment:
    """What the set_env.sh scripts of that installation would set; nothing where there is none.

    A value of the caller's stays unless it is stale: a directory that is gone, or one of another installation or
    release. The libraries are then of one release and the operators of another, or of none.
    """
    runtime = installation.runtime if installation is not None else None
    if installation is None or runtime is None:
        return CannEnvironment(installation.library_directories if installation is not None else ())
    table = environment_table()
    offered = {name: runtime.path / place for name, place in table.variables[runtime.name].items()}
    known = {name for names in table.variables.values() for name in names}
    variables: dict[str, str] = {}
    left_out, warnings = [], []
    for name in sorted(known):
        own = offered[name] if name in offered and is_directory(offered[name]) else None
        theirs = caller.get(name, "")
        why = _why_stale(theirs, own, runtime) if theirs else ""
        if theirs and not why:
            continue
        if own is not None:
            variables[name] = str(own)
        elif theirs:
            left_out.append(name)
        if why:
            instead = f"{own} is used in its place" if own is not None else "it is left out"
            warnings.append(f"{name} is {theirs!r}, {why}: {instead}")
    lists = _lists(installation, runtime)
    modules = [entry for entry in caller.get(_MODULES, "").split(":") if entry]
    unfit = {entry: why for entry in modules if (why := _why_no_modules(entry, runtime))}
    warnings += [f"{_MODULES} names {entry!r}, {why}: it is left out" for entry, why in unfit.items()]
    warnings += _of_other_pythons([entry for entry in modules if entry not in unfit], caller)
    return CannEnvironment(
        installation.library_directories,
        variables,
        tuple(left_out),
        lists,
        {_MODULES: tuple(unfit)} if unfit else {},
        tuple(warnings),
        runtime,
    )


def _why_no_modules(entry: str, runtime: Component) -> str:
    """Why Python finds nothing of use in a directory of PYTHONPATH: it is gone, or of another CANN; "" where it may."""
    path = Path(entry)
    if not path.is_absolute():
        return "which is not an absolute path"
    if "\0" in entry or not (is_directory(path) or zipfile.is_zipfile(path)):
        return "which is not a directory"
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(runtime.path))
    if home in (real, *real.parents):
        return ""
    families = {name for package in packages().values() if package.serves for name in package.directories}
    for place in (path, real):
        root = root_above(place)
        family = place.relative_to(root).parts[0] if root is not None else ""
        if family.partition("-")[0] in families or family in families:
            return f"which belongs to a different CANN from {runtime.path}"
    return ""


def _of_other_pythons(entries: list[str], caller: Mapping[str, str]) -> list[str]:
    """A warning for directories of packages that neither the adapter's Python nor the caller's python3 is for.

    CANN compiles operators with both. Packages with compiled parts, NumPy above all, load in one version only.
    """
    known = {_VERSION_OF_LIBPYTHON, _version_of_python3(caller.get("PATH", ""))}
    return [
        f"{_MODULES} names {entry!r}, packages of Python {found[1]}, and CANN compiles operators with Python "
        f"{' and '.join(sorted(version for version in known if version))}: NumPy and others of there would not load; "
        f"take it out where that is not meant"
        for entry in entries
        if (found := _PACKAGES.search(entry)) is not None and found[1] not in known
    ]


def _version_of_python3(path: str) -> str:
    """3.11 for a python3 that is a link to python3.11; "" where its name does not say."""
    program = shutil.which("python3", path=path) if path else None
    found = re.fullmatch(r"python(\d\.\d{1,2})", Path(os.path.realpath(program)).name) if program else None
    return found[1] if found is not None else ""


def _why_stale(value: str, own: Path | None, runtime: Component) -> str:
    """Why a directory that the caller names is not taken; "" where it is."""
    path = Path(value)
    if not path.is_absolute() or "\0" in value or not is_directory(path):
        return "which is not a directory"
    real, home = Path(os.path.realpath(path)), Path(os.path.realpath(runtime.path))
    if real == (Path(os.path.realpath(own)) if own is not None else None) or real == home or home in real.parents:
        return ""
    if root_above(path) is None and root_above(real) is None:
        return ""  # not laid out as an installer does it: somebody means it
    return f"which belongs to a different CANN from {runtime.path}"


def _lists(installation: CannInstallation, runtime: Component) -> dict[str, tuple[Path, ...]]:
    table = environment_table()
    lists = {
        name: [runtime.path / place for place in places if is_directory(runtime.path / place)]
        for name, places in table.lists[runtime.name].items()
    }
    if installation.adapter is not None:
        for name in table.adapter_lists:
            lists.setdefault(name, []).insert(0, installation.adapter.parent.parent)
    return {name: tuple(paths) for name, paths in lists.items() if paths}
