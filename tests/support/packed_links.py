"""Relink kits of a few bytes, whose shape is right and which link nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from npu_serving.builds.manifest import BuildManifest
from npu_serving.console import Silent
from npu_serving.packaging.kit_members import PackedMember
from npu_serving.packaging.kit_writer import write_kit
from npu_serving.relink_kit.kit_file import LINKER, OUTPUT, AdapterFiles, KitFile, KitMember

MANIFEST = BuildManifest(
    build_id="",
    input_digest="",
    serving_version="1.15.0",
    source={"name": "sample"},
    adapter={},
    lock_digest="0" * 64,
    toolchain={},
    flags=(),
    actions={},
    patches={},
    files={},
    objects="1" * 64,
)


def described(held: Mapping[str, KitMember], machine: str = "x86_64") -> bytes:
    return KitFile(
        machine=machine,
        objects="1" * 64,
        soname="_tf_adapter.so",
        built_with_linker="gold",
        command=(LINKER, "-o", OUTPUT),
        adapter_files=AdapterFiles("adapter/a.so", "adapter/a.lds", "adapter/a.list"),
        libraries={},
        members=held,
        manifest=MANIFEST,
    ).to_bytes()


def small_kit(path: Path, machine: str, *members: PackedMember) -> Path:
    write_kit(path, members, {}, lambda held: described(held, machine), Silent())
    return path
