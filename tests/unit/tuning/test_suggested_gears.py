"""suggest-gears: what is written into a deployment fits the model and the adapter, and the figures are right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from model_messages import INT64, graph, meta_graph, placeholder, saved_model, signature, tensor
from recordings import of_rest, recorded

from npu_serving.console import Silent
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.deploy.gear_checks import gear_shapes
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.models.saved_model import read_saved_model
from npu_serving.tuning.suggested_gears import SuggestedGears, suggest_gears

LENGTHS = {5: 30, 7: 10, 40: 4, 64: 1}


def counted(place: Path, *requests: tuple[Mapping[str, Sequence[int]], int]) -> Path:
    path = place / "counts.json"
    items = [{"shapes": shapes, "requests": count} for shapes, count in requests]
    path.write_text(json.dumps({"version": 1, "requests": items}))
    return path


def texts(place: Path, lengths: Mapping[int, int] = LENGTHS) -> Path:
    """Requests with ids and a mask of the same length, and a scalar."""
    return counted(place, *(({"ids": [1, n], "mask": [1, n], "scale": []}, count) for n, count in lengths.items()))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose nodes are in another order than their names in requests."""
    nodes = {"ids": ("net/z_ids", [-1, -1]), "mask": ("net/a_mask", [-1, -1]), "scale": ("scale", [])}
    of = signature(
        {name: tensor(f"{node}:0", sizes, INT64) for name, (node, sizes) in nodes.items()}, {"y": tensor("y:0", [-1])}
    )
    directory = tmp_path / "texts/1"
    directory.mkdir(parents=True)
    placeholders = [placeholder(node, sizes, INT64) for node, sizes in nodes.values()]
    directory.joinpath("saved_model.pb").write_bytes(
        saved_model(meta_graph(graph(placeholders), {"serving_default": of}))
    )
    return tmp_path / "texts"


@pytest.fixture
def deployment(tmp_path: Path, model: Path) -> Path:
    path = tmp_path / "deployment.yaml"
    path.write_text(f"version: 1\nmodels:\n  - name: texts   # the only one\n    base_path: {model}\nnpu: {{}}\n")
    return path


def suggested(file: Path, **words: object) -> SuggestedGears:
    return suggest_gears([file], Silent(), **words)  # type: ignore[arg-type]


def test_what_is_written_fits_the_model_input_by_input_and_is_read_back_as_it_was_meant(
    tmp_path: Path, model: Path, deployment: Path
) -> None:
    found = suggested(texts(tmp_path), deployment=deployment, most=2)
    written = read_deployment(deployment)
    options = written.npu_of(written.models[0])
    assert options is not None
    assert options["input_shape"] == "net_a_mask:1,-1;net_z_ids:1,-1;scale:0"
    assert options["dynamic_dims"] == "7,7;64,64"
    (of_model,) = read_saved_model(model / "1/saved_model.pb")
    assert gear_shapes(options, of_model.signatures["serving_default"]) == [
        {"mask": (1, 7), "ids": (1, 7), "scale": ()},
        {"mask": (1, 64), "ids": (1, 64), "scale": ()},
    ]
    assert "# the only one" in deployment.read_text()
    assert f"# suggest-gears: {found.text().splitlines()[0]}" in deployment.read_text()


def test_padding_is_what_is_computed_beyond_what_was_asked_for(tmp_path: Path) -> None:
    document = suggested(counted(tmp_path, ({"x": [2]}, 3), ({"x": [4]}, 1), ({"x": [8]}, 5)), most=2).to_json()
    assert document["gears"] == [
        {"shapes": {"x": [2]}, "requests": 3, "padding": 0.0},
        {"shapes": {"x": [8]}, "requests": 6, "padding": 0.083333},
    ]
    assert document["padding"] == round(4 / 54, 6)
    more = suggested(counted(tmp_path, ({"x": [2]}, 3), ({"x": [4]}, 1), ({"x": [8]}, 5)))
    assert more.by_number == ((2, 54.0), (3, 50.0))
    assert more.to_json()["padding"] == 0.0


def test_a_second_run_replaces_what_the_first_wrote_and_a_dry_run_writes_nothing(
    tmp_path: Path, deployment: Path
) -> None:
    before = deployment.read_bytes()
    assert "would be written" in suggested(texts(tmp_path), deployment=deployment, dry_run=True).text()
    assert deployment.read_bytes() == before
    suggested(texts(tmp_path), deployment=deployment, most=3)
    suggested(texts(tmp_path), deployment=deployment, most=2)
    assert deployment.read_text().count("# suggest-gears: 45 requests") == 1
    assert deployment.read_text().count("dynamic_dims") == 1


def test_shapes_come_from_recorded_requests_of_the_model_that_is_meant(tmp_path: Path) -> None:
    def body(length: int) -> bytes:
        return json.dumps({"inputs": {"x": [[0] * length]}}).encode()

    requests = [of_rest(body(length)) for length in (3, 3, 9)] + [of_rest(body(4), "other")]
    path = recorded(tmp_path / "requests.rec", *requests)
    with pytest.raises(RequestError, match=r"m \(serving_default\), other \(serving_default\)") as caught:
        suggested(path)
    assert caught.value.cure == "--model NAME"
    found = suggested(path, model="m")
    assert found.options == {"input_shape": "x:1,-1", "dynamic_dims": "3;9", "dynamic_node_type": 1}
    assert found.seen.requests == 3


