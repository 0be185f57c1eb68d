"""`predict` of every kind of input, against real SavedModels in TensorFlow 1.15.0, over REST and gRPC."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorflow_server import TensorFlowServer

from npu_serving.asking.array_prediction import ArrayPrediction, ArrayPredictions
from npu_serving.asking.given_requests import sort_given
from npu_serving.asking.grpc_client import WITHOUT_FILES
from npu_serving.asking.image_run import ImageRun
from npu_serving.asking.image_spec import ImageSpec
from npu_serving.asking.predicting import AskedOnce, ModelAtServer, Wishes, predict_given
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.prediction_messages import encode_predict
from npu_serving.console import Silent
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.models.warm_up_file import framed
from npu_serving.wire_bytes import bytes_field

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"black": (0, 0, 0), "red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255,) * 3}
NAMES = list(COLOURS)
SPEC = ImageSpec(scale=1 / 255)
BOTH = pytest.mark.parametrize("api", ["rest", "grpc"])


def asked(
    server: TensorFlowServer, api: str, model: str, *given: str, signature: str = "", stdin: bytes = b"", **wishes: Any
) -> AskedOnce:
    url = server.rest_url if api == "rest" else server.grpc_url
    spec = ModelSpec(model, signature_name=signature)
    return predict_given(
        ModelAtServer(url, spec, 60, WITHOUT_FILES),
        sort_given(given, stdin=io.BytesIO(stdin)),
        Wishes(**wishes),
        Silent(),
    )


def outputs(*arguments: Any, **more: Any) -> dict[str, Any]:
    answered = asked(*arguments, **more).answered
    assert isinstance(answered, ArrayPrediction)
    return dict(answered.outputs)


def typed(server: TensorFlowServer, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "inv", "predict", *([] if "--url" in words else ["--url", server.rest_url]), *words],
        cwd=ROOT,
        env={**os.environ, "NPU_SERVING_VENV": sys.prefix},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of one colour each, in different sizes, and their label file as the guide has it."""
    directory = tmp_path_factory.mktemp("images")
    for at, (name, colour) in enumerate(COLOURS.items()):
        Image.new("RGB", (20 + at, 30 - at), colour).save(directory / f"{name}.png")
    (directory / "val_label.txt").write_text("".join(f"{name}.png {at}\n" for at, name in enumerate(NAMES)))
    (directory / "names.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return directory


# ---- arrays


@BOTH
def test_arrays_by_name_in_one_file_or_one_file_for_each_input_are_asked(
    tensorflow_server: TensorFlowServer, tmp_path: Path, api: str
) -> None:
    ids, mask = np.array([[1, 2], [3, 99]]), np.array([[1, 1], [0, 1]])
    np.savez(tmp_path / "both.npz", ids=ids, mask=mask)
    np.save(tmp_path / "ids.npy", ids)
    np.save(tmp_path / "mask.npy", np.asfortranarray(mask).astype(">i8"))
    expected = np.array([3 / 99, 1.0], np.float32)
    for given in (
        [str(tmp_path / "both.npz")],
        [f"ids={tmp_path / 'ids.npy'}", f"mask={tmp_path / 'mask.npy'}"],
    ):
        assert np.allclose(outputs(tensorflow_server, api, "ids_mask", *given)["score"], expected)
    piped = (tmp_path / "both.npz").read_bytes()
    assert np.allclose(outputs(tensorflow_server, api, "ids_mask", stdin=piped)["score"], expected)


@BOTH
def test_an_array_without_a_name_is_for_the_only_input_and_cast_where_nothing_is_lost(
    tensorflow_server: TensorFlowServer, tmp_path: Path, api: str
) -> None:
    np.save(tmp_path / "x.npy", np.array([1.0, 2.0]))  # float64, as NumPy has it
    found = outputs(tensorflow_server, api, "half_plus_two", str(tmp_path / "x.npy"))
    assert found["y"].dtype == np.float32
    assert found["y"].tolist() == [2.5, 3.0]
    np.save(tmp_path / "x.npy", np.array([1, 16777217]))
    with pytest.raises(RequestError, match="16777217"):
        asked(tensorflow_server, api, "half_plus_two", str(tmp_path / "x.npy"))
    forced = outputs(tensorflow_server, api, "half_plus_two", str(tmp_path / "x.npy"), cast=True)
    assert forced["y"].tolist() == [2.5, 8388610.0]


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"idz": [[1]], "mask": [[1]]}, "idz"),
        ({"ids": [[1]]}, "mask"),
        ({"ids": [1], "mask": [[1]]}, r"'ids' has the shape \[1\]"),
        ({"ids": [[1.5]], "mask": [[1]]}, "1.5"),
        ({"ids": [["a"]], "mask": [[1]]}, "ids"),
    ],
)
@BOTH
def test_what_does_not_fit_the_signature_is_refused_before_anything_is_sent(
    tensorflow_server: TensorFlowServer, tmp_path: Path, api: str, arrays: dict[str, Any], what: str
) -> None:
    np.savez(tmp_path / "x.npz", **{name: np.array(value) for name, value in arrays.items()})  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=what) as error:
        asked(tensorflow_server, api, "ids_mask", str(tmp_path / "x.npz"))
    assert "ids: DT_INT64 [-1, -1]" in str(error.value)
    assert tensorflow_server.requests("Predict") == tensorflow_server.requests("REST predict") == 0


