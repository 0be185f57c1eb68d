"""What is written, what is left alone, and what --diff says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.render_deployment import DeploymentFiles, plan_files, write_files
from npu_serving.errors import RequestError

PEM = "-----BEGIN PRIVATE KEY-----\nVERY+SECRET\n-----END PRIVATE KEY-----\n"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


def deployment(tmp_path: Path, **sections: Any) -> DeploymentFile:
    file = tmp_path / "d.json"
    file.write_text(json.dumps({"version": 1, "models": [{"name": "a", "base_path": "/models/a"}], **sections}))
    return read_deployment(file)


def written(made: DeploymentFile, output: Path) -> DeploymentFiles:
    return write_files(plan_files(made, output))


def times(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in directory.iterdir()}


def test_the_files_are_written_once_and_not_again(tmp_path: Path, output: Path) -> None:
    made = deployment(tmp_path)
    first = written(made, output)
    assert set(first.states.values()) == {"new"}
    assert sorted(path.name for path in output.iterdir()) == sorted(first.states)
    assert os.access(output / "start.sh", os.X_OK)
    before = times(output)
    again = written(made, output)
    assert again.is_current
    assert again.text().endswith(f"{output} is up to date.")
    assert times(output) == before


def test_only_what_changes_is_written(tmp_path: Path, output: Path) -> None:
    written(deployment(tmp_path), output)
    before = times(output)
    plan = written(deployment(tmp_path, server={"port": 9000}), output)
    assert {name for name, state in plan.states.items() if state == "changed"} == {"flags"}
    assert {name for name, time in times(output).items() if time != before[name]} == {"flags"}
    assert "--port=9000" in (output / "flags").read_text()


def test_a_plan_changes_nothing_and_says_what_would_be_written(tmp_path: Path, output: Path) -> None:
    plan = plan_files(deployment(tmp_path), output)
    assert not output.exists()
    assert plan.exit_code == 0
    assert f"{output}/config.cfg  (new)" in plan.text()
    assert plan.to_json()["written"] is False


def test_the_difference_is_a_unified_diff_and_ends_with_3(tmp_path: Path, output: Path) -> None:
    written(deployment(tmp_path), output)
    same = plan_files(deployment(tmp_path), output, is_check=True)
    assert (same.exit_code, same.differences) == (0, "")
    other = plan_files(deployment(tmp_path, server={"port": 9000}), output, is_check=True)
    assert other.exit_code == 3
    assert "--- flags\n+++ flags\n@@ -1,5 +1,5 @@\n" in other.text()
    assert "\n---port=8500\n+--port=9000\n" in other.text()
    assert "--port=8500" in (output / "flags").read_text()


def test_a_mode_that_was_changed_is_a_difference(tmp_path: Path, output: Path) -> None:
    written(deployment(tmp_path), output)
    (output / "start.sh").chmod(0o644)
    plan = plan_files(deployment(tmp_path), output, is_check=True)
    assert plan.states["start.sh"] == "changed"
    assert "its mode is to be 755" in plan.text()
    write_files(plan)
    assert os.access(output / "start.sh", os.X_OK)


def test_what_the_deployment_no_longer_has_is_removed_and_what_is_not_ours_stays(tmp_path: Path, output: Path) -> None:
    written(deployment(tmp_path, server={"monitoring": {}}), output)
    (output / "notes.txt").write_text("mine")
    plan = written(deployment(tmp_path), output)
    assert plan.states["monitoring.config"] == "removed"
    assert not (output / "monitoring.config").exists()
    (output / "monitoring.config").write_text("prometheus_config {}")
    assert written(deployment(tmp_path), output).is_current
    assert (output / "notes.txt").read_text() == "mine"
    assert (output / "monitoring.config").exists()


def test_a_file_that_somebody_else_wrote_is_not_replaced_and_the_cure_helps(tmp_path: Path, output: Path) -> None:
    output.mkdir()
    (output / "models.config").write_text("model_config_list {}")
    with pytest.raises(RequestError) as caught:
        written(deployment(tmp_path), output)
    assert str(output / "models.config") in caught.value.what
    assert [path.name for path in output.iterdir()] == ["models.config"]
    assert os.system(caught.value.cure.partition("move it away: ")[2]) == 0
    written(deployment(tmp_path), output)
    assert (output / "models.config.old").read_text() == "model_config_list {}"


def test_secrets_are_in_no_output(tmp_path: Path, output: Path) -> None:
    (tmp_path / "key").write_text(PEM)
    tls = {"server_key": str(tmp_path / "key"), "server_cert": str(tmp_path / "key")}
    made = deployment(tmp_path, server={"tls": tls}, environment={"AWS_SECRET_ACCESS_KEY": "VERY+SECRET"})
    for plan in (plan_files(made, output, is_check=True), written(made, output)):
        assert "VERY+SECRET" not in plan.text()
        assert "VERY+SECRET" not in json.dumps(plan.to_json())
    assert "VERY+SECRET" in (output / "ssl.config").read_text()
    assert (output / "ssl.config").stat().st_mode & 0o077 == 0
    former = plan_files(deployment(tmp_path), output, is_check=True)
    assert former.states["ssl.config"] == "removed"
    assert "VERY+SECRET" not in former.text()


def test_the_files_name_the_place_where_the_server_finds_them(tmp_path: Path, output: Path) -> None:
    write_files(plan_files(deployment(tmp_path), output, at="/etc/npu-serving"))
    assert "--platform_config_file=/etc/npu-serving/config.cfg" in (output / "flags").read_text()
    assert "here=/etc/npu-serving\n" in (output / "start.sh").read_text()
    with pytest.raises(RequestError, match="absolute"):
        plan_files(deployment(tmp_path), output, at="etc")


def test_a_deployment_for_the_cpu_is_said_to_be_one(tmp_path: Path, output: Path) -> None:
    assert "the CPU serves every model" in plan_files(deployment(tmp_path), output).text()
    assert plan_files(deployment(tmp_path, npu={}), output).warnings == ()


def test_a_relative_directory_is_written_as_an_absolute_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(deployment(tmp_path), Path("here"))
    assert f"--model_config_file={tmp_path}/here/models.config" in (tmp_path / "here/flags").read_text()


def test_an_edit_by_hand_shows_in_the_difference_before_it_is_lost(tmp_path: Path, output: Path) -> None:
    written(deployment(tmp_path), output)
    with (output / "config.cfg").open("a") as file:
        file.write("# by hand\n")
    plan = plan_files(deployment(tmp_path), output, is_check=True)
    assert "-# by hand" in plan.text()
    write_files(plan)
    assert "by hand" not in (output / "config.cfg").read_text()


@pytest.mark.parametrize("kind", ["directory", "link to nothing"])
def test_what_is_no_file_is_not_replaced_either(tmp_path: Path, output: Path, kind: str) -> None:
    output.mkdir()
    if kind == "directory":
        (output / "flags").mkdir()
    else:
        (output / "flags").symlink_to("/nowhere")
    with pytest.raises(RequestError, match="was not written by render-deployment") as caught:
        plan_files(deployment(tmp_path), output)
    assert os.system(caught.value.cure.partition("move it away: ")[2]) == 0
    written(deployment(tmp_path), output)


def test_an_output_that_is_a_file_or_a_link_to_nothing_is_refused(tmp_path: Path, output: Path) -> None:
    output.write_text("")
    link = tmp_path / "link"
    link.symlink_to("/nowhere")
    for path in (output, link):
        with pytest.raises(RequestError, match="is not a directory"):
            plan_files(deployment(tmp_path), path)


LISTS = {"black-list": {"to-add": ["SoftmaxV2"]}}
MIXED = {"precision_mode": "allow_mix_precision", "modify_mixlist": LISTS}


def test_the_file_of_an_option_is_written_beside_and_its_path_is_the_options_value(
    tmp_path: Path, output: Path
) -> None:
    write_files(plan_files(deployment(tmp_path, npu=MIXED), output, at="/etc/npu-serving"))
    assert json.loads((output / "ops_info.json").read_text()) == LISTS
    assert 'key: "modify_mixlist" value { s: "/etc/npu-serving/ops_info.json" }' in (output / "config.cfg").read_text()
    assert plan_files(deployment(tmp_path, npu=MIXED), output, at="/etc/npu-serving").is_current


def test_models_with_other_contents_have_files_of_their_own(tmp_path: Path, output: Path) -> None:
    other = {"white-list": {"to-add": ["Cast"]}}
    models = [
        {"name": "a", "base_path": "/a"},
        {"name": "b", "base_path": "/b", "npu": {"modify_mixlist": other}},
        {"name": "c", "base_path": "/c", "npu": {"modify_mixlist": LISTS}},
    ]
    written(deployment(tmp_path, models=models, npu=MIXED), output)
    assert json.loads((output / "ops_info_2.json").read_text()) == other
    config = (output / "config.cfg").read_text()
    assert config.count(f'"{output}/ops_info.json"') == config.count(f'"{output}/ops_info_2.json"') == 1


def test_the_file_of_an_option_goes_with_it_and_one_of_somebody_else_s_stays(tmp_path: Path, output: Path) -> None:
    written(deployment(tmp_path, npu=MIXED), output)
    changed = {**MIXED, "modify_mixlist": {"black-list": {"to-add": ["Cast"]}}}
    assert written(deployment(tmp_path, npu=changed), output).states["ops_info.json"] == "changed"
    assert written(deployment(tmp_path, npu={}), output).states["ops_info.json"] == "removed"
    (output / "ops_info.json").write_text("{}")
    assert "ops_info.json" not in written(deployment(tmp_path, npu={}), output).states
    with pytest.raises(RequestError, match=r"ops_info\.json is already there"):
        written(deployment(tmp_path, npu=MIXED), output)
    own = {**MIXED, "modify_mixlist": str(output / "ops_info.json")}
    written(deployment(tmp_path, npu=own), output)
    with pytest.raises(RequestError, match=r"ops_info\.json is already there"):
        written(deployment(tmp_path, npu=MIXED), output)
    assert (output / "ops_info.json").read_text() == "{}"


def test_a_run_that_was_ended_before_the_platform_config_was_written_can_be_repeated(
    tmp_path: Path, output: Path
) -> None:
    written(deployment(tmp_path, npu=MIXED), output)
    (output / "config.cfg").unlink()
    assert written(deployment(tmp_path, npu=MIXED), output).states["ops_info.json"] == "unchanged"


def test_what_presets_became_is_printed_and_in_the_json(tmp_path: Path, output: Path) -> None:
    plan = plan_files(deployment(tmp_path, presets=["mixed-precision"]), output)
    assert "preset mixed-precision: precision_mode_v2 mixed_float16" in plan.text()
    assert plan.to_json()["presets"] == {"mixed-precision": ["precision_mode_v2 mixed_float16"]}
    assert (
        written(deployment(tmp_path, presets=["mixed-precision"]), output).text().startswith("preset mixed-precision")
    )
