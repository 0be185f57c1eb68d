"""The files that a server has loaded, and whether they are still those that stand there."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

import pytest
from model_server import record

from npu_serving.serving.loaded_versions import note_first_versions, note_versions, replaced_versions
from npu_serving.serving.server_record import ServerRecord

AVAILABLE = [("m", 1)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("saved_model.pb", "variables/variables.index"):
        path = tmp_path / "m" / "1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path / "m"


def server(base: Path, **changes: object) -> ServerRecord:
    argv = ("server", "--model_name=m", f"--model_base_path={base}")
    return dataclasses.replace(record(8501), argv=argv, pid=7, process_begin=8, started=time.time(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["written over", "replaced", "removed", "added"])
def test_what_was_changed_since_it_was_loaded_is_told(tmp_path: Path, base: Path, how: str) -> None:
    made = server(base)
    note_first_versions(tmp_path, made)
    assert replaced_versions(tmp_path, made, AVAILABLE) == ()
    file = base / "1" / "variables" / "variables.index"
    if how == "written over":
        file.write_text("other")
    elif how == "replaced":
        status = file.stat()
        (base / "new").write_text("y")
        os.utime(base / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
        (base / "new").rename(file)
    elif how == "removed":
        file.unlink()
    else:
        (base / "1" / "assets").write_text("new")
    assert replaced_versions(tmp_path, made, AVAILABLE) == (("m", 1),)
    assert replaced_versions(tmp_path, made, AVAILABLE) == (("m", 1),), "it is said until the server is another one"
    note_versions(tmp_path, made, {("m", 1): base / "1"})
    assert replaced_versions(tmp_path, made, AVAILABLE) == ()


def test_another_process_at_that_port_has_loaded_what_is_there_now(tmp_path: Path, base: Path) -> None:
    note_first_versions(tmp_path, server(base))
    (base / "1" / "saved_model.pb").write_text("other")
    later = dataclasses.replace(server(base), pid=9)
    assert replaced_versions(tmp_path, later, AVAILABLE) == ()


def test_a_version_that_is_seen_for_the_first_time_is_taken_as_it_is(tmp_path: Path, base: Path) -> None:
    made = dataclasses.replace(server(base), started=time.time() - 60)
    assert replaced_versions(tmp_path, made, AVAILABLE) == ()
    (base / "1" / "saved_model.pb").write_text("other")
    assert replaced_versions(tmp_path, made, AVAILABLE) == (("m", 1),)


def test_one_that_was_there_at_the_start_and_has_a_younger_file_is_told_even_then(tmp_path: Path, base: Path) -> None:
    made = dataclasses.replace(server(base), started=(base / "1").stat().st_ctime + 0.001)
    file, younger = base / "1" / "saved_model.pb", made.started
    while younger <= made.started:  # the clock of the file system takes steps
        file.write_text("other")
        younger = file.stat().st_ctime
    assert replaced_versions(tmp_path, made, AVAILABLE) == (("m", 1),)


def test_a_model_elsewhere_or_a_directory_that_is_gone_is_passed_over(tmp_path: Path, base: Path) -> None:
    assert replaced_versions(tmp_path, server(Path("s3://bucket/m")), AVAILABLE) == ()
    assert replaced_versions(tmp_path, server(tmp_path / "none"), AVAILABLE) == ()
    assert replaced_versions(tmp_path, server(base), [("other", 1), ("m", 5)]) == ()
