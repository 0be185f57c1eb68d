"""The options of a division in a deployment file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import yaml
from partition_graphs import chain, lists, written

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.errors import ActionNeeded, DiskFullError, NpuServingError, RequestError
from npu_serving.partition.asked_graph import asked_graph
from npu_serving.partition.partition_graph import GraphPartition, partition_graph
from npu_serving.partition.written_options import deployed_graph, write_options

LISTS = lists("Relu")
PAIR = "[[['n2'],['n3']]]"


def deployment(tmp_path: Path, model: str = "", more: str = "npu: {}\n") -> Path:
    path = tmp_path / "deployment.yaml"
    text = f"# mine\nversion: 1\nmodels:\n  - name: m  # the model\n    base_path: {tmp_path / 'm'}\n{model}{more}"
    path.write_text(text)
    return path


def put(tmp_path: Path, file: Path, *operators: str, name: str = "", dry_run: bool = False) -> GraphPartition:
    chosen = operators or ("Relu", "Unique", "Relu", "Relu")
    version = written(tmp_path / "m" / "1", chain(*chosen), f"n{len(chosen) - 1}")
    deployed = deployed_graph(file, version, name)
    found = partition_graph(asked_graph(version), LISTS, variables_on_host=deployed.variables_on_host)
    return write_options(found, deployed, dry_run=dry_run)


def test_the_options_are_those_of_the_model_and_all_other_lines_stay(tmp_path: Path) -> None:
    file = deployment(tmp_path)
    result = put(tmp_path, file)
    assert result.written
    assert f"Written into {file}" in result.text()
    read = read_deployment(file)
    options = read.npu_of(read.models[0])
    assert options == {"mix_compile_mode": True, "in_out_pair": PAIR}
    assert file.read_text().startswith("# mine\nversion: 1\nmodels:\n  - name: m  # the model\n")


def test_a_dry_run_shows_what_would_be_written_and_writes_nothing(tmp_path: Path) -> None:
    file = deployment(tmp_path)
    before = file.read_text()
    result = put(tmp_path, file, dry_run=True)
    assert file.read_text() == before
    assert "To be written into" in result.text()
    assert PAIR in result.text()


def test_a_second_time_writes_the_same(tmp_path: Path) -> None:
    file = deployment(tmp_path)
    put(tmp_path, file)
    first = file.read_text()
    put(tmp_path, file)
    assert file.read_text() == first


def test_a_range_that_was_to_stay_on_the_cpu_is_turned_round(tmp_path: Path) -> None:
    file = deployment(
        tmp_path,
        "    npu:\n      mix_compile_mode: true\n      in_out_pair_flag: false\n"
        "      in_out_pair: \"[[['n0'],['n0']]]\"\n",
    )
    put(tmp_path, file)
    read = yaml.safe_load(file.read_text())
    assert read["models"][0]["npu"] == {"mix_compile_mode": True, "in_out_pair_flag": True, "in_out_pair": PAIR}


GEARS = (
    "    npu:\n      input_shape: \"x:-1\"\n      dynamic_dims: \"1;2\"\n      dynamic_node_type: 1\n"
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (GEARS, "gears"),
        ("    npu: false\n", "served by the CPU"),
    ],
)
def test_what_does_not_go_with_it_is_refused_and_the_file_stays(tmp_path: Path, model: str, says: str) -> None:
    file = deployment(tmp_path, model)
    before = file.read_text()
    with pytest.raises(RequestError, match=says) as caught:
        put(tmp_path, file)
    assert str(file) in caught.value.cure
    assert file.read_text() == before


def test_a_pair_that_is_not_needed_any_more_is_said(tmp_path: Path) -> None:
    file = deployment(tmp_path, f'    npu:\n      mix_compile_mode: true\n      in_out_pair: "{PAIR}"\n')
    with pytest.raises(RequestError, match="needs none"):
        put(tmp_path, file, "Unique", "Relu")


def test_a_model_of_which_nothing_goes_to_the_npu_changes_nothing(tmp_path: Path) -> None:
    file = deployment(tmp_path)
    before = file.read_text()
    with pytest.raises(ActionNeeded, match="as it was"):
        put(tmp_path, file, "Unique")
    assert not put(tmp_path, file, "Relu").written
    assert file.read_text() == before


def test_a_model_is_found_by_its_directory_or_named(tmp_path: Path) -> None:
    other = f"  - name: other\n    base_path: {tmp_path / 'elsewhere'}\n"
    file = deployment(tmp_path, other)
    assert deployed_graph(file, tmp_path / "m" / "1").name == "m"
    assert deployed_graph(file, tmp_path / "copy" / "1", "other").name == "other"
    for name in ("", "gone"):
        with pytest.raises(RequestError, match=r"deployment\.yaml"):
            deployed_graph(file, tmp_path / "copy" / "1", name)


def test_a_file_that_changed_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    file = deployment(tmp_path)
    version = written(tmp_path / "m" / "1", chain("Relu", "Unique", "Relu", "Relu"), "n3")
    deployed = deployed_graph(file, version)
    file.write_text(file.read_text() + "# more\n")
    with pytest.raises(RequestError, match="changed meanwhile"):
        write_options(partition_graph(asked_graph(version), LISTS), deployed, dry_run=False)
    assert file.read_text().endswith("# more\n")


def test_on_a_full_disk_the_file_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = deployment(tmp_path)
    before = file.read_text()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError):
        put(tmp_path, file)
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["deployment.yaml"]


def test_a_notation_that_can_not_be_edited_is_answered_with_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "deployment.yaml"
    file.write_text(f"version: 1\nnpu: &o {{}}\nmodels:\n  - {{name: m, base_path: {tmp_path / 'm'}, npu: *o}}\n")
    before = file.read_text()
    try:
        put(tmp_path, file)
    except NpuServingError as error:
        assert "in_out_pair" in error.cure
        assert file.read_text() == before
    else:
        read = read_deployment(file)
        assert (read.npu_of(read.models[0]) or {})["in_out_pair"] == PAIR
