"""new-script: what is refused, by the rules of the guide and of the model; the file, and that Python reads each."""

from __future__ import annotations

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_messages import INT32, constant, graph, meta_graph, node, placeholder, saved_model, signature, tensor
from tiers import examples

from npu_serving.errors import NpuServingError, RequestError
from npu_serving.scripts import script_options
from npu_serving.scripts.features import script_features
from npu_serving.scripts.new_script import NewScript, ScriptRequest, new_script
from npu_serving.settings import Settings

NODES = (
    placeholder("ids", (-1, 128), INT32),
    placeholder("part/mask", (-1, 128)),
    placeholder("unused", ()),
    constant("axis", b"\0\0\0\0"),
    node("joined", "Mul", ["ids", "part/mask"]),
    node("expanded", "ExpandDims", ["joined", "axis"]),
    node("score", "Sum", ["expanded", "axis"]),
    node("nothing", "NoOp", ["^score"]),
)
GEARS = ("dynamic_dims=1,1;8,8",)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "frozen.pb"
    path.write_bytes(graph(NODES))
    return path


def made(model: Path | None, *features: str, force: bool = False, dry_run: bool = False, **asked: Any) -> NewScript:
    output = asked.pop("output", (model.parent if model is not None else Path()) / "infer.py")
    request = ScriptRequest(features=features, model=model, **asked)
    return new_script(request, output, Settings(), force=force, dry_run=dry_run)


def refused(model: Path | None, *features: str, **asked: Any) -> str:
    with pytest.raises(NpuServingError) as caught:
        made(model, *features, dry_run=True, **asked)
    assert caught.value.cure
    return str(caught.value)


def test_inputs_are_the_placeholders_that_the_outputs_need(model: Path) -> None:
    text = made(model).content
    assert '"ids": "ids:0",  # int32 [?, 128]' in text
    assert '"part/mask": "part/mask:0",  # float32 [?, 128]' in text
    assert '"unused"' not in text
    assert 'OUTPUTS = {\n    "score": "score:0",\n}' in text


def test_a_script_is_written_once_and_another_one_only_with_force(model: Path) -> None:
    first = made(model)
    assert first.changed
    assert first.path.stat().st_mode & 0o777 == 0o755
    assert not made(model).changed
    assert "is up to date" in made(model).text()
    with pytest.raises(RequestError, match="already there with different content"):
        made(model, "dump")
    assert made(model, "dump", force=True).changed


def test_a_dry_run_shows_the_script_and_writes_nothing(model: Path) -> None:
    shown = made(model, "dump", dry_run=True)
    assert not shown.path.exists()
    assert 'parameters["enable_dump"].b = True' in shown.text()
    assert shown.to_json()["options"]["enable_dump"] is True  # type: ignore[index]


def test_a_full_disk_leaves_nothing_behind(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NpuServingError, match="the disk is full"):
        made(model)
    assert [path.name for path in model.parent.iterdir()] == ["frozen.pb"]


@pytest.mark.parametrize("mode", ["precision_mode=must_keep_origin_dtype", "precision_mode_v2=origin"])
def test_keep_dtypes_is_refused_where_every_operator_keeps_its_type(model: Path, mode: str) -> None:
    said = refused(model, "keep-dtypes", kept=("score",), options=(mode,))
    assert "keep-dtypes has no effect with" in said
    assert "7.2" in said


def test_keep_dtypes_needs_nodes_of_the_model(model: Path) -> None:
    assert "needs --keep" in refused(model, "keep-dtypes")
    assert "perhaps score was meant" in refused(model, "keep-dtypes", kept=("scor",))
    assert 'KEPT = ("score:0",)' in made(model, "keep-dtypes", kept=("score",)).content


@pytest.mark.parametrize("features", [(), ("graph-exec-config",)])
def test_what_is_fetched_must_not_be_a_no_op(model: Path, features: tuple[str, ...]) -> None:
    said = refused(model, *features, outputs="nothing")
    assert "nothing is NoOp, an operation without a result" in said
    assert "7.3" in said


