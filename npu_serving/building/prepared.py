"""What `build-serving --adapter none` has made ready to be linked elsewhere: its manifest, found again later."""

from __future__ import annotations

import json

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
    path = settings.build_root / PREPARED / f"{manifest.objects}.json"
    if not fsutil.write_file(path, text):
        path.touch()
    remove_oldest(path.parent)


def prepared_of(settings: Settings, objects: str = "") -> BuildManifest | None:
    """What was kept of those objects, of the newest without a digest; None where nothing is, or it can't be read."""
    paths = (
        [settings.build_root / PREPARED / f"{objects}.json"]
        if objects
        else newest_files(settings.build_root / PREPARED)[:1]
    )
    for path in paths:
        try:
            manifest = read_manifest(path)
        except NpuServingError:
            return None
        return manifest if manifest.objects == path.stem else None
    return None
