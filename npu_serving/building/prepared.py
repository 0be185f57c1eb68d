"""What `build-serving --adapter none` has made ready to be linked elsewhere: its manifest, found again later."""

from __future__ import annotations

import json
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.manifest import BuildManifest, read_manifest
from npu_serving.errors import NpuServingError
from npu_serving.settings import Settings

PREPARED = "prepared"
MOST_KEPT = 16


def keep_prepared(settings: Settings, manifest: BuildManifest) -> None:
    """Keeps what the objects were made from: a manifest without an adapter and without files, under their digest.

    One that is kept already is only made the newest. The oldest of many are removed.
    """
    text = json.dumps(manifest.to_json(), indent=2, sort_keys=True) + "\n"
    path = settings.build_root / PREPARED / f"{manifest.objects}.json"
    if not fsutil.write_file(path, text):
        path.touch()
    for old in _kept(settings)[MOST_KEPT:]:
        fsutil.remove(old)


def prepared_of(settings: Settings, objects: str = "") -> BuildManifest | None:
    """What was kept of those objects, of the newest without a digest; None where nothing is, or it can't be read."""
    paths = [settings.build_root / PREPARED / f"{objects}.json"] if objects else _kept(settings)[:1]
    for path in paths:
        try:
            manifest = read_manifest(path)
        except NpuServingError:
            return None
        return manifest if manifest.objects == path.stem else None
    return None


def _kept(settings: Settings) -> list[Path]:
    """The manifests that are kept, the newest first."""
    files = (settings.build_root / PREPARED).glob("*.json")
    return sorted(files, key=lambda path: path.stat().st_mtime_ns, reverse=True)
