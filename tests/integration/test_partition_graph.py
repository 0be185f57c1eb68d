"""partition-graph as a person types it, up to a deployment that passes its checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from partition_graphs import chain, written
from typed_tasks import Ended, typed

from npu_serving.deploy.range_checks import KIND as IN_OUT_PAIR
from npu_serving.options.asked_options import EFFECT

LIST = {"Relu": {}, "MatMul": {"isHeavy": True}, "Softmax": {"isGray": True}}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    written(tmp_path / "classifier" / "1", chain("Relu", "Unique", "Relu", "Softmax", "Relu", "Relu"), "n5")
    (tmp_path / "npu_supported_ops.json").write_text(json.dumps(LIST))
    return tmp_path / "classifier"


def partition(model: Path, *words: str) -> Ended:
    given = ("--supported", str(model.parent / "npu_supported_ops.json"))
    return typed("partition-graph", str(model), *given, *words, build_root=model.parent)


def test_the_options_are_printed_drawn_and_written_and_pass_the_check_of_the_deployment(model: Path) -> None:
    shown = partition(model)
    assert shown.code == 0
    assert "grey: mixed computing leaves it to the CPU" in shown.out
    assert "in_out_pair: \"[[['n4'],['n5']]]\"" in shown.out

    file = model.parent / "deployment.yaml"
    file.write_text(f"version: 1\nmodels:\n- {{name: classifier, base_path: {model}}}\nnpu: {{}}\n")
    before = file.read_text()
    planned = partition(model, "--deployment", str(file), "--dry-run", "--json").document
    assert file.read_text() == before
    assert not planned["written"]
    done = partition(model, "--deployment", str(file), "--json").document
    assert done["written"]
    assert done["options"] == planned["options"] == {"mix_compile_mode": True, "in_out_pair": "[[['n4'],['n5']]]"}

    checked = typed("check-deployment", str(file), "--json", build_root=model.parent).document
    kinds = {finding["kind"] for finding in checked["findings"] if finding["file_is_wrong"]}
    assert not kinds & {IN_OUT_PAIR, *EFFECT}

    picture = model.parent / "sides.html"
    assert partition(model, "--picture", str(picture)).code == 0
    assert "n4" in picture.read_text()


def test_a_run_that_left_more_to_the_cpu_ends_with_3(model: Path) -> None:
    report = model.parent / "check_result.tf.json"
    reason = {"code": 1, "message": "This op is not exsit on npu."}
    nodes = [{"name": "n4", "type": "Relu", "is_support": False, "not_support_reason": reason}]
    report.write_text(json.dumps({"op": nodes}))
    ended = partition(model, "--from", str(report))
    assert ended.code == 3
    assert "n4" in ended.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--picture", "sides.png"], "use --picture sides.html"),
        (["--outputs", "n55"], "n5"),
        (["--deployment", "gone.yaml"], "ls -ld"),
    ],
)
def test_wrong_words_are_answered_with_what_to_type(model: Path, words: list[str], says: str) -> None:
    ended = partition(model, *words)
    assert ended.code in (1, 2)
    assert says in ended.said


def test_without_cann_and_without_a_list_it_says_how_to_get_one(model: Path) -> None:
    ended = typed("partition-graph", str(model), build_root=model.parent)
    assert ended.code == 4
    assert "--supported FILE" in ended.said
