"""kit.json, read and refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from npu_serving.builds.manifest import BuildManifest
from npu_serving.errors import KitError, NoSuchFileError
from npu_serving.relink_kit.kit_file import (
    KIT_JSON,
    AdapterFiles,
    KitFile,
    KitMember,
    checksum_file,
    read_kit,
    write_checksum,
)

KIT = KitFile(
    machine="x86_64",
    objects="0" * 64,
    soname="_tf_adapter.so",
    built_with_linker="gold",
    command=("{linker}", "-o", "{output}", "main.o"),
    adapter_files=AdapterFiles("adapter/lib_tf_adapter.so", "adapter/needed.lds", "adapter/exported.list"),
    libraries={"libpython3.7m.so.1.0": "lib/libpython3.7m.so"},
    members={"main.o": KitMember("1" * 64, 3), "lib/libpython3.7m.so": KitMember("2" * 64, 4)},
    manifest=BuildManifest(
        build_id="",
        input_digest="",
        serving_version="1.2.3",
        source={"name": "sample"},
        adapter={},
        lock_digest="",
        toolchain={},
        flags=(),
        actions={},
        patches={},
        files={},
    ),
    fits={"6.3": ("one", "two")},
    entries={"__main__.py": "3" * 64},
)


def _written(path: Path, document: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(KIT_JSON, document)
    return path


def test_a_kit_is_read_as_it_was_written(tmp_path: Path) -> None:
    kit = read_kit(_written(tmp_path / "a.pyz", KIT.to_bytes()))
    assert kit.file == KIT
    assert kit.file.size_bytes == 7


def test_a_kit_cut_short_anywhere_is_refused_with_the_file_named(tmp_path: Path) -> None:
    whole = _written(tmp_path / "a.pyz", KIT.to_bytes()).read_bytes()
    cut = tmp_path / "cut.pyz"
    for length in range(0, len(whole), 7):
        cut.write_bytes(whole[:length])
        with pytest.raises(KitError, match=r"cut\.pyz is not a whole relink kit"):
            read_kit(cut)


def test_a_kit_that_does_not_exist_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(NoSuchFileError, match="no-such"):
        read_kit(tmp_path / "no-such.pyz")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"command": ["ld", "-o", "{output}"]}, "must begin with {linker}"),
        ({"command": ["{linker}", "-o", "a.out"]}, "have {output} once"),
        ({"libraries": {"a.so": "lib/a.so"}}, "names no member"),
        ({"members": {"../x": {"sha256": "1" * 64, "size_bytes": 1}}}, "outside of the build"),
        ({"built_with_linker": "mold"}, "built_with_linker"),
        ({"format": 2}, "reads format 1"),
    ],
)
def test_a_kit_json_with_a_mistake_is_refused_with_what_is_wrong(
    tmp_path: Path, changed: dict[str, object], said: str
) -> None:
    document = json.dumps({**json.loads(KIT.to_bytes()), **changed})
    with pytest.raises(KitError) as refused:
        read_kit(_written(tmp_path / "a.pyz", document.encode()))
    assert said in str(refused.value)


def test_the_same_kit_is_the_same_bytes_in_whatever_order_its_parts_came() -> None:
    turned = dataclasses.replace(KIT, members=dict(reversed(list(KIT.members.items()))))
    assert turned.to_bytes() == KIT.to_bytes()


@pytest.mark.parametrize("name", ["kit.pyz", "a kit.pyz", "two\nlines.pyz", "back\\slash.pyz"])
def test_the_checksum_beside_a_kit_is_one_that_sha256sum_checks(tmp_path: Path, name: str) -> None:
    kit = tmp_path / name
    kit.write_bytes(b"a kit")
    write_checksum(kit, hashlib.sha256(b"a kit").hexdigest())
    check = ["sha256sum", "-c", checksum_file(kit).name]
    subprocess.run(check, cwd=tmp_path, check=True)
    kit.write_bytes(b"a k")
    assert subprocess.run(check, cwd=tmp_path, check=False, capture_output=True).returncode == 1