def test_a_shape_that_never_came_fits_where_it_is_to(tmp_path: Path) -> None:
    found = suggested(texts(tmp_path), most=3, cover=["ids:4,100"])
    assert found.options["input_shape"] == "ids:-1,-1;mask:1,-1;scale:0"
    assert str(found.options["dynamic_dims"]).endswith(";4,100,100")


def test_one_shape_needs_no_gears_and_two_are_never_fewer_than_two(tmp_path: Path) -> None:
    assert "no gears are needed" in suggested(texts(tmp_path, {7: 3})).text()
    found = suggested(texts(tmp_path, {7: 3}), cover=["ids:1,5"])
    assert found.options["dynamic_dims"] == "5;7"


@pytest.mark.parametrize("most", [0, 1, 101])
def test_no_graph_has_fewer_gears_than_two_or_more_than_a_hundred(tmp_path: Path, most: int) -> None:
    with pytest.raises(RequestError, match=f"--most can't be {most}") as caught:
        suggested(texts(tmp_path), most=most)
    assert "from 2 to 100" in caught.value.cure


def test_dimensions_that_change_apart_have_gears_of_pairs(tmp_path: Path) -> None:
    file = counted(tmp_path, ({"x": [2, 3]}, 5), ({"x": [9, 3]}, 5), ({"x": [2, 50]}, 5))
    found = suggested(file, most=3)
    assert found.options == {"input_shape": "x:-1,-1", "dynamic_dims": "2,3;9,3;2,50", "dynamic_node_type": 1}


def test_requests_that_lack_an_input_are_left_out_and_counted(tmp_path: Path) -> None:
    file = counted(tmp_path, ({"x": [2], "y": [1]}, 5), ({"x": [4], "y": [1]}, 5), ({"x": [7]}, 2))
    found = suggested(file)
    assert (found.seen.requests, found.options["dynamic_dims"]) == (10, "2;4")
    assert "2 requests with other inputs than most are left out" in found.text()
    file = counted(tmp_path, ({"x": [2], "y": [1]}, 5), ({"x": [7]}, 1))
    text = suggested(file).text()
    assert "5 requests with one shape\n1 request with other inputs than most is left out" in text


@pytest.mark.parametrize("size", [0, -1, 2**31, 10**30])
def test_requests_with_a_size_that_no_gear_has_are_left_out_and_counted(tmp_path: Path, size: int) -> None:
    found = suggested(counted(tmp_path, ({"x": [size, 3]}, 5), ({"x": [2, 3]}, 1), ({"x": [4, 3]}, 1)))
    assert (found.seen.requests, found.options["dynamic_dims"]) == (2, "2;4")
    assert "5 requests with a size below 1 or above 2147483647 are left out" in found.text()
    with pytest.raises(RequestError, match="No request has shapes that a gear can have"):
        suggested(counted(tmp_path, ({"x": [size]}, 5)))


def test_more_requests_than_anything_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NpuServingError, match="must be a whole number"):
        suggested(counted(tmp_path, ({"x": [2]}, 10**400), ({"x": [3]}, 1)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"cover": ["ids"]}, "--cover can't be 'ids'"),
        ({"cover": ["idz:1,5"]}, "the input 'idz', which no request has"),
        ({"cover": ["ids:5"]}, "has 1 sizes, and ids has 2 dimensions"),
        ({"cover": ["ids:0,5"]}, "a size of 0, which no gear has"),
        ({"model_path": Path("/nowhere")}, "/nowhere does not exist"),
    ],
)
def test_what_can_not_be_meant_is_said(tmp_path: Path, words: dict[str, object], message: str) -> None:
    with pytest.raises(NpuServingError, match=message):
        suggested(texts(tmp_path), **words)


def test_other_numbers_of_dimensions_and_other_inputs_than_the_models_are_refused(tmp_path: Path, model: Path) -> None:
    with pytest.raises(RequestError, match="came with 1 and 2 dimensions"):
        suggested(counted(tmp_path, ({"x": [2]}, 1), ({"x": [2, 3]}, 1)))
    with pytest.raises(RequestError, match="No signature of the model has the inputs of the requests: x") as caught:
        suggested(counted(tmp_path, ({"x": [2]}, 1), ({"x": [3]}, 1)), model_path=model)
    assert "serving_default: ids, mask, scale" in caught.value.cause


@pytest.mark.parametrize(
    ("npu", "message"),
    [(None, "The CPU serves texts"), ({"mix_compile_mode": True}, "mix_compile_mode: true")],
)
def test_a_deployment_in_which_gears_can_not_stand_is_left_as_it_is(
    tmp_path: Path, deployment: Path, npu: object, message: str
) -> None:
    text = deployment.read_text().replace("npu: {}\n", f"npu: {json.dumps(npu)}\n" if npu else "")
    deployment.write_text(text)
    with pytest.raises(RequestError, match=message):
        suggested(texts(tmp_path), deployment=deployment)
    assert deployment.read_text() == text


def test_the_batching_of_a_server_is_told_what_the_gears_need(tmp_path: Path, deployment: Path) -> None:
    deployment.write_text(deployment.read_text() + "server: {batching: {max_batch_size: 8}}\n")
    file = counted(tmp_path, *(({"ids": [n, 4], "mask": [n, 4], "scale": []}, 1) for n in (1, 8)))
    assert "allowed_batch_sizes" in suggested(file, deployment=deployment, dry_run=True).text()
