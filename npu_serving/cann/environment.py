"""The environment that CANN's set_env.sh would set for a server, and what becomes of the caller's own values."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.cann.install import CannInstallation
from npu_serving.cann.layout import Component, is_directory, root_above
from npu_serving.documents import read_document

TABLE = Path(__file__).with_name("environment.yaml")


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
    warnings: tuple[str, ...] = ()
    runtime: Component | None = None

    def added_to(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment with it, but for LD_LIBRARY_PATH."""
        whole = {name: value for name, value in env.items() if name not in self.left_out}
        whole.update(self.variables)
        for name, first in self.lists.items():
            own = [str(path) for path in first]
            others = [entry for entry in env.get(name, "").split(":") if entry and entry not in own]
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
    return CannEnvironment(
        installation.library_directories,
        variables,
        tuple(left_out),
        _lists(installation, runtime),
        tuple(warnings),
        runtime,
    )


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
