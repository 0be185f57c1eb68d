"""The combinations that `tune` tries, and what each sets in the deployment."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.errors import RequestError
from npu_serving.tuning.knobs import Knobs, numbers, settings_of

MODEL = "models: [{name: m, base_path: /m}]\n"


def deployment(tmp_path: Path, text: str = MODEL) -> tuple[DeploymentFile, Path]:
    file = tmp_path / "deployment.yaml"
    file.write_text(f"version: 1\n{text}")
    return read_deployment(file), file


def with_each(tmp_path: Path, text: str, knobs: Knobs, index: int = 0) -> list[DeploymentFile]:
    read, file = deployment(tmp_path, text)
    return [read_deployment(file, (), setting.flags) for setting in settings_of(read, index, knobs)]


def test_every_combination_is_one_deployment_that_can_be_read(tmp_path):
    knobs = Knobs(batch_sizes=(4, 8), batch_timeouts=(0, 500), batch_threads=(1, 2))
    found = [each.batching_of(each.models[0]) for each in with_each(tmp_path, MODEL, knobs)]
    assert [(each.max_batch_size, each.batch_timeout_micros, each.num_batch_threads) for each in found if each] == [
        (size, timeout, threads) for size in (4, 8) for timeout in (0, 500) for threads in (1, 2)
    ]


def test_without_batching_its_other_knobs_make_no_further_settings(tmp_path):
    found = with_each(tmp_path, MODEL + "server: {batching: {}}\n", Knobs((0, 4), (0, 500), (1, 2)))
    assert [each.batching_of(each.models[0]) is None for each in found] == [True, False, False, False, False]


def test_with_other_models_beside_it_only_the_one_model_is_changed(tmp_path):
    text = (
        "models: [{name: a, base_path: /a}, {name: b, base_path: /b, batching: false}]\n"
        "server: {batching: {max_batch_size: 2}}\nnpu: {}\n"
    )
    for each in with_each(tmp_path, text, Knobs(batch_sizes=(16,), streams=(3,)), index=1):
        first, second = (each.batching_of(model) for model in each.models)
        assert first is not None and second is not None
        assert (first.max_batch_size, second.max_batch_size) == (2, 16)
        assert "graph_max_parallel_model_num" not in (each.npu_of(each.models[0]) or {})
        assert (each.npu_of(each.models[1]) or {})["graph_max_parallel_model_num"] == 3


def test_the_sizes_that_batches_are_filled_up_to_go_with_the_greatest_batch_and_with_the_gears(tmp_path):
    text = MODEL + "server: {batching: {max_batch_size: 8, allowed_batch_sizes: [2, 8]}}\n"
    found = [each.server.batching for each in with_each(tmp_path, text, Knobs(batch_sizes=(4, 16)))]
    assert [each.allowed_batch_sizes for each in found if each] == [(2, 4), (2, 8, 16)]
    text += 'npu: {input_shape: "x:-1", dynamic_dims: "1;2", dynamic_node_type: 1}\n'
    found = [each.server.batching for each in with_each(tmp_path, text, Knobs(batch_sizes=(16,), gears=("1;4;16",)))]
    assert [each.allowed_batch_sizes for each in found if each] == [(1, 4, 16)]


@pytest.mark.parametrize(
    ("text", "knobs", "said"),
    [
        (MODEL, Knobs(streams=(1,)), "CPU serves m"),
        (MODEL + "npu: {}\n", Knobs(gears=("1;2",)), "no input_shape"),
        (MODEL, Knobs(tuple(range(1, 40)), tuple(range(20))), "780 combinations"),
    ],
)
def test_a_knob_that_turns_nothing_is_refused_with_what_to_type(tmp_path, text, knobs, said):
    with pytest.raises(RequestError, match=said) as caught:
        settings_of(deployment(tmp_path, text)[0], 0, knobs)
    assert caught.value.cure


def test_numbers_are_read_once_each_and_anything_else_is_refused():
    assert numbers("off, 4,16,4", "--batch-size", least=1, off=True) == (0, 4, 16)
    assert numbers("", "--batch-size", least=1) == ()
    for text in ("4,", "x", "-1", "1e3", "off", "0", "٣", "9" * 11):
        with pytest.raises(RequestError, match="--streams"):
            numbers(text, "--streams", least=1)