def test_ranges_go_to_the_graph_and_not_to_the_session_and_have_a_shape_for_each_input(model: Path) -> None:
    ranges = "dynamic_inputs_shape_range"
    script = made(model, "graph-exec-config", options=(f"{ranges}=data:[1~8,128],[1~8,128]",))
    assert ranges not in script.options
    assert f'{ranges}="data:[1~8,128],[1~8,128]"' in script.content
    assert "has 1 shapes in data, and the script has 2" in refused(
        model, "graph-exec-config", options=(f"{ranges}=data:[1~8,128]",)
    )
    assert "for the input ids" in refused(model, "graph-exec-config", options=(f"{ranges}=data:[1~8,64],[1~8,128]",))
    assert "commas" in refused(model, "graph-exec-config", options=(f"{ranges}=data:[1];[2];[3]",))


def test_gears_follow_from_the_model_and_need_their_sizes(model: Path) -> None:
    script = made(model, "gears", options=GEARS)
    assert script.options["input_shape"] == "ids:-1,128;part_mask:-1,128"
    assert script.options["dynamic_node_type"] == 1
    assert '{"ids": (8, 128), "part/mask": (8, 128)}' in script.content
    assert "needs dynamic_dims" in refused(model, "gears")
    assert "needs to know the model" in refused(None, "gears", options=GEARS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("dynamic_dims=1,1",), "one gear"),
        (("dynamic_dims=1;8",), "does not fit"),
        ((*GEARS, "input_shape=part_mask:-1,128;ids:-1,128"), "order"),
        ((*GEARS, "input_shape=ids:-1,64;part_mask:-1,128"), "its dimension 2 is 128"),
        ((*GEARS, "input_shape=ids:-1,128"), "has 1 entry"),
        ((*GEARS, "dynamic_node_type=0"), "has none"),
    ],
)
def test_gears_that_do_not_fit_the_model_are_refused(model: Path, options: tuple[str, ...], said: str) -> None:
    assert said in refused(model, "gears", options=options)


def test_only_one_kind_of_inputs_may_change_its_size(model: Path) -> None:
    said = refused(model, "gears", "dataset", fed=("ids",), options=("dynamic_dims=1;8",))
    assert "ids changes its size as well" in said
    assert "5.6" in said
    script = made(model, "gears", "dataset", options=GEARS)
    assert script.options["dynamic_node_type"] == 0
    assert 'FROM_DATASET = ["ids", "part/mask"]' in script.content


def test_a_dataset_needs_an_input_and_knows_those_that_are_fed(model: Path) -> None:
    assert "which is not an input" in refused(model, "dataset", fed=("other",))
    assert "No input comes from the dataset" in refused(model, "dataset", fed=("ids", "part/mask"))
    assert "needs to know the model" in refused(None, "dataset")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((), "needs --part"),
        (("expanded",), "is not NODE=SHAPES=GEARS"),
        (("expanded=ids:-1,3=1;2",), "not by names"),
        (("expanded=0:-1,3=1,2;3,4",), "has 1 sizes of -1 for expanded, and the gear 1,2"),
        (("expanded=0:-1,3=1",), "one gear"),
        (("expanded=0:4,3=1;2",), "has 0 sizes of -1"),
        (("expanded=0:-1,3;0:-1,3=1,1;2,2",), "an input of expanded twice"),
        (("expanded=0:-1,3=1;2", "joined=0:-1;1:-1=1,1;2,2;3,3"), "different numbers of gears"),
        (("expanded=0:-1,3=1;2", "expanded=0:-1,3=1;2"), "twice"),
        (("joined=0:-1,3=1;2",), "has the inputs 0 of joined, and it has 0, 1"),
        (("expanded=0:-1,3;5:2=1;2",), "has the inputs 0, 5 of expanded"),
        (("other=0:-1,3=1;2",), "not a node of the model"),
    ],
)
def test_the_rules_of_a_part_with_gears_are_kept(model: Path, parts: tuple[str, ...], said: str) -> None:
    assert said in refused(model, "subgraph-gears", parts=parts)


