"""The best setting in the deployment file, with the table above it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from npu_serving.errors import RequestError
from npu_serving.tuning.knobs import TunedSetting
from npu_serving.tuning.tuned_file import write_tuned

TEXT = (
    "version: 1  # ours\nmodels:\n  - {name: m, base_path: /m}\nserver:\n  batching:\n    max_batch_size: 2 # small\n"
)
SETTING = TunedSetting(
    (), ((("server", "batching", "max_batch_size"), 16), (("npu", "graph_max_parallel_model_num"), 4))
)


def test_the_file_gets_the_values_and_the_table_and_keeps_every_other_line(tmp_path: Path):
    file = tmp_path / "deployment.yaml"
    file.write_text(TEXT)
    write_tuned(file, TEXT, SETTING, ["p99 within 20 ms", "SETTING  PER SECOND"])
    written = file.read_text()
    assert written == (
        "# tune: p99 within 20 ms\n# tune: SETTING  PER SECOND\n"
        + TEXT.replace("max_batch_size: 2", "max_batch_size: 16")
        + "npu:\n  graph_max_parallel_model_num: 4\n"
    )


def test_a_second_tune_replaces_the_table_of_the_first(tmp_path: Path):
    file = tmp_path / "deployment.yaml"
    file.write_text(TEXT)
    write_tuned(file, TEXT, SETTING, ["first"])
    once = file.read_text()
    write_tuned(file, once, SETTING, ["second"])
    assert file.read_text() == once.replace("# tune: first", "# tune: second")


def test_the_byte_order_mark_of_a_file_stays_its_beginning(tmp_path: Path):
    file = tmp_path / "deployment.yaml"
    file.write_text("\ufeff" + TEXT, encoding="utf-8")
    for _ in range(2):
        write_tuned(file, file.read_text(encoding="utf-8"), SETTING, ["table"])
    written = file.read_text(encoding="utf-8")
    assert written.startswith("\ufeff# tune: table\nversion: 1")
    assert written.count("# tune:") == 1


def test_a_file_that_was_changed_meanwhile_is_left_and_the_values_are_said(tmp_path: Path):
    file = tmp_path / "deployment.yaml"
    file.write_text(TEXT + "# and one more\n")
    with pytest.raises(RequestError, match="changed in the meantime") as caught:
        write_tuned(file, TEXT, SETTING, ["table"])
    assert "server.batching.max_batch_size=16; npu.graph_max_parallel_model_num=4" in caught.value.cure
    assert file.read_text() == TEXT + "# and one more\n"


def test_a_file_that_can_not_be_edited_alone_is_left(tmp_path: Path):
    text = "server: &s {batching: {}}\nother: *s\n"
    file = tmp_path / "deployment.yaml"
    file.write_text(text)
    with pytest.raises(RequestError, match="is as it was"):
        write_tuned(file, text, TunedSetting((), ((("server",), 1),)), ["table"])
    assert yaml.safe_load(file.read_text()) == {"server": {"batching": {}}, "other": {"batching": {}}}
