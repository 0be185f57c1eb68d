"""What a relink kit holds, unpacked and linked by hand: no code of the program in it takes part."""

from __future__ import annotations

import dataclasses
import os
import shutil
import zipfile
import zlib
from pathlib import Path

from npu_serving import process
from npu_serving.relink_kit.kit_file import LINKER, OUTPUT, read_kit
from npu_serving.settings import Settings


def unpacked(kit: Path, directory: Path) -> Path:
    file = read_kit(kit).file
    with zipfile.ZipFile(kit) as packed:
        for path, member in file.members.items():
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            (directory / path).write_bytes(zlib.decompress(packed.read(f"blobs/{member.sha256}")))
    return directory


def linked(kit: Path, settings: Settings, place: Path, program: str) -> Path:
    """The server that the linker makes of the kit, with the adapter that the sample's tree has."""
    file = read_kit(kit).file
    directory = unpacked(kit, place / "kit")
    overlay = settings.build_root / "src" / "sample" / "third_party" / "tf_adapter"
    (directory / "adapter").mkdir()
    for name in dataclasses.asdict(file.adapter_files).values():
        shutil.copy(overlay / Path(name).name, directory / name)
    server = place / "server"
    named = {LINKER: program, OUTPUT: str(server)}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    process.run([named.get(word, word) for word in file.command], cwd=directory, env=environment)
    return server
