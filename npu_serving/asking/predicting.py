"""What `predict` does with what it was given: read, checked against the model's signature, asked, and put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from npu_serving.asking.answers import ShownPrediction
from npu_serving.asking.given_requests import ARRAY, GivenKind, GivenRequest, json_stream
from npu_serving.asking.request import COLUMN, PredictRequest, read_request
from npu_serving.asking.waiting import said_while_waiting
from npu_serving.client.address import is_grpc
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE
from npu_serving.client.tls import Tls
from npu_serving.console import Reporter
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from npu_serving.asking.array_prediction import ArrayPrediction, ArrayPredictions
    from npu_serving.asking.array_server import ArrayAnswer, ArrayServer
    from npu_serving.asking.class_scores import ScoredClass
    from npu_serving.asking.image_run import ImageRun
    from npu_serving.asking.image_spec import ImageSpec

Answered = Union[ShownPrediction, "ArrayPrediction", "ArrayPredictions", "ImageRun"]
USUAL_TOP = 5
"""How many classes are shown where only a label file is given."""


@dataclass(frozen=True)
class ModelAtServer:
    """Which model of which server, and how it is reached."""

    url: str
    spec: ModelSpec
    timeout_s: float
    tls: Tls

    @property
    def is_grpc(self) -> bool:
        """Whether its gRPC API is asked."""
        return is_grpc(self.url)


@dataclass(frozen=True)
class Wishes:
    """How the request is made of what was given, and what is wanted of the answer. `top` is 0 for no classes."""

    cast: bool = False
    image_spec: ImageSpec | None = None
    batch_size: int | None = None
    most_megapixels: int | None = None
    labels: tuple[Path, ...] = ()
    label_offset: int = 0
    top: int = 0
    scores: str = ""
    output: Path | None = None
    is_kept: bool = False
    """Whether the request and its answer are to be kept, as of a golden request."""


@dataclass(frozen=True)
class AskedOnce:
    """What was answered, and what it takes to ask the same again: the request, or its inputs as a .npz file."""

    answered: Answered
    request: PredictRequest | None = None
    inputs_npz: bytes | None = None
    expected: object = None


def predict_given(server: ModelAtServer, given: GivenRequest, wishes: Wishes, reporter: Reporter) -> AskedOnce:
    """Asks the model for what was given. RequestError for what does not fit it, before anything is sent."""
    _refuse_without_effect(given, wishes)
    if given.kind is GivenKind.JSON and not (wishes.top or wishes.labels or wishes.output or wishes.cast):
        return _by_json(server, read_request(given.text, stdin=json_stream(given)), wishes, reporter)
    from npu_serving.asking.array_server import array_server

    with array_server(server.url, server.spec, timeout_s=server.timeout_s, tls=server.tls, cast=wishes.cast) as asked:
        _check_outputs(asked, wishes)
        if given.kind is GivenKind.IMAGES:
            return _by_images(asked, server.spec, given, wishes, reporter)
        return _by_arrays(asked, server.spec, given, wishes, reporter)


def _by_json(server: ModelAtServer, request: PredictRequest, wishes: Wishes, reporter: Reporter) -> AskedOnce:
    spec = replace(server.spec, signature_name=server.spec.signature_name or request.signature_name)
    request = replace(request, signature_name=spec.signature_name)
    with said_while_waiting(reporter, spec.name):
        if server.is_grpc:
            from npu_serving.asking import grpc_client

            answered = grpc_client.predict(server.url, spec, request, timeout_s=server.timeout_s, tls=server.tls)
        else:
            from npu_serving.asking import rest_client

            _check_for_rest(server.url, spec, request)
            answered = rest_client.predict(
                server.url, spec.name, request, version=spec.version, timeout_s=server.timeout_s
            )
    return AskedOnce(answered, request, None, answered.outputs)


def _check_for_rest(url: str, spec: ModelSpec, request: PredictRequest) -> None:
    """RequestError for values that the model does not take: the server itself would change some in silence.

    Of a model or a signature that the server doesn't have, it says itself what is wrong.
    """
    from npu_serving.asking import rest_client
    from npu_serving.asking.request_tensors import refuse_over_rest, request_tensors

    try:
        metadata = rest_client.model_metadata(url, spec.name, spec.version)
    except RequestError:
        return
    name = spec.signature_name or DEFAULT_SIGNATURE
    signature = next((item for item in metadata.signatures if item.name == name), None)
    if signature is not None:
        refuse_over_rest(signature)
        request_tensors(request, signature)


def _by_arrays(
    asked: ArrayServer, spec: ModelSpec, given: GivenRequest, wishes: Wishes, reporter: Reporter
) -> AskedOnce:
    """The requests that were given, one after the other."""
    from npu_serving.asking.array_files import npz_of
    from npu_serving.asking.array_prediction import ArrayPredictions

    answers = []
    kept: tuple[PredictRequest | None, bytes | None] = (None, None)
    requests = list(_requests(asked, given, cast=wishes.cast))
    if wishes.is_kept and len(requests) > 1:
        raise RequestError(
            f"{given.files[0].name} holds {len(requests)} requests, and a golden request is one.",
            cause="no number was given",
            cure=f"name one: --request {given.files[0].name}#1",
        )
    for of, request, inputs in requests:
        with said_while_waiting(reporter, spec.name):
            answered = asked.ask(inputs)
        answers.append(_prediction(asked, spec, answered, wishes, of if len(requests) > 1 else ""))
        kept = (request, npz_of(_stored(inputs)) if wishes.is_kept and request is None else None)
    for note in asked.notes:
        reporter.note(note)
    request, inputs_npz = kept
    if len(answers) > 1:
        return AskedOnce(ArrayPredictions(tuple(answers)))
    expected = _expected(answers[0].outputs) if wishes.is_kept else None
    empty = PredictRequest(COLUMN, None, spec.signature_name)
    return AskedOnce(answers[0], request or empty, inputs_npz, expected)


def _requests(
    asked: ArrayServer, given: GivenRequest, *, cast: bool
) -> Iterator[tuple[str, PredictRequest | None, Mapping[str, object]]]:
    """What each is called, the request where it is one of values, and its inputs."""
    from npu_serving.asking.array_files import read_arrays
    from npu_serving.asking.csv_requests import read_csv
    from npu_serving.asking.logged_requests import read_logged
    from npu_serving.asking.request_arrays import request_arrays

    signature = asked.signature
    if given.kind is GivenKind.ARRAYS:
        yield "", None, read_arrays(given.files, signature)
    elif given.kind is GivenKind.RECORDS:
        (file,) = given.files
        assert isinstance(file.source, Path)
        for logged in read_logged(file.source, file.number):
            if logged.signature not in ("", signature.name):
                raise RequestError(
                    f"Request {logged.number} of {file.name} asks the signature {logged.signature!r}.",
                    cause=f"{signature.name!r} is asked",
                    cure=f"--signature {logged.signature} --request {file.name}#{logged.number}",
                )
            name, values = f"{file.name}#{logged.number}", logged.values
            inputs = logged.inputs if values is None else request_arrays(values, signature, cast=cast)
            yield name, values and replace(values, signature_name=signature.name), inputs
    else:
        if given.kind is GivenKind.ROWS:
            assert isinstance(given.files[0].source, Path)
            request = read_csv(given.files[0].source, signature)
        else:
            request = read_request(given.text, stdin=json_stream(given))
        request = replace(request, signature_name=signature.name)
        yield "", request, request_arrays(request, signature, cast=cast)


def _prediction(asked: ArrayServer, spec: ModelSpec, answered: ArrayAnswer, wishes: Wishes, of: str) -> ArrayPrediction:
    from npu_serving.asking.array_prediction import ArrayPrediction
    from npu_serving.asking.class_scores import best_classes, rows_of_scores, scores_output
    from npu_serving.asking.label_files import read_labels

    best: list[tuple[ScoredClass, ...]] = []
    if wishes.top or wishes.labels:
        labels = read_labels(wishes.labels, wishes.label_offset)
        name = scores_output(asked.signature, wishes.scores)
        scores = rows_of_scores(name, answered.outputs[name])
        labels.check(scores.shape[1])
        best = best_classes(scores, wishes.top or USUAL_TOP, labels)
    return ArrayPrediction(spec.name, answered.version, answered.outputs, answered.seconds, tuple(best), of)


def _by_images(
    asked: ArrayServer, spec: ModelSpec, given: GivenRequest, wishes: Wishes, reporter: Reporter
) -> AskedOnce:
    from npu_serving.asking.array_files import npz_of
    from npu_serving.asking.image_inputs import batch_size_of, image_files, image_input
    from npu_serving.asking.image_run import ImageWork, ask_images
    from npu_serving.asking.images import MOST_MEGAPIXELS
    from npu_serving.asking.label_files import read_labels

    images, passed_over = image_files(given.files)
    names = {file.input for file in given.files}
    if len(names) > 1:
        raise RequestError(
            f"Images were given for several inputs: {', '.join(sorted(names))}.",
            cause="images make batches of one input",
            cure="give the inputs as arrays: --request FILE.npz",
        )
    taken = image_input(asked.signature, wishes.image_spec, names.pop(), wishes.most_megapixels or MOST_MEGAPIXELS)
    size = batch_size_of(taken, wishes.batch_size)
    if wishes.is_kept and len(images) > size:
        raise RequestError(
            f"A golden request is one request, and {len(images)} images are {-(-len(images) // size)} of them.",
            cause=f"a batch has {size}",
            cure="name fewer images, or a larger --batch-size",
        )
    labels = read_labels(wishes.labels, wishes.label_offset)
    top = wishes.top or (USUAL_TOP if wishes.labels else 0)
    is_kept = wishes.is_kept or wishes.output is not None or not top
    plan = ImageWork(images, taken, size, labels, top, wishes.scores, passed_over, keep_outputs=is_kept)
    if wishes.image_spec is None and not taken.takes_files:
        reporter.note("no --image-spec: images are stretched to the input's size, as RGB with values from 0 to 255")
    run = ask_images(asked, spec.name, plan, reporter)
    for note in asked.notes:
        reporter.note(note)
    if not wishes.is_kept:
        return AskedOnce(run)
    request = PredictRequest(COLUMN, None, spec.signature_name)
    return AskedOnce(run, request, npz_of(_stored(run.inputs)), _expected(run.whole_outputs))


def _stored(inputs: Mapping[str, object]) -> dict[str, NDArray[Any]]:
    """The inputs as arrays that NumPy's files hold."""
    import numpy as np

    return {name: np.asarray(getattr(value, "array", value)) for name, value in inputs.items()}


