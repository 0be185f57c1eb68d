"""The scripts of new-script run in TensorFlow 1.15.0, with a stand-in for npu_bridge, and without one.

All of them run in one process. NPU_SERVING_TENSORFLOW_PYTHON names a Python 3.7 that has tensorflow==1.15.0.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.platform_config import read_platform_config
from npu_serving.deploy.rendering import rendered_files
from npu_serving.scripts.features import script_features
from npu_serving.scripts.new_script import ScriptRequest, new_script
from npu_serving.settings import PROJECT_ROOT, Settings

PYTHON = os.environ.get("NPU_SERVING_TENSORFLOW_PYTHON", "")
SUPPORT = PROJECT_ROOT / "tests/support"
TEXT = "ids:0;scope/mask:0"
MIX = ("modify_mixlist=mix.json",)
GEARS = ("dynamic_dims=2,3,2,3;1,4,1,4",)
RANGES = ("dynamic_inputs_shape_range=data:[1~8,3~5],[1~8,-1]",)
PAIR = ("in_out_pair=[[['gathered'],['product']]]",)
PROFILE = ('profiling_options={"output":"profile","task_trace":"on","aicpu":"on"}',)
DATA, SAVED = ("--data", "text.npz"), ("--save", "out.npz")
SCORE = {"outputs": "score"}

# name: (model, what new-script is asked for, what the script is given)
CASES: Mapping[str, tuple[str, Mapping[str, Any], Sequence[str]]] = {
    "session": ("text.pb", SCORE, DATA),
    "savedmodel": ("text/1", {}, ("--data", "signature.npz")),
    "checkpoint": ("ckpt/text", {}, DATA),
    "mixed-precision": ("text.pb", {**SCORE, "features": ["mixed-precision"], "options": MIX}, DATA),
    "mixed-computing": ("text.pb", {**SCORE, "features": ["mixed-computing"], "options": PAIR}, DATA),
    "profiling": ("text.pb", {**SCORE, "features": ["profiling"], "options": PROFILE}, DATA),
    "dump": ("text.pb", {**SCORE, "features": ["dump"], "options": ["dump_path=dumped"]}, DATA),
    "dump+profiling": (
        "text.pb",
        {**SCORE, "features": ["dump", "profiling"], "options": ["dump_path=dumped", *PROFILE]},
        DATA,
    ),
    "weight-update": (
        "ckpt/text",
        {**SCORE, "features": ["weight-update"]},
        (*DATA, "--weights", "text-new.npz", "--rounds", "2"),
    ),
    "weight-update of a SavedModel": (
        "text/1",
        {"features": ["weight-update", "mixed-precision"]},
        ("--data", "signature.npz", "--weights", "text-new.npz"),
    ),
    "weights that do not fit": (
        "ckpt/text",
        {**SCORE, "features": ["weight-update"]},
        (*DATA, "--weights", "text-wrong.npz"),
    ),
    "gears": ("text.pb", {**SCORE, "features": ["gears"], "options": GEARS}, DATA),
    "gears without data": ("text.pb", {**SCORE, "features": ["gears"], "options": GEARS}, ("--rounds", "4")),
    "a shape of no gear": (
        "text.pb",
        {**SCORE, "features": ["gears"], "options": ["dynamic_dims=3,3,3,3;4,4,4,4"]},
        DATA,
    ),
    "dataset": ("text.pb", {**SCORE, "features": ["dataset"]}, DATA),
    "dataset of a checkpoint": ("ckpt/text", {**SCORE, "features": ["dataset"]}, DATA),
    "dataset of a SavedModel": ("text/1", {"features": ["dataset"]}, ("--data", "signature.npz")),
    "dataset and fed": ("text.pb", {**SCORE, "features": ["dataset"], "fed": ["ids"]}, DATA),
    "gears+dataset": ("text.pb", {**SCORE, "features": ["gears", "dataset"], "options": GEARS}, ("--rounds", "3")),
    "subgraph-gears": (
        "begin.pb",
        {"features": ["subgraph-gears"], "parts": ["expanded=0:-1,-1,3=4,4;8,8"], "shapes": ["image=8,8,3"]},
        ("--rounds", "1"),
    ),
    "subgraph-gears to an end": (
        "begin.pb",
        {"features": ["subgraph-gears", "keep-dtypes"], "parts": ["expanded=0:-1,-1,3=4,4;8,8"]}
        | {"part_ends": ["turned"], "kept": ["shifted"], "shapes": ["image=4,4,3"]},
        (),
    ),
    "keep-dtypes": ("text.pb", {**SCORE, "features": ["keep-dtypes"], "kept": ["product", "score:0"]}, DATA),
    "graph-exec-config": ("text.pb", {**SCORE, "features": ["graph-exec-config"]}, DATA),
    "ranges": ("text.pb", {**SCORE, "features": ["graph-exec-config"], "options": RANGES}, DATA),
    "graph-exec-config+mixed-precision": (
        "text.pb",
        {**SCORE, "features": ["graph-exec-config", "mixed-precision", "keep-dtypes"], "kept": ["product"]},
        DATA,
    ),
    "images": (
        "image.pb",
        {"features": ["images"], "image_spec": "image.yaml"},
        ("--images", "images", "--labels", "labels.txt", "--label-offset", "-1"),
    ),
    "arguments": ("", {"inputs": "", "outputs": ""}, ()),
}
WITHOUT = {  # name: (case, further words); run where npu_bridge is not installed
    "without npu_bridge": ("session", ()),
    "broken npu_bridge": ("session", ()),
    "on the CPU": ("session", ("--cpu",)),
    "unknown argument": ("session", ("--fast",)),
    "no such model": ("session", ("--cpu", "--model", "missing.pb")),
    "another file": ("session", ("--cpu", "--model", "text.npz")),
    "no tensors": ("arguments", ("--model", "text.pb")),
    "help": ("session", ("--help",)),
    "open sizes": ("begin.pb without a part", ("--cpu",)),
}
PRESETS = ("mixed-precision", "mixed-computing", "dump")

pytestmark = pytest.mark.skipif(
    not PYTHON, reason="TensorFlow 1.15.0 is for Python 3.7, and NPU_SERVING_TENSORFLOW_PYTHON names none"
)


def written(place: Path, name: str) -> Path:
    model, asked, _ = CASES[name]
    named: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in asked.items()}
    path = place / f"{name.replace(' ', '-')}.py"
    new_script(ScriptRequest(model=place / model if model else None, **named), path, Settings())
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("scripts")
    made = subprocess.run(
        [PYTHON, "-W", "ignore", SUPPORT / "script_models.py", place], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    (place / "mix.json").write_text('{"black-list": {"to-add": ["Mul"]}}')
    (place / "image.yaml").write_text("{box: [0.1, 0.1, 0.9, 0.9], size: [4, 4], mean: [10], std: [2, 4, 8]}")
    (place / "images").mkdir()
    for count, name in enumerate(("red", "green", "blue")):
        colour = tuple(200 if place_of == count else 50 for place_of in range(3))
        Image.new("RGB", (9 + count, 7), colour).save(place / f"images/{name}.png")
    (place / "labels.txt").write_text("red.png 1\ngreen 2\nblue.png 1\n")
    return place


@pytest.fixture(scope="module")
def runs(place: Path) -> dict[str, Any]:
    """What each script did: its exit code, what it printed, the outputs that it saved, and what it ran with."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(place)
    scripts = {name: written(place, name) for name in CASES}
    scripts["begin.pb without a part"] = place / "begin.py"
    new_script(ScriptRequest(model=place / "begin.pb"), scripts["begin.pb without a part"], Settings())
    cases = []
    for name, (_, _, words) in CASES.items():
        saved = ("--save", f"{name}.npz")
        inputs = ("--model", "text.pb", "--input", "ids", "--input", "scope/mask:0", "--output", "s=score")
        more = (*inputs, *DATA) if name == "arguments" else ()
        cases.append({"name": name, "script": str(scripts[name]), "words": [*words, *more, *saved], "bridge": "there"})
    for name, (case, words) in WITHOUT.items():
        given = (*CASES[case][2], "--save", f"{name}.npz") if case in CASES else ()
        bridge = "broken" if name == "broken npu_bridge" else ""
        cases.append({"name": name, "script": str(scripts[case]), "words": [*given, *words], "bridge": bridge})
    (place / "cases.json").write_text(json.dumps(cases))
    argv = [PYTHON, "-W", "ignore", str(SUPPORT / "run_scripts.py"), str(place / "cases.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    monkeypatch.undo()
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for name, run in found.items():
        if (place / f"{name}.npz").is_file():
            with np.load(place / f"{name}.npz") as file:
                run["outputs"] = {key: file[key] for key in file.files}
    return found


def last(runs: Mapping[str, Any], name: str) -> dict[str, Any]:
    assert runs[name]["code"] == 0, runs[name]["said"]
    found: dict[str, Any] = runs[name]["runs"][-1]
    return found


def marked(runs: Mapping[str, Any], name: str, mark: str) -> Any:
    return last(runs, name)["marks"].get(mark, {})


SAME = [
    name
    for name, (model, _, words) in CASES.items()
    if model.rpartition("/")[2] in ("text.pb", "text", "1") and {"text.npz", "signature.npz"} & set(words)
]
REFUSED = ("weights that do not fit", "a shape of no gear")
UPDATED = ("weight-update", "weight-update of a SavedModel")


@pytest.mark.parametrize("name", [name for name in SAME if name not in (*REFUSED, *UPDATED)])
def test_a_script_answers_what_tensorflow_does(runs: dict[str, Any], place: Path, name: str) -> None:
    last(runs, name)
    with np.load(place / "text-expected.npz") as file:
        np.testing.assert_allclose(runs[name]["outputs"]["score"], file["score"], rtol=1e-6)


@pytest.mark.parametrize("name", UPDATED)
def test_new_weights_count_in_the_same_session_those_that_are_not_trained_too(
    runs: dict[str, Any], place: Path, name: str
) -> None:
    last(runs, name)
    assert "Updated by text-new.npz" in runs[name]["printed"]
    with np.load(place / "text-updated.npz") as file:
        np.testing.assert_allclose(runs[name]["outputs"]["score"], file["score"], rtol=1e-6)


def test_weights_of_another_model_are_refused_with_names_and_shapes(runs: dict[str, Any]) -> None:
    run = runs["weights that do not fit"]
    assert run["code"] == 2
    assert "the model has no variable other" in run["said"]
    assert "w is [10] float32, and the new value [9] float32" in run["said"]


@pytest.mark.parametrize("name", PRESETS)
def test_the_options_are_those_that_render_deployment_writes(runs: dict[str, Any], place: Path, name: str) -> None:
    run = last(runs, name)
    asked = {option.partition("=")[0]: option.partition("=")[2] for option in CASES[name][1]["options"]}
    file = place / f"{name}.yaml"
    model = {"name": "m", "base_path": "/m"}
    file.write_text(json.dumps({"version": 1, "models": [model], "presets": [name], "npu": asked}))
    text = rendered_files(read_deployment(file), Path("/etc"))["config.cfg"].text
    (optimizer,) = read_platform_config(file, text).optimizers
    made = {
        option: value.replace(" ", "") if isinstance(value, str) else value for option, value in run["options"].items()
    }
    assert made == {option: parameter.value for option, parameter in optimizer.items()}
    assert (run["remapping"], run["memory_optimization"]) == (2, 1)  # OFF, NO_MEM_OPT


def test_a_session_has_what_chapter_3_sets(runs: dict[str, Any]) -> None:
    run = last(runs, "session")
    assert run["options"] == {"use_off_line": True, "graph_run_mode": 0, "precision_mode_v2": "fp16"}
    assert len(runs["session"]["runs"]) == 10
    assert "First run: " in runs["session"]["printed"]
    assert "The 9 others: " in runs["session"]["printed"]


def test_directories_that_options_name_are_made_before_the_session(runs: dict[str, Any], place: Path) -> None:
    assert last(runs, "dump+profiling")["options"]["dump_path"] == "dumped"
    assert (place / "dumped").is_dir()
    assert (place / "profile").is_dir()


def test_gears_follow_from_the_model_in_the_adapters_order(runs: dict[str, Any]) -> None:
    options = last(runs, "gears")["options"]
    assert options["input_shape"] == "ids:-1,-1;scope_mask:-1,-1"
    assert (options["dynamic_dims"], options["dynamic_node_type"]) == ("2,3,2,3;1,4,1,4", 1)
    shapes = [run["fed"]["ids:0"] for run in runs["gears without data"]["runs"]]
    assert shapes == [[2, 3], [1, 4], [2, 3], [1, 4]]
    assert runs["a shape of no gear"]["code"] == 2
    assert "are those of no gear" in runs["a shape of no gear"]["said"]


def test_a_dataset_is_one_iterator_without_a_name_and_feeds_nothing(runs: dict[str, Any]) -> None:
    for name in ("dataset", "dataset of a checkpoint", "dataset of a SavedModel", "gears+dataset"):
        run = last(runs, name)
        assert run["nexts"] == ["IteratorGetNext"], name
        assert run["fed"] == {}, name
    assert last(runs, "gears+dataset")["options"]["dynamic_node_type"] == 0
    assert last(runs, "dataset and fed")["fed"] == {"ids:0": [2, 3]}


def test_a_part_with_gears_reaches_from_its_first_node_to_its_ends(runs: dict[str, Any]) -> None:
    whole = marked(runs, "subgraph-gears", "_subgraph_multi_dims_index")
    assert {"expanded", "turned", "shifted", "result"} <= set(whole)
    assert "image" not in whole
    part = marked(runs, "subgraph-gears to an end", "_subgraph_multi_dims_index")
    assert {name for name in part if "/" not in name} == {"expanded", "turned"}
    assert any(name.startswith("turned/") for name in part)  # the constant that only this needs
    assert marked(runs, "subgraph-gears", "_subgraph_multi_dims_input_shape") == {"expanded": "0:-1,-1,3"}
    assert marked(runs, "subgraph-gears", "_subgraph_multi_dims_input_dims") == {"expanded": "4,4;8,8"}


def test_operators_that_keep_their_types_are_marked_on_the_imported_graph(runs: dict[str, Any]) -> None:
    assert marked(runs, "keep-dtypes", "_keep_dtype") == {"product": 1, "score": 1}
    assert marked(runs, "session", "_keep_dtype") == {}


def test_settings_of_a_graph_are_on_what_is_fetched(runs: dict[str, Any]) -> None:
    assert marked(runs, "graph-exec-config", "_is_train_graph") == {"score": False}
    assert marked(runs, "graph-exec-config", "_graph_dynamic_input") == {"score": False}
    assert marked(runs, "ranges", "_graph_dynamic_input") == {"score": True}
    ranges = marked(runs, "ranges", "_graph_dynamic_inputs_shape_range")
    assert ranges == {"score": "data:[1~8,3~5],[1~8,-1]"}
    assert "dynamic_inputs_shape_range" not in last(runs, "ranges")["options"]


def test_images_are_asked_in_batches_of_the_models_size_and_what_fills_up_counts_nowhere(runs: dict[str, Any]) -> None:
    run = runs["images"]
    last(runs, "images")
    assert [each["fed"]["pixels:0"] for each in run["runs"]] == [[2, 4, 4, 3]] * 2
    raw = np.array([[50, 50, 200], [50, 200, 50], [200, 50, 50]], np.float32)  # blue, green, red
    np.testing.assert_allclose(run["outputs"]["logits"], (raw - 10) / [2, 4, 8], rtol=1e-5)
    assert "Top 1: 2 of 3 right (66.67 %)." in run["printed"]
    assert "images a second" in run["printed"]


def test_without_npu_bridge_it_is_said_how_to_get_it_and_the_code_is_4(runs: dict[str, Any]) -> None:
    run = runs["without npu_bridge"]
    assert run["code"] == 4
    assert "npu_bridge is not installed" in run["said"]
    assert "set_env.sh" in run["said"]


def test_an_npu_bridge_whose_libraries_are_missing_is_told_from_one_that_is_not_installed(runs: dict[str, Any]) -> None:
    run = runs["broken npu_bridge"]
    assert run["code"] == 4
    assert "npu_bridge can't be imported: cannot import name 'npu_bridge_handle'" in run["said"]
    assert "source CANN's set_env.sh" in run["said"]


def test_on_the_cpu_a_script_needs_no_npu_bridge_and_answers_the_same(runs: dict[str, Any], place: Path) -> None:
    assert runs["on the CPU"]["code"] == 0, runs["on the CPU"]["said"]
    with np.load(place / "text-expected.npz") as file:
        np.testing.assert_allclose(runs["on the CPU"]["outputs"]["score"], file["score"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("unknown argument", "unrecognized arguments: --fast"),
        ("no such model", "missing.pb"),
        ("another file", "can't be loaded"),
        ("no tensors", "required: --input, --output"),
        ("open sizes", "The size of image is not known"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(runs: dict[str, Any], name: str, said: str) -> None:
    assert runs[name]["code"] == 2, runs[name]
    assert said in runs[name]["said"]
    assert "Traceback" not in runs[name]["said"]


def test_a_script_without_a_model_takes_its_tensors_as_arguments(runs: dict[str, Any], place: Path) -> None:
    last(runs, "arguments")
    with np.load(place / "text-expected.npz") as file:
        np.testing.assert_allclose(runs["arguments"]["outputs"]["s"], file["score"], rtol=1e-6)
    assert runs["help"]["code"] == 0


def test_each_feature_is_in_a_script_that_is_run() -> None:
    used = {name for _, asked, _ in CASES.values() for name in asked.get("features", ())}
    assert used | {"session", "pb", "checkpoint", "savedmodel"} == set(script_features())
