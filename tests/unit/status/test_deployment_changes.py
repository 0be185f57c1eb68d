"""What differs between a running server and its file: named in the file's words, with what has to be done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.rendering import RenderedFile, rendered_files
from npu_serving.status.deployment_changes import RELOAD, RESTART, DeploymentChange, changes_between

DIRECTORY = Path("/etc/npu-serving")
A = {"name": "a", "base_path": "/models/a"}
B = {"name": "b", "base_path": "/models/b"}
Sections = dict[str, Any]


def rendered(directory: Path, sections: Sections) -> dict[str, RenderedFile]:
    file = directory / "d.json"
    file.write_text(json.dumps({"version": 1, "models": [A, B], **sections}), encoding="utf-8")
    return rendered_files(read_deployment(file), DIRECTORY)


def changes(directory: Path, before: Sections, after: Sections) -> tuple[DeploymentChange, ...]:
    texts = {name: file.text for name, file in rendered(directory, before).items()}
    return changes_between(texts, rendered(directory, after))


def described(found: tuple[DeploymentChange, ...]) -> list[tuple[str, str]]:
    return [(change.text(), change.due) for change in found]


def test_the_same_file_differs_in_nothing_whatever_it_says(tmp_path: Path) -> None:
    everything = {
        "models": [A, {**B, "npu": False, "labels": {"stable": 1}, "versions": [1, 2]}],
        "npu": {"ops_info_file": "/x", "job": "x"},
        "server": {"batching": {"max_batch_size": 8}, "monitoring": {}},
        "environment": {"A": "b=c"},
    }
    assert changes(tmp_path, everything, everything) == ()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({}, {"models": [A]}, [("models.b: /models/b -> nothing", RELOAD)]),
        ({"models": [A]}, {}, [("models.b: nothing -> /models/b", RELOAD)]),
        ({}, {"models": [A, {**B, "base_path": "/new/b"}]}, [("models.b.base_path: /models/b -> /new/b", RELOAD)]),
        ({}, {"models": [A, {**B, "versions": "all"}]}, [("models.b.versions: latest 1 -> all", RELOAD)]),
        ({}, {"models": [{**A, "versions": [3, 5]}, B]}, [("models.a.versions: latest 1 -> 3, 5", RELOAD)]),
        (
            {"models": [{**A, "labels": {"stable": 1}}]},
            {"models": [{**A, "labels": {"stable": 2}}]},
            [("models.a.labels: stable 1 -> stable 2", RELOAD)],
        ),
        (
            {},
            {"models": [{**A, "labels": {"stable": 1}}, B]},
            [
                ("models.a.labels: nothing -> stable 1", RELOAD),
                ("--allow_version_labels_for_unavailable_models: nothing -> true", RELOAD),
            ],
        ),
        ({}, {"server": {"port": 9000}}, [("--port: 8500 -> 9000", RESTART)]),
        ({}, {"server": {"warm_up": False}}, [("server.warm_up: true -> false", RESTART)]),
        ({}, {"cpu": {"intra_op_threads": 4}}, [("cpu.intra_op_threads: nothing -> 4", RESTART)]),
        (
            {"server": {"batching": {"max_batch_size": 8, "allowed_batch_sizes": [4, 8]}}},
            {"server": {"batching": {"max_batch_size": 16, "allowed_batch_sizes": [4, 16]}}},
            [
                ("batching.max_batch_size: 8 -> 16", RESTART),
                ("batching.allowed_batch_sizes: 4, 8 -> 4, 16", RESTART),
            ],
        ),
        (
            {"npu": {"precision_mode_v2": "fp16", "job": "x"}},
            {"npu": {"precision_mode_v2": "origin", "job": "x"}},
            [("npu.precision_mode_v2: fp16 -> origin", RESTART)],
        ),
        ({"npu": {}}, {"npu": {"op_debug_level": 1}}, [("npu.op_debug_level: nothing -> 1", RESTART)]),
        ({"environment": {"A": "b"}}, {"environment": {"A": "c=d"}}, [("A: b -> c=d", RESTART)]),
        ({"environment": {"A": "b"}}, {}, [("A: b -> nothing", RESTART)]),
        ({"server": {"monitoring": {"path": "/a"}}}, {"server": {"monitoring": {"path": "/b"}}}, [
            ("monitoring.config: as it was -> changed", RESTART)
        ]),
        ({"cann": "/a"}, {"cann": "/b c"}, [("cann: /a -> '/b c'", RESTART)]),
        ({"cpu": {"cpus": "0"}}, {"cpu": {"numa_node": 1}}, [
            ("cpu.cpus: 0 -> nothing", RESTART), ("cpu.numa_node: nothing -> 1", RESTART)
        ]),
        ({"server": {"user": "a"}}, {"server": {"user": "b"}}, []),
    ],
)  # fmt: skip
def test_each_difference_is_named_with_both_values_and_what_is_due(
    tmp_path: Path, before: Sections, after: Sections, expected: list[tuple[str, str]]
) -> None:
    assert described(changes(tmp_path, before, after)) == expected


def test_the_npu_switched_on_is_one_difference_and_not_one_for_each_of_its_options(tmp_path: Path) -> None:
    assert described(changes(tmp_path, {}, {"npu": {"op_debug_level": 1}}))[0] == (
        "npu: nothing -> NpuOptimizer",
        RESTART,
    )
    found = described(changes(tmp_path, {"npu": {}}, {}))
    assert [text for text, _ in found if text.startswith("npu")] == ["npu: NpuOptimizer -> nothing"]
    assert not any("remapping" in text for text, _ in found)


def test_options_of_one_model_are_named_with_it_and_a_platform_of_its_own_calls_for_a_restart(tmp_path: Path) -> None:
    """The server refuses to give a model that is there another platform when it reads the list again."""
    found = changes(tmp_path, {"npu": {}}, {"npu": {}, "models": [A, {**B, "npu": {"mix_compile_mode": True}}]})
    assert described(found) == [
        ("models.b.platform: tensorflow -> tensorflow_2", RESTART),
        ("models.b.npu.mix_compile_mode: nothing -> true", RESTART),
    ]


def test_a_new_model_whose_options_the_server_does_not_have_yet_can_not_be_had_by_a_reload(tmp_path: Path) -> None:
    found = changes(tmp_path, {"npu": {}, "models": [A]}, {"npu": {}, "models": [A, {**B, "npu": False}]})
    assert described(found) == [("models.b: nothing -> /models/b", RESTART)]


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    found = changes(
        tmp_path, {"environment": {"AWS_SECRET_ACCESS_KEY": "one"}}, {"environment": {"AWS_SECRET_ACCESS_KEY": "two"}}
    )
    assert described(found) == [("AWS_SECRET_ACCESS_KEY: *** -> ***", RESTART)]
    assert "one" not in json.dumps([change.to_json() for change in found])


def test_files_that_nobody_can_read_any_more_count_as_changed_and_not_as_the_same(tmp_path: Path) -> None:
    after = rendered(tmp_path, {})
    for texts in ({}, {"config.cfg": None, "models.config": None}, {"config.cfg": "}", "models.config": "{"}):
        found = changes_between(texts, after)
        assert found[0] == DeploymentChange("config.cfg and models.config", "unknown", "changed", RESTART)


def test_of_many_models_a_few_are_named(tmp_path: Path) -> None:
    models = [{"name": f"m{index}", "base_path": "/m", "npu": False} for index in range(9)]
    changed = [{**model, "batching": {"max_batch_size": 8}} for model in models]
    found = described(changes(tmp_path, {"models": [A, *models]}, {"models": [A, *changed]}))
    assert ("models.m0, m1, m2 and 6 more.batching.max_batch_size: nothing -> 8", RESTART) in found