@pytest.mark.parametrize(
    ("features", "options", "said"),
    [
        (("mixed-precision",), ("precision_mode=force_fp16",), "contradicts the precision force_fp16"),
        ((), ("in_out_pair=[[['ids'],['score']]]",), "mix_compile_mode is not true"),
        ((), ("precision_mode=fp15",), "precision_mode"),
        ((), ("modify_mixlist=m.json",), "without a mixed precision"),
        ((), ("graph_run_mode=1",), "graph_run_mode"),
        ((), ("determinstic=1",), "NpuOptimizer has no option"),
        ((), ("deterministic=yes",), "must be a whole number"),
        ((), ("mix_compile_mode=1",), "must be true or false"),
        ((), ("deterministic",), "is not NAME=VALUE"),
        ((), ("deterministic=1", "deterministic=0"), "given twice"),
        (("mixed-computing",), ("in_out_pair=[[['other'],['none']]]",), "the model does not have"),
    ],
)
def test_options_are_judged_by_the_same_rules_as_those_of_a_deployment(
    model: Path, features: tuple[str, ...], options: tuple[str, ...], said: str
) -> None:
    shown = refused(model, *features, options=options)
    assert said in shown
    assert "whole server" not in shown


def test_mixed_precision_takes_the_older_name_where_it_is_asked_for(model: Path) -> None:
    script = made(model, "mixed-precision", options=("precision_mode=allow_mix_precision", "modify_mixlist=m.json"))
    assert "precision_mode_v2" not in script.options
    assert 'FILES = {"modify_mixlist": "m.json"}' in script.content


def test_the_precision_stands_in_the_option_that_an_older_adapter_reads(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script_options, "is_older", lambda _settings: True)
    assert made(model).options["precision_mode"] == "force_fp16"
    mixed = made(model, "mixed-precision", force=True)
    assert mixed.options["precision_mode"] == "allow_mix_precision"
    assert "precision_mode_v2" not in mixed.options


def test_the_rules_are_those_of_the_release_that_is_installed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("modify_mixlist=m.json",)
    assert made(model, "mixed-precision", options=options).options["precision_mode_v2"] == "mixed_float16"
    monkeypatch.setattr(script_options, "_release", lambda _settings: "6.3.RC2.alpha003")
    said = refused(model, "mixed-precision", options=options)
    assert "write precision_mode allow_mix_precision, which every release takes" in said
    made(model, "mixed-precision", options=(*options, "precision_mode=allow_mix_precision"), force=True)


