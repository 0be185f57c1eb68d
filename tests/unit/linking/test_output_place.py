"""Directories of any name are written to by each linker."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from elf_samples import needs_gcc

from npu_serving.linking.linkers import ARGUMENT, KINDS
from npu_serving.linking.output_place import place_for_output


@needs_gcc
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["plain", "100%", "%41%%", "a,b", 'it\'s "$HOME" ü {output}'])
def test_each_linker_writes_into_a_directory_of_any_name_and_reads_its_parameters_there(
    kind: str, name: str, tmp_path: Path
) -> None:
    if shutil.which(f"ld.{kind}") is None:
        pytest.skip(f"there is no {kind} here")
    directory = tmp_path / name
    directory.mkdir()
    (tmp_path / "main.c").write_text("int main(void) { return 0; }")
    subprocess.run(["gcc", "-c", "main.c"], cwd=tmp_path, check=True)
    (directory / "words").write_text("main.o\n")
    with place_for_output(directory) as place:
        words = ["gcc", ARGUMENT + kind, f"-Wl,@{place / 'words'}", "-o", str(place / "server")]
        subprocess.run(words, cwd=tmp_path, check=True)
    assert subprocess.run([directory / "server"], check=False).returncode == 0
    assert {path.name for path in directory.iterdir()} == {"words", "server"}


def test_a_plain_directory_is_taken_as_it_is_and_nothing_is_left_of_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with place_for_output(tmp_path) as place:
        assert place == tmp_path
    (tmp_path / "%").mkdir()
    with place_for_output(tmp_path / "%") as place:
        assert "%" not in str(place)
        assert place.resolve() == tmp_path / "%"
    assert [path.name for path in tmp_path.iterdir()] == ["%"]
