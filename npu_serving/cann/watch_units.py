"""render-watch-units: a systemd path unit that notices a new CANN, and the service that it starts."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.build.made_with import with_sample
from npu_serving.cann.install import find_installation
from npu_serving.cann.layout import packages, table
from npu_serving.deploy.systemd_text import FILTERS
from npu_serving.errors import RequestError
from npu_serving.settings import PROJECT_ROOT, SETTINGS_FILE, Settings
from npu_serving.templating import render

PATH_UNIT = "npu-serving-cann.path"
SERVICE = "npu-serving-cann.service"


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
        """The files, and how systemd takes them up; in a dry run their texts."""
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
        raise RequestError(f"There is no user {user!r} here.", cure="give --user the owner of dist/")
    settings_file = os.environ.get(SETTINGS_FILE, "")
    values: dict[str, object] = {
        "watched": [str(path) for path in _watched(with_sample(settings))],
        "project": str(PROJECT_ROOT),
        "inv": str(PROJECT_ROOT / "inv"),
        "settings_file": os.path.abspath(settings_file) if settings_file else "",
        "user": user,
        "act": act,
    }
    units = {name: render(f"systemd/{name}.j2", FILTERS, **values) for name in (PATH_UNIT, SERVICE)}
    changed = tuple(name for name, text in units.items() if not _holds(directory / name, text))
    if not dry_run:
        fsutil.make_directory(directory)
        for name, text in units.items():
            fsutil.write_file(directory / name, text, mode=0o644)
    return WatchUnits(directory, units, changed, written=not dry_run)


def _watched(settings: Settings) -> list[Path]:
    """The directories in which `latest` moves, and the adapter, which may be overwritten in place.

    systemd watches the parents of what isn't there yet.
    """
    if settings.adapter != "auto":
        return [Path(settings.adapter)]
    root, adapter = Path(settings.cann_root or table()["system_root"]), None
    installation = find_installation(settings.cann_root) if not settings.cann_root or root.is_dir() else None
    if installation is not None:
        root, adapter = installation.root, installation.adapter
    families = [root / package.directories[0] for name, package in packages().items() if name != "driver"]
    return [root, *families, *([adapter] if adapter is not None else [])]


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except (KeyError, ValueError):
        return False
    return True


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and fsutil.read_text(path) == text