def test_a_warning_of_the_rules_is_a_note(model: Path) -> None:
    script = made(model, "mixed-computing", options=("in_out_pair=[[['ids','other'],['score']]]",))
    assert any("1 of 3 operators" in note for note in script.notes)
    assert "Note: " in script.text()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"inputs": "idz"}, "perhaps ids was meant"),
        ({"inputs": "ids;ids:0"}, "twice"),
        ({"inputs": "ids:x"}, "names no tensor"),
        ({"outputs": "other"}, "not a node of the model"),
        ({"tags": ("serve",)}, "has no tags"),
        ({"shapes": ("ids=1,64",)}, "it is int32 [?, 128]"),
        ({"shapes": ("other=1",)}, "which is not an input"),
        ({"shapes": ("ids",)}, "is not NAME=SIZES"),
        ({"part_ends": ("score",)}, "without the feature subgraph-gears"),
        ({"image_spec": "resnet50"}, "without the feature images"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(model: Path, asked: dict[str, Any], said: str) -> None:
    assert said in refused(model, **asked)


def test_a_graph_with_many_ends_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "frozen.pb"
    path.write_bytes(graph([placeholder("x", (1,)), *(node(f"y{count}", "Neg", ["x"]) for count in range(9))]))
    said = refused(path)
    assert "does not say what its outputs are" in said
    assert "9 nodes are taken by no other: y0, y1" in said
    assert made(path, outputs="y3;last=y4:0").content.count('"last": "y4:0"') == 1


def test_a_saved_model_is_asked_by_the_names_of_its_signature(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    for version in ("1", "2"):
        (directory / version).mkdir(parents=True)
        predict = signature({"text": tensor("ids:0", (-1, 128), INT32)}, {"answer": tensor("score:0", None)})
        body = saved_model(meta_graph(graph(NODES), {"serving_default": predict}))
        (directory / version / "saved_model.pb").write_bytes(body)
    script = made(directory, output=tmp_path / "infer.py")
    assert '"text": "ids:0",  # int32 [?, 128]' in script.content
    assert str(directory / "2") in script.content
    assert "it has serving_default" in refused(directory, signature="other", output=tmp_path / "o.py")
    assert "--tag serve" in refused(directory, tags=("train",), output=tmp_path / "o.py")


def test_a_checkpoint_without_its_graph_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "model.index").write_bytes(b"")
    assert "is a checkpoint without model.meta" in refused(tmp_path / "model", output=tmp_path / "infer.py")


def test_images_are_prepared_as_predict_does_it_or_it_is_said_what_differs(model: Path, tmp_path: Path) -> None:
    text = made(model, "images", image_spec="resnet50").content
    assert "[0.1, 0.1, 0.9, 0.9]" in text
    assert "pixels = pixels - [121.0, 115.0, 100.0]" in text
    assert "pixels = tf.cast(pixels, tf.float16)" in text
    (tmp_path / "fit.yaml").write_text("resize: fit")
    assert "does not prepare images with resize fit" in refused(model, "images", image_spec=str(tmp_path / "fit.yaml"))


@pytest.mark.parametrize(
    ("version", "said"), [("", "TensorFlow can't be imported"), ("2.21.0", "This is TensorFlow 2.21.0, and TF Adapter")]
)
def test_without_tensorflow_1_15_a_script_ends_with_4_and_says_what_to_install(
    model: Path, tmp_path: Path, version: str, said: str
) -> None:
    (tmp_path / "tensorflow.py").write_text(f"__version__ = {version!r}" if version else "raise ImportError('none')")
    argv = [sys.executable, str(made(model).path)]
    done = subprocess.run(argv, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (4, "")
    assert said in done.stderr
    assert "Next: " in done.stderr
    assert "Traceback" not in done.stderr


def test_scripts_are_written_as_a_careful_person_would(model: Path, tmp_path: Path) -> None:
    more: dict[str, dict[str, Any]] = {
        "gears": {"options": GEARS},
        "subgraph-gears": {"parts": ("expanded=0:-1,3=1;2",)},
        "keep-dtypes": {"kept": ("score",)},
        "mixed-computing": {"options": ("in_out_pair=[[['ids'],['score']]]",)},
        "images": {"image_spec": "resnet50"},
        "profiling": {"options": ('profiling_options={"output":"profile"}',)},
    }
    names = sorted(set(script_features()) - {"checkpoint", "savedmodel", "weight-update"})
    for name in names:
        made(model, name, output=tmp_path / f"{name}.py", **more.get(name, {}))
    made(model, "dataset", "gears", "dump", output=tmp_path / "several.py", options=GEARS, fed=())
    made(None, "weight-update", output=tmp_path / "weights.py")
    made(None, "savedmodel", output=tmp_path / "saved.py")
    for words in (("check", "--isolated", "--select=E,F,W,I", "--ignore=E501"), ("format", "--isolated", "--check")):
        argv = [sys.executable, "-m", "ruff", *words, "--line-length=120", "--target-version=py37", tmp_path]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    lambda name: not set(name) & set(":;=^")
)


@settings(max_examples=examples(25, 3000))
@given(
    NAMES, NAMES, st.sets(st.sampled_from(sorted(set(script_features()) - {"checkpoint", "savedmodel"})), max_size=4)
)
def test_every_script_is_one_that_python_reads_whatever_names_are_in_it(
    tmp_path_factory: pytest.TempPathFactory, first: str, second: str, features: set[str]
) -> None:
    place = tmp_path_factory.mktemp("any")
    model = place / "frozen.pb"
    nodes = [placeholder(f"{first}1", (2, 3)), node(f"{second}2", "Neg", [f"{first}1"])]
    model.write_bytes(graph(nodes))
    asked: dict[str, Any] = {}
    if "keep-dtypes" in features:
        asked["kept"] = (f"{second}2",)
    if "subgraph-gears" in features:
        asked["parts"] = (f"{second}2=0:-1,3=2;4",)
    try:
        script = made(model, *sorted(features), dry_run=True, **asked)
    except RequestError:
        return  # features that exclude each other, or names that are taken for something else
    tree = ast.parse(script.content, feature_version=(3, 7))
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    assert ast.literal_eval(values["INPUTS"]) == {f"{first}1": f"{first}1:0"}
    assert ast.literal_eval(values["OUTPUTS"]) == {f"{second}2": f"{second}2:0"}
