"""What `build-serving --adapter none` has made ready to be linked elsewhere: its manifest, found again later."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.newest_files import newest_files, remove_oldest
from npu_serving.builds.manifest import BuildManifest, read_manifest
from npu_serving.errors import NpuServingError
from npu_serving.settings import Settings

PREPARED = "prepared"


def keep_prepared(settings: Settings, manifest: BuildManifest) -> None:
    """Keeps what the objects were made from: a manifest without an adapter and without files, under their digest.

    One that is kept already is only made the newest. The oldest of many are removed.
    """
    text = json.dumps(manifest.to_json(), indent=2, sort_keys=True) + "\n"
    path = prepared_file(settings, manifest.objects)
    if not fsutil.write_file(path, text):
        make_newest(settings, manifest.objects)
    remove_oldest(path.parent)


def prepared_file(settings: Settings, objects: str) -> Path:
    """Where what was made ready of those objects is kept."""
    return settings.build_root / PREPARED / f"{objects}.json"


def make_newest(settings: Settings, objects: str) -> None:
    """Has what is kept of those objects be what was made ready last; nothing where it was removed meanwhile."""
    with contextlib.suppress(OSError):
        os.utime(prepared_file(settings, objects))


def prepared_of(settings: Settings, objects: str = "") -> BuildManifest | None:
    """What was kept of those objects, of the newest without a digest; None where nothing is, or it can't be read."""
    paths = [prepared_file(settings, objects)] if objects else newest_files(settings.build_root / PREPARED)[:1]
    for path in paths:
        try:
            manifest = read_manifest(path)
        except NpuServingError:
            return None
        return manifest if manifest.objects == path.stem else None
    return None
