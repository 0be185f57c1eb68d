"""The directories that may hold a CANN: what the environment names, what installers recorded, the usual ones."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving.cann.info_files import matching, parse_pairs, text_of
from npu_serving.cann.layout import is_directory, root_above, table
from npu_serving.facts import ADAPTER_SONAME

ADAPTER = Path("npu_bridge", ADAPTER_SONAME)


@dataclass(frozen=True)
class CannPlace:
    """A directory such as /usr/local/Ascend, and why it is looked at."""

    root: Path
    why: str
    named: Path | None = None
    """The directory of a component that is named, where one is."""


@dataclass(frozen=True)
class LooseAdapter:
    """An adapter outside of a CANN directory, and what led there; `is_named` where its own variable did."""

    path: Path
    why: str
    is_named: bool = False


def places(environ: Mapping[str, str]) -> list[CannPlace]:
    """Where the caller's own CANN may be, the most reliable place first.

    The environment (what a sourced set_env.sh leaves) comes first; then what the installers recorded; then the user's
    own ~/Ascend, which for root is /usr/local/Ascend; then the other of the two.
    """
    system = CannPlace(Path(table().system_root), "the default of root's installers")
    home = environ.get("HOME", "")
    own = [CannPlace(Path(home, table().home_root), "the default of your installers")] if home.startswith("/") else []
    usual = [system, *own] if os.geteuid() == 0 else [*own, system]
    return _first_of_each([*_named(environ), *_recorded(home), *usual])


def places_of_others(environ: Mapping[str, str]) -> list[CannPlace]:
    """~/Ascend of the other users, as far as it can be read: the guide's HwHiAiUser first, then by name."""
    usual = table().usual_user
    users = sorted(pwd.getpwall(), key=lambda user: (user.pw_name != usual, user.pw_name))
    found = [
        CannPlace(Path(user.pw_dir, table().home_root), f"the home of {user.pw_name}")
        for user in users
        if user.pw_dir.startswith("/") and user.pw_dir != environ.get("HOME")
    ]
    return _first_of_each([place for place in found if is_directory(place.root)])


def loose_adapters(environ: Mapping[str, str]) -> list[LooseAdapter]:
    """Adapters outside of a CANN directory, where npu_bridge was installed with pip: the place that was named for it
    first, then what Python would find.
    """
    found: dict[Path, LooseAdapter] = {}
    for entry, why in _adapter_places(environ):
        # PYTHONPATH names the directory above npu_bridge, LD_LIBRARY_PATH npu_bridge itself (guide 6.4, step 4).
        path = entry / ADAPTER.name if entry.name == ADAPTER.parent.name else entry / ADAPTER
        if os.path.lexists(path):
            found.setdefault(path, LooseAdapter(path, why, why == table().wheel_directory))
    return list(found.values())


def adapter_places(environ: Mapping[str, str]) -> list[str]:
    """The directories that variables name for the adapter, for a person."""
    named = (table().wheel_directory, *table().search_paths, *table().environments)
    return list(dict.fromkeys(f"{entry} ({why})" for entry, why in _adapter_places(environ) if why in named))


def _adapter_places(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """The directories that may hold npu_bridge/, and why."""
    for name in (table().wheel_directory, *table().search_paths):
        for entry in _entries(environ, name):
            yield entry, name
    prefixes = [(entry, name) for name in table().environments for entry in _entries(environ, name)]
    prefixes.append((Path("/usr/local"), "the packages of this machine's Python"))
    if environ.get("HOME"):
        prefixes.append((Path(environ["HOME"], ".local"), "your Python packages"))
    for prefix, why in prefixes:
        for pattern in table().site_packages:
            for path in matching(prefix, pattern):
                yield path, why


def stale_variables(environ: Mapping[str, str]) -> dict[str, Path]:
    """The variables that name a directory which doesn't exist, as in a shell that was opened before an upgrade."""
    named = {name: path for name in table().variables for path in _entries(environ, name)}
    return {name: path for name, path in named.items() if not is_directory(path)}


def _named(environ: Mapping[str, str]) -> Iterator[CannPlace]:
    for name in table().variables:
        for path in _entries(environ, name):
            yield CannPlace(root_above(path) or path, name, path)
    for name in table().search_paths:
        for path in _entries(environ, name):
            root = root_above(path.parent)  # a list names what is in a component, never the component itself
            if root is not None:
                yield CannPlace(root, name)


def _entries(environ: Mapping[str, str], name: str) -> list[Path]:
    entries = environ.get(name, "").split(":")
    return [Path(os.path.normpath(entry)) for entry in entries if entry.startswith("/") and "\0" not in entry]


def _recorded(home: str) -> Iterator[CannPlace]:
    records = [Path(name) for name in table().records]
    records += [Path(home, name) for name in table().records_at_home] if home.startswith("/") else []
    for record in records:
        try:
            pairs = parse_pairs(text_of(record))
        except OSError:
            continue
        for key, value in pairs.items():
            if "install_path" in key and value.startswith("/"):
                yield CannPlace(Path(os.path.normpath(value)), str(record))


def _first_of_each(found: list[CannPlace]) -> list[CannPlace]:
    roots: dict[Path, CannPlace] = {}
    for place in found:
        roots.setdefault(place.root, place)
    return list(roots.values())
