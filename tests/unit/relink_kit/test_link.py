"""What a relink gives the linker of an adapter."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elf_samples import library, needs_gcc
from listening import Listening
from small_kits import ANSWER, OTHER, install_adapter, relinked, small_adapter, write_small_kit

from npu_serving.cann.adapter import adapter_at
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.errors import AdapterError, MissingToolError, OutOfMemoryError, ProgramError
from npu_serving.linking.linkers import KINDS, Linker
from npu_serving.overlay.content import EXPORTS_FILE, SYMBOLS_FILE, OverlayInputs
from npu_serving.relink_kit import relink as relink_module
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.relink_kit.link import the_linker, write_adapter_files
from npu_serving.relink_kit.relink import KitRequest, relink

pytestmark = needs_gcc


def test_a_kit_gives_the_linker_the_lists_that_a_tree_gets_of_the_same_adapters(
    small_members: dict[str, Path], tmp_path: Path
) -> None:
    kit = read_kit(write_small_kit(tmp_path / "a.pyz", small_members, program=False, fits={"9.0.0": (OTHER,)}))
    adapter = adapter_at(small_adapter(tmp_path, ANSWER, "_ZN2ge3RunEv"), "")
    write_adapter_files(kit, tmp_path, adapter)
    python = library(tmp_path, "libpython3.7m.so.1.0", "")
    overlay = OverlayInputs(adapter.path, python, fits=(KnownAdapter("9.0.0", "1", "", (OTHER,)),)).content
    texts = {entry.name: entry.text for entry in overlay}
    places = kit.file.adapter_files
    assert (tmp_path / places.needed_symbols).read_text() == texts[SYMBOLS_FILE]
    assert (tmp_path / places.exported_symbols).read_text() == texts[EXPORTS_FILE]
    assert "_ZN2ge3RunEv" in (texts[SYMBOLS_FILE] or "") and "_ZN2ge3RunEv" not in (texts[EXPORTS_FILE] or "")


def test_an_adapter_with_a_symbol_that_no_linker_script_can_hold_is_refused(small_kit: Path, tmp_path: Path) -> None:
    path = small_adapter(tmp_path, "tensorflow_odd")
    path.write_bytes(path.read_bytes().replace(b"tensorflow_odd", b"tensorflow,odd"))
    adapter = adapter_at(path, "")
    with pytest.raises(AdapterError, match="tensorflow,odd"):
        write_adapter_files(read_kit(small_kit), tmp_path, adapter)


@pytest.mark.parametrize(
    "named", ["x" * 300, "/" + "y" * 5000, "~nobody-has-this-name/ld", "", ".", "/dev/null", "a\nb"]
)
def test_what_is_no_linker_is_refused_whatever_it_is_called(named: str, small_kit: Path) -> None:
    with pytest.raises(MissingToolError, match="There is no linker") as caught:
        the_linker(read_kit(small_kit), named)
    assert "--linker with auto" in caught.value.cure


@pytest.mark.parametrize("linker", KINDS)
def test_a_server_is_linked_into_a_directory_of_any_name(linker: str, small_kit: Path, tmp_path: Path) -> None:
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"there is no {linker} here")
    root = tmp_path / 'it\'s 100% {output} {linker} $HOME, "ü"'
    cann = install_adapter(root / "Ascend", small_adapter(tmp_path / "adapter", ANSWER))
    made = relinked(small_kit, root, cann, linker=linker)
    assert made.build.manifest.linker == linker
    subprocess.run([root / "dist/current/bin/tensorflow_model_server"], check=True)


def _failing_lld(directory: Path, monkeypatch: pytest.MonkeyPatch, failure: str) -> None:
    """The quickest linker of PATH is one that fails like that."""
    directory.mkdir()
    lld = directory / "ld.lld"
    lld.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo LLD 99.0 && exit\n{failure}\n')
    lld.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_where_a_linker_fails_the_next_one_links_and_says_so_and_a_linker_that_was_named_does_not_give_way(
    small_kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing_lld(tmp_path / "bin", monkeypatch, "echo cannot open it >&2; exit 1")
    cann = install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "adapter", ANSWER))
    request = KitRequest(tmp_path / "dist", tmp_path / "cache", cann_root=str(cann), linker="lld")
    listening = Listening()
    with pytest.raises(ProgramError, match="cannot open it"):
        relink(read_kit(small_kit), request, listening, lambda _build, _cann: None)
    assert not (tmp_path / "dist" / "current").exists()
    request = dataclasses.replace(request, linker="auto", cache=tmp_path / "other")
    made = relink(read_kit(small_kit), request, listening, lambda _build, _cann: None)
    (warned,) = [line for line in listening.said if "could not link it" in line]
    other = f"{made.build.manifest.linker} {made.build.manifest.linker_version}"
    assert warned.startswith(f"lld 99.0 could not link it, so {other} does:\n") and "cannot open it" in warned
    assert f"(linked with {other} in " in made.text()
    assert made.plan.to_json()["linker"] == other
    assert made.unpacking_seconds > made.link_seconds / 1000, "that of the first attempt counts"
    subprocess.run([tmp_path / "dist/current/bin/tensorflow_model_server"], check=True)


def test_where_every_linker_fails_the_last_ones_error_is_told_and_memory_that_ran_out_is_not_tried_again(
    small_kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cann = install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "adapter", ANSWER))
    linked: list[str] = []

    def failing(error: Exception) -> Any:
        def link(_kit: object, _members: Path, linker: Linker, *_: object) -> Path:
            linked.append(linker.kind)
            raise error

        return link

    monkeypatch.setattr(relink_module, "link_server", failing(ProgramError("it failed")))
    with pytest.raises(ProgramError, match="it failed") as caught:
        relinked(small_kit, tmp_path, cann)
    assert len(linked) == 1 or f"beside {', '.join(linked)} " in caught.value.cure
    assert len(linked) == len(set(linked)) == sum(shutil.which(f"ld.{kind}") is not None for kind in KINDS)
    linked.clear()
    monkeypatch.setattr(relink_module, "link_server", failing(OutOfMemoryError("it was killed")))
    with pytest.raises(OutOfMemoryError):
        relinked(small_kit, tmp_path, cann)
    assert len(linked) == 1
