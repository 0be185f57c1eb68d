"""What a running server was given counts for that very process, and damage to the note costs nothing."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from model_server import record

from npu_serving.serving.server_record import known_servers
from npu_serving.status.reload_note import model_names, note_reload, polls_its_list, reload_of

POLLS = "--model_config_file_poll_wait_seconds=5"
SERVER = record(8501, pid=7, process_begin=70)


def test_it_is_read_back_for_the_same_process_only(tmp_path: Path) -> None:
    assert reload_of(tmp_path, SERVER) is None
    before = time.time()
    note_reload(tmp_path, SERVER, ["a", "b"], "digest")
    found = reload_of(tmp_path, SERVER)
    assert found is not None
    assert (found.models, found.digest) == (("a", "b"), "digest")
    assert before <= found.at <= time.time()
    others: list[dict[str, Any]] = [{"pid": 8}, {"process_begin": 71}, {"rest_api_port": 8502}]
    for other in others:
        assert reload_of(tmp_path, dataclasses.replace(SERVER, **other)) is None
    (known,) = known_servers(tmp_path)
    assert known.record is None, "a note is no server"


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": 2, "pid": 7}'])
def test_one_that_can_not_be_read_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "servers").mkdir()
    (tmp_path / "servers" / "8501.reloaded.json").write_text(text)
    assert reload_of(tmp_path, SERVER) is None


def test_a_place_that_can_not_be_written_to_costs_no_reload(tmp_path: Path) -> None:
    (tmp_path / "servers").write_text("a file")
    note_reload(tmp_path, SERVER, ["a"])
    assert reload_of(tmp_path, SERVER) is None


def test_a_server_that_reads_its_list_again_has_the_models_of_the_list(tmp_path: Path) -> None:
    models = tmp_path / "m.config"
    models.write_text('model_config_list { config { name: "new" base_path: "/new" } }')
    words = (f"--model_config_file={models}", POLLS)
    assert model_names(record(8501, models=("old",), argv=words), tmp_path) == ("new",)
    assert model_names(record(8501, models=("old",), argv=words[:1]), tmp_path) == ("old",)
    models.unlink()
    assert model_names(record(8501, models=("old",), argv=words), tmp_path) == ("old",)


def test_only_a_flag_with_a_number_above_zero_makes_a_server_read_its_list_again() -> None:
    assert polls_its_list(["server", POLLS])
    for word in ("--model_config_file_poll_wait_seconds=0", "--file_system_poll_wait_seconds=5"):
        assert not polls_its_list(["server", word])
