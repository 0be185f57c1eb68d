"""convert-om with stand-ins for ATC and AOE that check their command lines as the real ones' references say."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from om_compilers import PREDICT, calls, make_cann_with_compilers, write_model

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import write_golden
from npu_serving.asking.golden_places import golden_directory
from npu_serving.asking.request import PredictRequest
from npu_serving.cann.install import find_installation
from npu_serving.console import Silent
from npu_serving.conversion import convert_om as module
from npu_serving.conversion import om_golden
from npu_serving.conversion.convert_om import OmPlan, convert_om, plan_conversion
from npu_serving.conversion.om_request import OmRequest
from npu_serving.errors import (
    DiskFullError,
    MissingToolError,
    ModelFileError,
    NpuServingError,
    ProgramError,
    RequestError,
    ServerError,
)
from npu_serving.models.checkpoint import open_checkpoint
from npu_serving.models.graph_def import read_graph_def_file
from npu_serving.models.saved_model import read_saved_model
from npu_serving.settings import Settings
from npu_serving.trials.smoke_result import GoldenOutcome

STEP = "compile_model"
CHIP = "Ascend910B4"


class Site:
    """A model `m` of x float (-1, 4) and n int32 () -> y = x + x, b = -n, a CANN with stand-ins, and a build root."""

    def __init__(self, place: Path) -> None:
        self.place, self.out = place, place / "models" / "m_om"
        self.settings = Settings(build_root=place / "build", dist_root=place / "dist")
        self.cann = make_cann_with_compilers(place / "cann")
        self.model = place / "m"
        write_model(self.model / "1")

    def plan(self, output: Path | None = None, **flags: Any) -> OmPlan:
        given: dict[str, Any] = {"input_shape": "x:2,4", "soc_version": CHIP, **flags}
        mine = {
            name: given.pop(name)
            for name in ("version", "signature", "keep_log", "tags", "golden", "build")
            if name in given
        }
        request = OmRequest(**given)
        installation = find_installation(str(self.cann))
        return plan_conversion(self.settings, installation, self.model, output or self.out, request, **mine)

    def converted(self, **flags: Any) -> module.ConvertedOm:
        return convert_om(self.settings, self.plan(**flags), Silent())

    def left(self) -> list[str]:
        """What stands below the models and the build root, logs aside."""
        places = [self.place / "models", self.place / "build"]
        found = [path for place in places for path in place.rglob("*") if path.suffix != ".log"]
        return sorted(str(path.relative_to(self.place)) for path in found if path.name not in ("logs", "compiling"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in list(os.environ):
        if name.startswith(("ASCEND", "OM_STAND_IN")):
            monkeypatch.delenv(name)
    return Site(tmp_path)


def test_the_servable_has_the_operator_the_om_and_the_signature_of_before(site: Site) -> None:
    made = site.converted()
    (graph,) = read_saved_model(made.directory / "saved_model.pb")
    assert graph.graph.operators["LoadAndExecuteOm"] == 1
    signature = graph.signatures["serving_default"]
    assert signature.method_name == PREDICT
    assert {name: spec.describe() for name, spec in signature.inputs.items()} == {
        "images": "float32 [2, 4]",
        "n": "int32 []",
    }
    assert {name: spec.data_type for name, spec in signature.outputs.items()} == {"y": "float32", "b": "int32"}
    checkpoint = open_checkpoint(made.directory / "variables" / "variables")
    checkpoint.verify()
    (om,) = checkpoint.read("om")
    assert om.startswith(b"IMOD")
    record = json.loads((made.directory / "assets.extra/conversion.json").read_text())
    assert record["om"]["size_bytes"] == len(om)
    assert record["compiler"]["command"] == calls(site.cann)[-1].split()
    assert set(record["source"]["sha256"]) == {"saved_model.pb"}
    assert site.left() == [
        "models/m_om",
        "models/m_om/1",
        "models/m_om/1/assets.extra",
        "models/m_om/1/assets.extra/conversion.json",
        "models/m_om/1/saved_model.pb",
        "models/m_om/1/variables",
        "models/m_om/1/variables/variables.data-00000-of-00001",
        "models/m_om/1/variables/variables.index",
    ]
    assert not list((site.place / "build/logs").iterdir())


def test_the_command_line_is_exactly_the_one_that_is_run(site: Site) -> None:
    plan = site.plan(dynamic_batch_size="1,2,4,8", input_shape="")
    assert plan.words == (
        "--framework=3",
        "--model=frozen.pb",
        "--output=model",
        f"--soc_version={CHIP}",
        "--input_shape=x:-1,4",
        "--dynamic_batch_size=1,2,4,8",
        "--out_nodes=b:0;y:0",
    )
    assert plan.command in plan.text()
    convert_om(site.settings, plan, Silent())
    assert calls(site.cann) == [f"atc {' '.join(plan.words)}"]
    assert site.left()


def test_the_graph_that_is_compiled_has_what_the_outputs_need_and_no_devices(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Path] = []
    real = getattr(module, STEP)

    def compile_model(compiler: Any, words: Any, directory: Path, *others: Any) -> Any:
        kept.append(fsutil.make_directory(site.place / "kept"))
        fsutil.copy_file(directory / "frozen.pb", kept[0] / "frozen.pb")
        return real(compiler, words, directory, *others)

    monkeypatch.setattr(module, STEP, compile_model)
    site.converted()
    graph = read_graph_def_file(kept[0] / "frozen.pb")
    assert [node.name for node in graph.nodes] == ["x", "n", "y", "b"]
    assert not any(node.device for node in graph.nodes)
    shape = graph.by_name["x"].value("shape")
    assert shape is not None
    assert shape.value == (2, 4)


def test_case_37_the_compiler_is_called_for_good_gears_only(site: Site) -> None:
    bad: list[dict[str, Any]] = [
        {"input_shape": ""},
        {"input_shape": "x:-1,4", "dynamic_batch_size": "4"},
        {"input_shape": "", "dynamic_batch_size": ",".join(map(str, range(1, 102)))},
        {"input_shape": "", "dynamic_batch_size": "1,2", "dynamic_image_size": "2,2;4,4"},
    ]
    for flags in bad:
        with pytest.raises(RequestError):
            site.plan(**flags)
    assert calls(site.cann) == []
    site.converted(input_shape="x:-1,4", dynamic_batch_size="1,2,4,8")
    with_dims = site.converted(input_shape="x:-1,4", dynamic_dims="1;8")
    assert [call.split()[0] for call in calls(site.cann)] == ["atc", "atc"]
    assert "--input_format=ND" in calls(site.cann)[1]
    assert "chooses gears of the batch alone" in with_dims.text()


def test_tuning_is_done_by_aoe_without_a_chip(site: Site) -> None:
    made = site.converted(profiling="2", soc_version="", aoe_args=("--device=0",))
    (call,) = calls(site.cann)
    assert call.startswith("aoe --framework=3 --model=frozen.pb --output=model --job_type=2 ")
    assert call.endswith("--device=0")
    assert made.record["soc_version"] is None


def test_versions_are_counted_up_and_none_is_replaced(site: Site) -> None:
    assert [site.converted().version, site.converted().version, site.converted(version=7).version] == [1, 2, 7]
    with pytest.raises(RequestError, match="Version 7 is there already"):
        site.plan(version=7)


def test_several_at_once_do_not_collide(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [site.plan(), site.plan(input_shape="x:3,4")]
    scratches = []
    real = getattr(module, STEP)

    def run(compiler: Any, words: Any, directory: Path, *others: Any) -> Any:
        scratches.append(directory)
        if len(scratches) == 1:
            assert convert_om(site.settings, plans[1], Silent()).version == 1
        return real(compiler, words, directory, *others)

    monkeypatch.setattr(module, STEP, run)
    assert convert_om(site.settings, plans[0], Silent()).version == 2
    assert len(set(scratches)) == 2


def test_half_inputs_and_output_types_change_the_signature_as_well(site: Site) -> None:
    made = site.converted(input_fp16_nodes="images", output_type="y:0:FP16")
    assert "--output_type=y:0:FP16 --input_fp16_nodes=x" in calls(site.cann)[0]
    (graph,) = read_saved_model(made.directory / "saved_model.pb")
    signature = graph.signatures["serving_default"]
    assert signature.inputs["images"].data_type == signature.outputs["y"].data_type == "float16"
    assert signature.outputs["b"].data_type == "int32"


def test_new_inputs_and_outputs_choose_a_part(site: Site) -> None:
    made = site.converted(new_input_nodes="k:DT_FLOAT:x", new_output_nodes="twice:y", input_shape="x:5,4")
    (graph,) = read_saved_model(made.directory / "saved_model.pb")
    signature = graph.signatures["serving_default"]
    assert list(signature.inputs) == ["k"]
    assert list(signature.outputs) == ["twice"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"new_input_nodes": "k:DT_INT32:x"}, "x:0 is of the type float32"),
        ({"new_input_nodes": "k:DT_INT:x"}, "DT_INT"),
        ({"new_input_nodes": "k:DT_FLOAT:z"}, "no node 'z'"),
        ({"new_output_nodes": "k:y:1"}, "y:1"),
        ({"new_input_nodes": "k:DT_FLOAT:x"}, "depend on n"),
        ({"new_output_nodes": "k:x"}, "Nothing is left to compile"),
        ({"input_fp16_nodes": "z"}, "--input-fp16-nodes names 'z'"),
        ({"output_type": "FP12"}, "FP12"),
        ({"signature": "other"}, "no signature 'other'"),
        ({"tags": ("train",)}, "no graph with the tags train"),
        ({"soc_version": "Ascend999"}, "not a chip that this CANN can compile for"),
        ({"soc_version": "910B4"}, "not the name of a chip"),
        ({"method_name": "/tensorflow/serving/predict"}, "--method-name"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_compiler_runs(
    site: Site, flags: dict[str, Any], said: str
) -> None:
    with pytest.raises(RequestError) as caught:
        site.plan(**flags)
    assert said in str(caught.value)
    assert caught.value.cure
    assert not calls(site.cann)


def test_a_model_without_a_method_needs_one(site: Site) -> None:
    fsutil.remove(site.model)
    write_model(site.model / "1", method="")
    with pytest.raises(RequestError, match="--method-name"):
        site.plan()
    assert site.plan(method_name=PREDICT).model.signature.method_name == PREDICT


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ("exit", ProgramError, "E19999"),
        ("killed", ProgramError, "SIGKILL"),
        ("no-om", ProgramError, "left no om"),
        ("empty", ProgramError, "left an empty om"),
        ("cut", ModelFileError, "cut off"),
        ("float16", ModelFileError, "as float16, and the signature has it as"),
    ],
)
def test_a_compiler_that_fails_leaves_its_log_and_nothing_else(
    site: Site, monkeypatch: pytest.MonkeyPatch, wrong: str, error: type[NpuServingError], said: str
) -> None:
    monkeypatch.setenv("OM_STAND_IN", wrong)
    with pytest.raises(error) as caught:
        site.converted()
    assert said in str(caught.value)
    assert site.left() == []
    (log,) = (site.place / "build/logs").iterdir()
    assert "start working now" in log.read_text()


def test_what_the_compiler_prints_is_explained(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OM_STAND_IN", "exit")
    monkeypatch.setenv("OM_STAND_IN_SAYS", "E19010: No parser is registered for Op [decode, optype [DecodeJpeg]].")
    with pytest.raises(ProgramError) as caught:
        site.converted()
    assert "can't read the operator DecodeJpeg of the node decode" in caught.value.cause
    assert "--new-input-nodes" in caught.value.cure


def test_an_option_that_the_compiler_refuses_is_named_with_its_code(site: Site) -> None:
    with pytest.raises(ProgramError) as caught:
        site.converted(atc_args=("--precision_mode=force_fp17",))
    assert "E10001" in caught.value.cause
    assert "force_fp17" in caught.value.cause


def test_the_inputs_are_given_in_the_order_that_the_om_has_them_in(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def kinds(made: module.ConvertedOm) -> object:
        graph = read_saved_model(made.directory / "saved_model.pb")[0].graph
        return graph.by_name["load_and_execute_om"].inputs

    straight = kinds(site.converted())
    monkeypatch.setenv("OM_STAND_IN", "reordered")
    turned = kinds(site.converted())
    assert straight == ("x_as_the_om_was_compiled", "n_as_the_om_was_compiled", "om/read")
    assert turned == ("n_as_the_om_was_compiled", "x_as_the_om_was_compiled", "om/read")


@pytest.mark.parametrize("at", range(12))
def test_a_full_disk_leaves_nothing_behind(site: Site, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    plan, left, real = site.plan(), [at], os.fsync

    def fsync(file: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        convert_om(site.settings, plan, Silent())
    except DiskFullError as error:
        is_whole = (site.out / "1" / "saved_model.pb").exists()  # only its name was not made sure of
        assert site.left() == [] or (is_whole and "could not be made" in error.what)
    else:
        assert left[0] >= 0, "the disk was full, and nothing was said"


@pytest.mark.parametrize("step", ["_freeze", "compile_model", "fitted_to", "write_om_servable", "_check_written"])
def test_an_interruption_at_any_step_leaves_nothing_behind(
    site: Site, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    real: Callable[..., object] = getattr(module, step)

    def interrupted(*arguments: object) -> object:
        real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        site.converted()
    assert site.left() == []


def test_a_model_that_is_replaced_while_it_is_read_is_not_compiled(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces_of = "graph_pieces"
    real = getattr(module, pieces_of)

    def replaced(part: Any) -> Any:
        pieces = real(part)
        fsutil.remove(site.model)
        write_model(site.model / "1", method="of another")
        return pieces

    monkeypatch.setattr(module, pieces_of, replaced)
    with pytest.raises(ModelFileError, match="replaced or changed while it was read"):
        site.converted()
    assert not calls(site.cann)
    assert site.left() == []


def test_a_graph_that_is_too_large_for_protobuf_is_refused_with_the_way_out(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST_GRAPH", 10)
    with pytest.raises(RequestError) as caught:
        site.converted()
    assert "reads at most 10" in caught.value.what
    assert "--new-input-nodes" in caught.value.cure
    assert not calls(site.cann)
    assert site.left() == []


def test_a_chip_that_was_found_is_said(site: Site) -> None:
    fsutil.remove(site.cann)
    make_cann_with_compilers(site.cann, soc_versions=("Ascend310P3",))
    plan = site.plan(soc_version="")
    assert "It is compiled for Ascend310P3, the only chip that this CANN has a configuration for." in plan.text()


def test_without_cann_the_error_says_how_to_get_the_compiler(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    fsutil.remove(site.cann / "ascend-toolkit/latest/bin")
    with pytest.raises(MissingToolError) as caught:
        site.plan()
    assert "Ascend-cann-toolkit" in caught.value.cure


def test_the_model_is_named_by_its_version_or_the_directory_of_its_versions(site: Site) -> None:
    write_model(site.model / "12")
    assert site.plan().model.directory == site.model / "12"
    site.model = site.model / "1"
    assert site.plan().model.directory == site.model


def test_a_frozen_graph_is_sent_to_convert_pb(site: Site, tmp_path: Path) -> None:
    site.model = tmp_path / "frozen.pb"
    site.model.write_bytes(b"\n\0")
    with pytest.raises(RequestError) as caught:
        site.plan()
    assert caught.value.cure.endswith(f"./inv convert-pb {site.model} --output models/frozen")


@pytest.fixture
def golden(site: Site) -> str:
    """A golden request of the model, by its name."""
    directory = fsutil.make_directory(golden_directory(site.settings.dist_root))
    request = PredictRequest("inputs", {"images": [[1, 2, 3, 4]], "n": 1})
    write_golden(
        directory, GoldenRequest("one", "m", request, expected={"y": [[2, 4, 6, 8]]}, model_base_path=str(site.model))
    )
    return "one"


@pytest.mark.parametrize(
    ("why", "status", "said"),
    [("", 0, "one is answered as before"), ("y[0]: 2 is 3", 3, "not answered as before: y[0]: 2 is 3")],
)
def test_golden_requests_are_asked_of_the_servable_itself(
    site: Site, golden: str, monkeypatch: pytest.MonkeyPatch, why: str, status: int, said: str
) -> None:
    def smoke(_settings: Any, build: str, _reporter: Any, requests: list[GoldenRequest]) -> Any:
        (asked,) = requests
        assert (build, asked.model) == ("B", "m")
        assert (Path(asked.model_base_path) / "1" / "saved_model.pb").samefile(site.out / "1" / "saved_model.pb")
        return SimpleNamespace(outcomes=(GoldenOutcome(asked, why),))

    monkeypatch.setattr(om_golden, "smoke", smoke)
    made = convert_om(site.settings, site.plan(golden=[golden], build="B"), Silent())
    assert made.exit_code == status
    assert said in made.text()
    assert "compiling" not in " ".join(site.left())


def test_a_server_without_the_operator_is_said_to_be_the_reason(
    site: Site, golden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def smoke(*_arguments: Any) -> None:
        raise ServerError("m is not available: Op type not registered 'LoadAndExecuteOm' in binary running on h.")

    monkeypatch.setattr(om_golden, "smoke", smoke)
    made = convert_om(site.settings, site.plan(golden=[golden]), Silent())
    assert made.exit_code == 3
    assert "lacks LoadAndExecuteOm" in made.text()
    assert made.directory.is_dir()


def test_a_golden_request_that_is_not_there_is_refused_before_anything_is_compiled(site: Site, golden: str) -> None:
    with pytest.raises(RequestError, match="no golden request 'two'"):
        site.plan(golden=["two"])
    assert not calls(site.cann)


def test_an_adapter_of_cann_6_0_is_warned_of(site: Site) -> None:
    fsutil.remove(site.cann)
    make_cann_with_compilers(site.cann, "6.0.RC1")
    assert "can't load this servable" in site.plan().text()