def _expected(outputs: Mapping[str, NDArray[Any]]) -> object:
    """The outputs as the REST API shows them: by name, those of a single one alone."""
    from npu_serving.asking.array_prediction import plain_values

    shown = {name: plain_values(array) for name, array in sorted(outputs.items())}
    return next(iter(shown.values())) if len(shown) == 1 else shown


def _refuse_without_effect(given: GivenRequest, wishes: Wishes) -> None:
    """RequestError for flags that mean nothing for what was given."""
    of_images = {
        "--image-spec": wishes.image_spec is not None,
        "--batch-size": wishes.batch_size is not None,
        "--max-megapixels": wishes.most_megapixels is not None,
    }
    flag = next((name for name, is_given in of_images.items() if is_given), "")
    if flag and given.kind is not GivenKind.IMAGES:
        raise RequestError(
            f"{flag} is for images, and {given.kind.value} was given.",
            cause="an image is known by its name (.jpg, .jpeg, .png and so on), a directory is one of images",
            cure=f"leave out {flag}, or name an image: --request photo.jpg",
        )
    if wishes.label_offset and not wishes.labels:
        raise RequestError("--label-offset has no effect without --labels.", cure="give the label file: --labels FILE")
    if wishes.scores and not (wishes.top or wishes.labels):
        raise RequestError("--scores has no effect without --top-k or --labels.", cure="add --top-k 5")


def _check_outputs(asked: ArrayServer, wishes: Wishes) -> None:
    """RequestError where the outputs can't be kept as asked, before anything is sent."""
    outputs = asked.signature.outputs
    if wishes.output is not None and wishes.output.suffix == ARRAY and len(outputs) != 1:
        raise RequestError(
            f"{wishes.output} can hold one output, and the signature has {len(outputs)}.",
            cause=f"they are {', '.join(info.name for info in outputs)}",
            cure=f"--output {wishes.output.with_suffix('.npz')}",
        )
