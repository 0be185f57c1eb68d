"""render-watch-units: a systemd path unit that notices a new CANN, and the service that it starts."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.cann.install import find_installation, looked_at
from npu_serving.cann.layout import packages, table
from npu_serving.errors import RequestError
from npu_serving.settings import PROJECT_ROOT, SETTINGS_FILE, WITHOUT_ADAPTER, Settings
from npu_serving.templating import render

PATH_UNIT = "npu-serving-cann.path"
SERVICE = "npu-serving-cann.service"


VENV = "NPU_SERVING_VENV"  # names another place for ./inv's own Python packages


@dataclass(frozen=True)
class WatchUnits:
    """The two units, by name, and where they go; `changed` are those that are not there, or are different there."""

    directory: Path
    units: Mapping[str, str]
    changed: tuple[str, ...]
    written: bool

    def to_json(self) -> dict[str, object]:
        """Their texts and places."""
        return {
            "directory": str(self.directory),
            "units": dict(self.units),
            "changed": list(self.changed),
            "written": self.written,
        }

    def text(self) -> str:
        """The files, and how to activate them; in a dry run their texts."""
        if not self.written:
            return "\n".join(f"# {self.directory / name}\n{text}" for name, text in self.units.items())
        files = [f"{self.directory / name}{'' if name in self.changed else ' (unchanged)'}" for name in self.units]
        manager = "systemctl --user" if self.directory.parts[-2:] == ("systemd", "user") else "sudo systemctl"
        return "\n".join([*files, f"Next: {manager} daemon-reload && {manager} enable --now {PATH_UNIT}"])


def render_watch_units(
    settings: Settings, directory: Path, *, act: bool = False, user: str = "", dry_run: bool = False
) -> WatchUnits:
    """Writes both units into `directory`, for the CANN that is installed now or will be in the usual place.

    `user` is whom the service runs as; "" for systemd's own default: root, or the owner of the user manager. Raises
    RequestError for a user who doesn't exist, and for paths that no unit file can hold.
    """
    if user and not _exists(user):
        raise RequestError(
            f"The user {user!r} does not exist on this machine.", cure="use --user with the owner of dist/"
        )
    if settings.adapter == "sample":
        raise RequestError(
            "The sample's CANN can't be watched, because no installer upgrades it.",
            cure="set adapter to auto, or to a path",
        )
    values: dict[str, object] = {
        "watched": [str(path) for path in _watched(settings)],
        "project": str(PROJECT_ROOT),
        "inv": str(PROJECT_ROOT / "inv"),
        "environment": _environment(),
        "user": user,
        "act": act,
    }
    units = {name: render(f"templates/systemd/{name}.j2", **values) for name in (PATH_UNIT, SERVICE)}
    changed = tuple(name for name, text in units.items() if not _holds(directory / name, text))
    if not dry_run:
        fsutil.make_directory(directory)
        for name, text in units.items():
            fsutil.write_file(directory / name, text, mode=0o644)
    return WatchUnits(directory, units, changed, written=not dry_run)


def _environment() -> dict[str, str]:
    """The caller's variables by which ./inv finds its settings and packages, and CANN; all are paths."""
    names = (SETTINGS_FILE, VENV, *table().variables, *table().environments)
    return {name: os.path.abspath(os.environ[name]) for name in names if os.environ.get(name)}


def _watched(settings: Settings) -> list[Path]:
    """The directories in which `latest` moves, and the adapter, which may be overwritten in place.

    systemd watches the parents of what isn't there yet.
    """
    if settings.adapter not in ("auto", WITHOUT_ADAPTER):
        return [Path(settings.adapter)]
    try:
        installation = find_installation(settings.cann_root)
    except RequestError:  # cann_root is where it will be
        installation = None
    if installation is not None:
        roots = [installation.root]
    else:
        roots = [Path(name) for name in looked_at(settings.cann_root, os.environ)]
    families = [
        root / directory
        for root in roots
        for name, package in packages().items()
        if name != "driver"
        for directory in package.directories
    ]
    adapter = installation.adapter if installation is not None else None
    return [*roots, *families, *([adapter] if adapter is not None else [])]


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except (KeyError, ValueError):
        return False
    return True


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and fsutil.read_text(path) == text
