"""A relink kit of a small program, and adapters for it: what a kit's program does with a real one, in a moment."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from cann_trees import make_cann
from elf_samples import library

from npu_serving import process
from npu_serving.builds.manifest import BuildManifest
from npu_serving.console import Silent
from npu_serving.relink_kit.kit_file import (
    KIT_BLOBS,
    KIT_JSON,
    AdapterFiles,
    Kit,
    KitFile,
    KitMember,
    read_kit,
)
from npu_serving.relink_kit.program_files import program_files
from npu_serving.relink_kit.relink import KitRelinked, KitRequest, relink
from npu_serving.relink_kit.unpacking import unpacked_directory

LOADERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
ANSWER, OTHER, LACKING = "_ZN10tensorflow6answerEv", "_ZN10tensorflow5otherEv", "_ZN10tensorflow7lackingEv"
OBJECTS = "0b" * 32


def make_members(directory: Path) -> dict[str, Path]:
    """What the small server is linked from: it calls nothing of its archive, of which only adapters need anything."""
    directory.mkdir(parents=True, exist_ok=True)
    sources = {"main": "int main(void) { return 0; }", "needed": "", "other": ""}
    sources["needed"] = f"int {ANSWER}(void) {{ return 42; }}"
    sources["other"] = f"int {OTHER}(void) {{ return 43; }}"
    for name, text in sources.items():
        (directory / f"{name}.c").write_text(text)
        process.run(["gcc", "-c", "-fno-pie", "-o", f"{name}.o", f"{name}.c"], cwd=directory)
    process.run(["ar", "rcsD", "needed.a", "needed.o", "other.o"], cwd=directory)
    stub = library(directory, "libtensorflow_framework.so.1", "")
    system = {name: _of_system(name) for name in ("crt1.o", "crti.o", "crtn.o", "libc.so.6", "libc_nonshared.a")}
    found = {f"system/{name}": path for name, path in system.items() if path is not None}
    return {
        "objects/main.o": directory / "main.o",
        "objects/needed.a": directory / "needed.a",
        "lib/libtensorflow_framework.so.1": stub,
        **found,
    }


def _of_system(name: str) -> Path | None:
    printed = subprocess.run(["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout
    path = Path(printed.strip())
    return path if path.is_absolute() and path.is_file() else None


def described(members: Mapping[str, Path], **changes: object) -> KitFile:
    """The kit.json of these members."""
    system = [name for name in members if name.startswith("system/")]
    first = [name for name in ("system/crt1.o", "system/crti.o") if name in system]
    last = [name for name in ("system/libc.so.6", "system/libc_nonshared.a", "system/crtn.o") if name in system]
    files = AdapterFiles("adapter/lib_tf_adapter.so", "adapter/needed.lds", "adapter/exported.list")
    values: dict[str, object] = {
        "machine": platform.machine(),
        "objects": OBJECTS,
        "soname": "_tf_adapter.so",
        "built_with_linker": "gold",
        "command": (
            "{linker}",
            "-dynamic-linker",
            LOADERS[platform.machine()],
            "-o",
            "{output}",
            *first,
            "objects/main.o",
            "--no-as-needed",
            files.adapter,
            "lib/libtensorflow_framework.so.1",
            files.needed_symbols,
            f"--dynamic-list={files.exported_symbols}",
            "--allow-shlib-undefined",
            "--disable-new-dtags",
            "-rpath",
            "$ORIGIN/../lib",
            "objects/needed.a",
            *last,
        ),
        "adapter_files": files,
        "libraries": {"libtensorflow_framework.so.1": "lib/libtensorflow_framework.so.1"},
        "members": {
            name: KitMember(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
            for name, path in members.items()
        },
        "manifest": BuildManifest(
            build_id="",
            input_digest="",
            serving_version="1.2.3",
            source={"name": "small"},
            adapter={},
            lock_digest="",
            toolchain={"runner": "host"},
            flags=(),
            actions={},
            patches={},
            files={},
            objects=OBJECTS,
        ),
        "fits": {"6.3.RC2": (ANSWER,)},
    }
    return KitFile(**{**values, **changes})  # type: ignore[arg-type]


def write_small_kit(path: Path, members: Mapping[str, Path], *, program: bool = True, **changes: object) -> Path:
    """A kit of these members; without the `program` it is much smaller."""
    entries = dict(program_files()) if program else {}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()}
    file = described(members, **{"entries": hashes, **changes})
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(KIT_JSON, file.to_bytes())
        for name, data in entries.items():
            packed.writestr(name, data, zipfile.ZIP_DEFLATED)
        blobs = {hashlib.sha256(data).hexdigest(): data for data in (path.read_bytes() for path in members.values())}
        for digest, data in blobs.items():
            packed.writestr(f"{KIT_BLOBS}{digest}", zlib.compress(data, 1))
    return path


def spoil_unnoticed(kit: Kit, cache: Path) -> None:
    """Changes an unpacked member with no trace in the seal, as a disk does."""
    place = unpacked_directory(kit, cache)
    name = "objects/main.o"
    (place / "members" / name).write_bytes(bytes(kit.file.members[name].size_bytes))
    status = (place / "members" / name).stat()
    seal = json.loads((place / "sealed.json").read_text())
    seal[name] = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    (place / "sealed.json").write_text(json.dumps(seal))


def small_adapter(directory: Path, *needs: str) -> Path:
    """An adapter that calls these functions of the server."""
    calls = "".join(f"int {name}(void); int use{at}(void) {{ return {name}(); }}\n" for at, name in enumerate(needs))
    return library(directory, "_tf_adapter.so", calls)


def install_adapter(root: Path, adapter: Path, version: str = "6.3.RC2") -> Path:
    """A CANN below `root` with that adapter, as the latest; returns where a server is told to find it."""
    if not (root / "tfplugin" / version).exists():
        make_cann(root, version)
    place = root / "tfplugin" / version / "python/site-packages/npu_bridge/_tf_adapter.so"
    place.unlink()
    place.write_bytes(adapter.read_bytes())
    return root


def relinked(
    kit: Path, root: Path, cann: Path, *, linker: str = "auto", cache: str = "cache", full_check: bool = False
) -> KitRelinked:
    """Relinks, without asking the server anything."""
    request = KitRequest(root / "dist", root / cache, cann_root=str(cann), linker=linker, full_check=full_check)
    return relink(read_kit(kit), request, Silent(), lambda _build, _cann: None)
