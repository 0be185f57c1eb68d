"""The program in a kit: what is packed, and that it runs where there is nothing but Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_kits import ANSWER, install_adapter, small_adapter

from npu_serving.development import python_of
from npu_serving.relink_kit.program_files import program_files


def test_the_program_has_this_package_two_libraries_in_python_and_their_licences() -> None:
    tops = {"/".join(name.split("/")[1:3]) for name in program_files() if not name.startswith("program/npu_serving")}
    assert {top.partition("/")[0] for top in tops} == {"", "yaml", "packaging", "licences"}
    assert {"licences/PyYAML", "licences/packaging"} <= tops
    assert not [name for name in program_files() if name.endswith((".so", ".pyc"))]


@pytest.mark.parametrize("version", ["3.9", "3.13", ""])
def test_a_kit_relinks_with_the_standard_library_alone_and_does_nothing_the_second_time(
    version: str, whole_kit: Path, tmp_path: Path
) -> None:
    program = python_of(version) if version else sys.executable
    if program is None:
        pytest.skip(f"Python {version} is not here")
    cann = install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "adapter", ANSWER))
    words = [str(program), "-I", "-S", str(whole_kit), "relink", "--json", "--cache", str(tmp_path / "cache")]
    words += ["--dist", str(tmp_path / "dist"), "--cann-root", str(cann)]
    for action in ("kit", "nothing"):
        finished = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        found = json.loads(finished.stdout)
        assert found["plan"]["action"] == action
        assert subprocess.run([tmp_path / "dist/current/bin/tensorflow_model_server"], check=False).returncode == 0


def test_what_an_old_run_left_of_the_program_is_put_right(whole_kit: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-S", str(whole_kit), "show", "--json", "--cache", str(tmp_path)]
    first = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    (module,) = tmp_path.glob("program-*/npu_serving/relink_kit/main.py")
    module.write_text("raise SystemExit(77)")
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == first


def test_a_damaged_program_is_refused_before_anything_of_it_runs(whole_kit: Path, tmp_path: Path) -> None:
    data = whole_kit.read_bytes()
    at = data.index(b"program/npu_serving/relink_kit/main.py") + 200
    bad = tmp_path / "bad.pyz"
    bad.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    words = [sys.executable, str(bad), "show", "--cache", str(tmp_path / "cache")]
    finished = subprocess.run(words, capture_output=True, text=True, check=False)
    assert finished.returncode == 2
    assert "is not a whole relink kit" in finished.stderr
    assert "Next: copy the kit" in finished.stderr
    assert not (tmp_path / "cache").exists()


def _shown(kit: Path, *words: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-I", "-S", str(kit), "show", *words)
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [("--cache=",), ("--cache", "")])
def test_a_cache_without_a_name_is_refused_and_nothing_unpacked_into_where_one_is(
    words: tuple[str, ...], whole_kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    finished = _shown(whole_kit, *words)
    assert (finished.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "--cache names no directory" in finished.stderr


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_cache_that_others_may_write_to_is_not_trusted_until_they_may_not(
    mode: int, whole_kit: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    finished = _shown(whole_kit, "--cache", str(cache))
    assert (finished.returncode, list(cache.iterdir())) == (1, [])
    assert f"others may write to {cache}" in finished.stderr
    cure = finished.stderr.rpartition("others may write: ")[2].split()
    subprocess.run(cure, check=True)
    assert _shown(whole_kit, "--cache", str(cache)).returncode == 0


def test_a_cache_that_is_made_is_its_users_own_whatever_the_umask(whole_kit: Path, tmp_path: Path) -> None:
    former = os.umask(0o002)
    try:
        assert _shown(whole_kit, "--cache", str(tmp_path / "new/cache")).returncode == 0
        assert _shown(whole_kit, "--cache", str(tmp_path / "new/cache")).returncode == 0
    finally:
        os.umask(former)
    assert (tmp_path / "new/cache").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "words",
    [
        ("show", "--cache", "~nobody-has-this-name/x"),
        ("relink", "--dist", "~nobody-has-this-name/x"),
        ("relink", "--dry-run", "--model-base-path", "x" * 300),
        ("relink", "--dry-run", "--platform-config-file", "x" * 300),
        ("relink", "--dry-run", "--install-link", "x" * 300),
        ("relink", "--install-link", "~nobody-has-this-name/x"),
        *(
            (command, "--dist", name)
            for command in ("relink", "verify", "rollback")
            for name in ("x" * 300, "/y" * 2040)
        ),
    ],
)
def test_a_path_that_no_file_can_have_is_refused_and_not_planned_with(
    words: tuple[str, ...], whole_kit: Path, tmp_path: Path
) -> None:
    cache = () if "--cache" in words else ("--cache", str(tmp_path))
    finished = subprocess.run(
        [sys.executable, str(whole_kit), *words, *cache], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert finished.returncode == 2
    assert "Next: " in finished.stderr and "Traceback" not in finished.stderr


def test_two_dashes_are_no_value_of_a_flag(whole_kit: Path, tmp_path: Path) -> None:
    for words in (("relink", "--dist=--"), ("verify", "--adapter=--")):
        command = [sys.executable, str(whole_kit), *words, "--cache", str(tmp_path / "cache")]
        finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (finished.returncode, "Traceback" in finished.stderr) == (2, False), finished.stderr