@BOTH
def test_an_empty_batch_is_refused(tensorflow_server: TensorFlowServer, tmp_path: Path, api: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros(0, np.float32))
    with pytest.raises(RequestError, match="has no row"):
        asked(tensorflow_server, api, "half_plus_two", str(tmp_path / "x.npy"))


def test_half_precision_goes_by_grpc_to_the_bit_and_is_refused_over_rest(
    tensorflow_server: TensorFlowServer, tmp_path: Path
) -> None:
    values = np.array([[0.1, 65504, -6e-8, np.inf, 1, 2, 3, 4]], np.float16)
    np.save(tmp_path / "x.npy", values)
    found = outputs(tensorflow_server, "grpc", "echo_rows", str(tmp_path / "x.npy"), signature="half_8")
    assert found["y"].dtype == np.float16
    assert found["y"].tobytes() == values.tobytes()
    for given in (str(tmp_path / "x.npy"), "[[1, 2, 3, 4, 5, 6, 7, 8]]"):
        with pytest.raises(RequestError, match=r"DT_HALF|half") as error:
            asked(tensorflow_server, "rest", "echo_rows", given, signature="half_8")
        assert "grpc" in str(error.value).lower()
    assert tensorflow_server.requests("REST predict") == 0


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "can't be read"),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}", "read"),
        (b"PK\x03\x04 and no more", "can't be read"),
    ],
    ids=["empty", "a header that promises too much", "the beginning of an archive"],
)
def test_a_damaged_array_is_refused_by_its_name(
    tensorflow_server: TensorFlowServer, tmp_path: Path, content: bytes, what: str
) -> None:
    for name in ("x.npy", "x.npz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NpuServingError, match=what) as error:
            asked(tensorflow_server, "rest", "half_plus_two", str(tmp_path / name))
        assert name in error.value.what
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(RequestError, match="it could run a program"):
        asked(tensorflow_server, "rest", "half_plus_two", str(tmp_path / "objects.npy"))


# ---- CSV, JSON, records


@BOTH
def test_rows_of_a_csv_file_are_the_rows_of_the_batch(
    tensorflow_server: TensorFlowServer, tmp_path: Path, api: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("mask.0,ids.0,ids.1,mask.1\n1,1,2,1\n\n0,3,99,1\n")
    assert np.allclose(outputs(tensorflow_server, api, "ids_mask", str(path))["score"], [3 / 99, 1.0])
    path.write_text("anything\n1\nnan\n")
    found = outputs(tensorflow_server, api, "half_plus_two", str(path))["y"]
    assert found[0] == 2.5
    assert np.isnan(found[1])


@BOTH
def test_recorded_requests_are_asked_one_after_the_other_or_one_by_its_number(
    tensorflow_server: TensorFlowServer, tmp_path: Path, api: str
) -> None:
    path = tmp_path / "tf_serving_warmup_requests"
    requests = [encode_predict("another", {"x": np.array([number], np.float32)}) for number in (1, 2)]
    path.write_bytes(framed(bytes_field(6, bytes_field(1, request)) for request in requests))
    both = asked(tensorflow_server, api, "half_plus_two", str(path)).answered
    assert isinstance(both, ArrayPredictions)
    assert [float(each.outputs["y"][0]) for each in both.answers] == [2.5, 3.0]
    assert outputs(tensorflow_server, api, "half_plus_two", f"{path}#2")["y"].tolist() == [3.0]
    with pytest.raises(RequestError, match="has no request 3"):
        asked(tensorflow_server, api, "half_plus_two", f"{path}#3")
    path.write_bytes(framed([bytes_field(2, b"")]))
    with pytest.raises(RequestError, match=r"Record 1 of .* is not the log of a request for a prediction"):
        asked(tensorflow_server, api, "half_plus_two", str(path))


@pytest.mark.parametrize(
    ("dtype", "request_text"),
    [
        ("uint8", "[300]"),
        ("uint8", "[-1]"),
        ("int32", "[1.5]"),
        ("float", '["3"]'),
        ("float", "[true]"),
        ("float", "[16777217]"),
        ("bool", "[1]"),
        ("float", "[[1], [2, 3]]"),
    ],
)
@BOTH
def test_json_that_the_model_would_get_as_other_numbers_is_refused_with_one_verdict_for_both_apis(
    tensorflow_server: TensorFlowServer, api: str, dtype: str, request_text: str
) -> None:
    with pytest.raises(RequestError, match="he input 'x'"):
        asked(tensorflow_server, api, "echo_all", request_text, signature=dtype)
    assert tensorflow_server.requests("Predict") == tensorflow_server.requests("REST predict") == 0


def test_the_same_json_is_cast_where_that_is_asked_for(tensorflow_server: TensorFlowServer) -> None:
    for api in ("rest", "grpc"):
        found = outputs(tensorflow_server, api, "echo_all", "[16777217]", signature="float", cast=True)
        assert found["y"].tolist() == [16777216.0]


def test_nan_and_the_infinities_are_printed_as_strict_json(tensorflow_server: TensorFlowServer, tmp_path: Path) -> None:
    def strict(text: str) -> Any:
        def refuse(word: str) -> None:
            raise AssertionError(word)

        return json.loads(text, parse_constant=refuse)

    by_json = typed(tensorflow_server, "nan", "--json", text="[1, NaN]")
    assert by_json.returncode == 0, by_json.stderr
    rows = strict(by_json.stdout)["predictions"]
    assert [row["y"] for row in rows] == [[1.0, "NaN", "-Infinity"]] * 2
    assert rows[1]["echo"] == "NaN"
    np.save(tmp_path / "x.npy", np.array([np.nan], np.float32))
    by_array = typed(tensorflow_server, "nan", "--json", "--request", str(tmp_path / "x.npy"))
    assert strict(by_array.stdout)["outputs"] == {"echo": ["NaN"], "y": [[1.0, "NaN", "-Infinity"]]}


# ---- images


@BOTH
def test_images_of_a_directory_are_asked_in_batches_and_what_fills_up_the_last_one_counts_nowhere(
    tensorflow_server: TensorFlowServer, images: Path, api: str
) -> None:
    run = asked(
        tensorflow_server,
        api,
        "image",
        str(images),
        image_spec=SPEC,
        batch_size=2,
        labels=(images / "val_label.txt", images / "names.txt"),
    ).answered
    assert isinstance(run, ImageRun)
    assert [(answer.image.name, answer.best[0].name) for answer in run.answers] == [
        (f"{name}.png", name) for name in sorted(NAMES)
    ]
    assert (run.times.batches, run.times.filled_up, run.times.later_images) == (3, 1, 3)
    assert run.accuracy is not None
    assert (run.accuracy.images, run.accuracy.first, run.accuracy.among) == (5, 5, 5)
    assert run.passed_over == 2
    rate = run.times.images_per_second
    assert rate == pytest.approx(3 / run.times.later_seconds)
    assert run.exit_code == 0
    assert "5 images in 3 batches of 2, the last one filled up by 1 that are not counted" in run.text()
    assert "top-1 100.00% (5 of 5)" in run.text()


def test_wrong_labels_lower_the_accuracy_and_the_offset_is_added(
    tensorflow_server: TensorFlowServer, images: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("black.png 0\nred.png 0\ngreen.png 1\nblue.png 2\nwhite.png 3\n")
    run = asked(
        tensorflow_server, "grpc", "image", str(images), image_spec=SPEC, labels=(labels,), label_offset=1, top=2
    ).answered
    assert isinstance(run, ImageRun)
    assert run.accuracy is not None
    assert (run.accuracy.first, run.accuracy.most) == (4, 2)
    assert run.accuracy.to_json()["top1"] == 0.8


def test_one_batch_alone_has_no_rate_and_fewer_images_than_a_batch_are_all_counted(
    tensorflow_server: TensorFlowServer, images: Path
) -> None:
    run = asked(
        tensorflow_server, "grpc", "image", str(images / "red.png"), image_spec=SPEC, batch_size=4, top=1
    ).answered
    assert isinstance(run, ImageRun)
    assert (len(run.answers), run.times.filled_up, run.times.images_per_second) == (1, 3, None)
    assert run.answers[0].best[0].number == NAMES.index("red")
    assert "so there is no rate" in run.text()
    assert run.to_json()["images_per_second"] is None


def test_what_fills_up_a_batch_has_the_images_own_type(tensorflow_server: TensorFlowServer, images: Path) -> None:
    from npu_serving.client.prediction_messages import decode_predict_request

    asked(tensorflow_server, "grpc", "image", str(images / "red.png"), image_spec=SPEC, batch_size=3, top=1)
    _, inputs = decode_predict_request(tensorflow_server.last())
    assert inputs["image"].shape == (3, 8, 8, 3)
    assert inputs["image"].dtype == np.float32
    assert not inputs["image"][1:].any()


def test_an_image_that_can_not_be_decoded_is_named_and_left_out_and_the_run_ends_with_three(
    tensorflow_server: TensorFlowServer, images: Path, tmp_path: Path
) -> None:
    for name in ("red", "green"):
        (tmp_path / f"{name}.png").write_bytes((images / f"{name}.png").read_bytes())
    (tmp_path / "blue.png").write_bytes((images / "blue.png").read_bytes()[:50])
    (tmp_path / "page.jpg").write_text("<html>")
    (tmp_path / "sub").mkdir()
    run = asked(tensorflow_server, "grpc", "image", str(tmp_path), image_spec=SPEC, batch_size=2, top=1).answered
    assert isinstance(run, ImageRun)
    assert [answer.image.name for answer in run.answers] == ["green.png", "red.png"]
    assert [image.name for image, _ in run.failed] == ["blue.png", "page.jpg"]
    assert all(image.name in why for image, why in run.failed)
    assert (run.passed_over, run.exit_code, run.times.batches, run.times.filled_up) == (1, 3, 1, 0)
    for name in ("red", "green"):
        (tmp_path / f"{name}.png").unlink()
    with pytest.raises(RequestError, match=r"So it is with all of the 2 images"):
        asked(tensorflow_server, "grpc", "image", str(tmp_path), image_spec=SPEC)


def test_an_image_without_a_label_is_named_before_anything_is_asked(
    tensorflow_server: TensorFlowServer, images: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("reddish.png 1\nred.png 1\n")
    with pytest.raises(RequestError, match="4 of 5 images have no label"):
        asked(tensorflow_server, "grpc", "image", str(images), image_spec=SPEC, labels=(labels,))
    assert tensorflow_server.requests() == 0


@pytest.mark.parametrize(
    ("wishes", "what"),
    [
        ({"image_spec": ImageSpec(size=(9, 9))}, r"makes images of \[9, 9\], and the input 'image' has the height 8"),
        ({"image_spec": ImageSpec(channels="grey")}, "has 3 channels, and the image spec makes 1"),
        ({"image_spec": ImageSpec(layout="nchw")}, "has 8 channels, and the image spec makes 3"),
        ({"batch_size": 0}, "--batch-size can't be 0"),
        ({"image_spec": SPEC, "scores": "none", "top": 1}, "has no output 'none'"),
        ({"scores": "logits"}, "--scores has no effect"),
        ({"label_offset": 1}, "--label-offset has no effect"),
    ],
)
def test_a_spec_or_a_flag_that_does_not_fit_the_model_is_refused_before_anything_is_asked(
    tensorflow_server: TensorFlowServer, images: Path, wishes: dict[str, Any], what: str
) -> None:
    with pytest.raises(RequestError, match=what):
        asked(tensorflow_server, "grpc", "image", str(images), **wishes)
    assert tensorflow_server.requests() == 0


def test_images_are_refused_by_a_model_of_other_inputs_and_their_flags_by_other_requests(
    tensorflow_server: TensorFlowServer, images: Path
) -> None:
    with pytest.raises(RequestError, match="takes no batches of images"):
        asked(tensorflow_server, "grpc", "half_plus_two", str(images))
    with pytest.raises(RequestError, match="does not take an image alone"):
        asked(tensorflow_server, "grpc", "ids_mask", str(images))
    with pytest.raises(RequestError, match="--batch-size is for images, and JSON was given"):
        asked(tensorflow_server, "grpc", "half_plus_two", "[1]", batch_size=2)


def test_a_model_that_decodes_images_itself_gets_the_files(tensorflow_server: TensorFlowServer, images: Path) -> None:
    for api in ("rest", "grpc"):
        once = asked(tensorflow_server, api, "texts", str(images / "red.png"), str(images / "green.png"), batch_size=3)
        run = once.answered
        assert isinstance(run, ImageRun)
        echoed = run.outputs["echo"].tolist()
        assert [bytes(each) for each in echoed] == [(images / f"{name}.png").read_bytes() for name in ("red", "green")]


def test_a_cast_is_said_once(tensorflow_server: TensorFlowServer, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(3))
    done = typed(tensorflow_server, "half_plus_two", "--request", str(tmp_path / "x.npy"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is sent as float32") == 1


# ---- what is written


def test_outputs_are_written_in_their_own_type_with_a_row_for_each_image(
    tensorflow_server: TensorFlowServer, images: Path, tmp_path: Path
) -> None:
    spec = tmp_path / "image.yaml"
    spec.write_text("scale: 0.00392156862745098\n")
    words = ["image", "--request", str(images), "--image-spec", str(spec), "--batch-size", "2", "--json"]
    done = typed(tensorflow_server, *words, "--top-k", "1", "--output", str(tmp_path / "all.npz"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["output"] == str(tmp_path / "all.npz")
    with np.load(tmp_path / "all.npz") as found:
        assert (found["logits"].shape, found["logits"].dtype) == ((5, 5), np.float32)
        assert found["images"].tolist() == [f"{name}.png" for name in sorted(NAMES)]
    one = typed(tensorflow_server, "half_plus_two", "--request", "[1, 2]", "--output", str(tmp_path / "y.npy"))
    assert one.returncode == 0, one.stderr
    assert np.load(tmp_path / "y.npy").tolist() == [2.5, 3.0]
    for words, what in (
        (["half_plus_two", "--request", "[1]", "--output", str(tmp_path / "y.txt")], "in which format"),
        (["nan", "--request", "[1]", "--output", str(tmp_path / "y.npy")], "can hold one output"),
        (["half_plus_two", "--request", "[1]", "--output", str(tmp_path / "none" / "y.npy"), "--top-k=-1"], "--top-k"),
        (["image", "--request", "[1]", "--top-k", "0"], "--top-k can't be 0"),
        (["image", "--request", "[1]", "--url", "localhost:8500"], "grpc://HOST:8500"),
    ):
        refused = typed(tensorflow_server, *words)
        assert (refused.returncode, what in refused.stderr) == (2, True), refused.stderr


def test_scores_are_shown_as_the_best_classes_by_their_names(tensorflow_server: TensorFlowServer, images: Path) -> None:
    grey = [[[[0.5, 0.9, 0.1]] * 8] * 8]
    words = ["--request", json.dumps(grey), "--top-k", "2", "--labels", str(images / "names.txt")]
    done = typed(tensorflow_server, "image", *words)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["ROW", "CLASS", "NAME", "SCORE"]
    assert [line[-2] for line in lines[1:3]] == ["green", "white"]
