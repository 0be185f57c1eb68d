"""The requests that are recorded for the warm-up of a version: whether the server would load the model with them.

Any that fails keeps the model out (saved_model_warmup.cc); so does a file that can't be read, or is too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.client.predict_wire import request_in_log, split_request
from npu_serving.client.tensor_message import split_tensor
from npu_serving.errors import ModelFileError
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding, as_finding
from npu_serving.model_checks.examined import ExaminedGraph
from npu_serving.model_checks.naming import MODEL_FILE, Naming, listed
from npu_serving.models.attribute_values import type_number
from npu_serving.models.saved_model import ModelSignature, TensorSpec
from npu_serving.models.warm_up_file import WARM_UP_FILE, records_in, warm_up_trouble
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import BYTES, MalformedMessageError, fields, tag, text_of
from npu_serving.writers.shell import shell_word

WARM_UP = "warm-up"
_DEFAULT_SIGNATURE = "serving_default"
_CLASSIFY, _REGRESS, _MULTI, _SESSION_RUN, _PREDICT = 2, 3, 4, 5, 6  # of prediction_log.proto
_OUTPUTS = 3  # of PredictRequest
_OTHER_PLACES = (Path("assets") / WARM_UP_FILE.name, Path(WARM_UP_FILE.name), Path("variables") / WARM_UP_FILE.name)
_MOST_FINDINGS = 5


@dataclass(frozen=True)
class WarmUpRequest:
    """A recorded request for a prediction: its number in the file, the signature it asks, its inputs' shapes."""

    number: int
    signature: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]


def check_warm_up_file(directory: Path, naming: Naming) -> tuple[bool, list[Finding]]:
    """Whether there is a file of requests that can be read, and what is wrong with it as a file."""
    path = directory / WARM_UP_FILE
    if not path.is_file():
        misplaced = [directory / each for each in _OTHER_PLACES if (directory / each).is_file()]
        return False, [_misplaced(each, path) for each in misplaced]
    trouble = warm_up_trouble(path)
    if trouble:
        what = f"{path} would keep the server from loading the model: {trouble}."
        return False, [Finding(what, naming.warm_up, kind=MODEL_FILE, where=str(path))]
    return True, []


def _misplaced(there: Path, path: Path) -> Finding:
    what = f"{there} is not where a server looks for the requests of its warm-up, and would be passed over"
    cure = f"mkdir -p {shell_word(path.parent)} && mv {shell_word(there)} {shell_word(path)}"
    return Finding(f"{what}.", cure, WARNING, WARM_UP, str(there))


def check_warm_up_requests(model: ExaminedGraph, naming: Naming) -> tuple[tuple[WarmUpRequest, ...], list[Finding]]:
    """The recorded requests, and which of them the model would refuse."""
    path = model.directory / WARM_UP_FILE
    if path.stat().st_size > fsutil.READ_WHOLE_BYTES:
        what = f"{path} has more than {fsutil.READ_WHOLE_BYTES >> 20} MB, and its requests are not looked into."
        return (), [Finding(what, "", NOTE, WARM_UP, str(path))]
    requests: list[WarmUpRequest] = []
    found: list[Finding] = []
    try:
        for number, record in enumerate(records_in(path), start=1):
            try:
                trouble, severity = _trouble(model, number, memoryview(record), requests)
            except MalformedMessageError as error:
                trouble, severity = f"is damaged ({error})", PROBLEM
            if trouble and len(found) < _MOST_FINDINGS:
                effect = "the server would not load the model" if severity == PROBLEM else "the server may not load it"
                what = f"Record {number} of {path} {trouble}: {effect}."
                found.append(Finding(what, naming.warm_up, severity, WARM_UP, str(path)))
    except ModelFileError as error:
        found.append(as_finding(error, MODEL_FILE, str(path)))
    return tuple(requests), found


def _trouble(model: ExaminedGraph, number: int, record: memoryview, requests: list[WarmUpRequest]) -> tuple[str, str]:
    """What is wrong with a PredictionLog, "" for nothing, and how sure it is; adds what it asks to `requests`."""
    kinds = [
        key >> 3 for key, _, _ in fields(record) if key >> 3 in (_CLASSIFY, _REGRESS, _MULTI, _SESSION_RUN, _PREDICT)
    ]
    if not kinds:
        return ("", NOTE) if len(record) == 0 else ("asks nothing, and is passed over", WARNING)
    if kinds[-1] == _SESSION_RUN:
        return "is a call of a session, which a server does not replay", PROBLEM
    if kinds[-1] != _PREDICT:
        return "", NOTE
    request = request_in_log(record)
    spec, inputs = split_request(request)
    name = spec.signature_name or _DEFAULT_SIGNATURE
    signature = model.saved.signatures.get(name)
    if signature is None:
        there = listed([in_a_line(each) for each in model.signatures]) or "none at all"
        return f"asks the signature {in_a_line(name)}, and the model has {there}", PROBLEM
    if set(inputs) != set(signature.inputs):
        wanted = listed([in_a_line(each) for each in sorted(signature.inputs)])
        given = listed([in_a_line(each) for each in sorted(inputs)]) or "none"
        return f"gives the inputs {given}, and {in_a_line(name)} takes {wanted}", PROBLEM
    unknown = _unknown_outputs(request, signature)
    if unknown:
        return f"asks for the output {listed(unknown)}, which {in_a_line(name)} does not have", PROBLEM
    shapes = []
    for alias, content in sorted(inputs.items()):
        parts = split_tensor(content)
        shapes.append((alias, parts.shape))
        spec_of_input = signature.inputs[alias]
        if not spec_of_input.others and parts.data_type.number != _number(spec_of_input):
            given = parts.data_type.name
            return f"gives {given} for the input {in_a_line(alias)}, which is {spec_of_input.data_type}", PROBLEM
        if not _fits(parts.shape, spec_of_input.shape):
            return (
                f"gives {list(parts.shape)} for the input {in_a_line(alias)}, which is {spec_of_input.describe()}",
                WARNING,
            )
    requests.append(WarmUpRequest(number, name, tuple(shapes)))
    return "", NOTE


def _unknown_outputs(request: memoryview, signature: ModelSignature) -> list[str]:
    asked = [text_of(inner) for key, _, inner in fields(request) if key == tag(_OUTPUTS, BYTES)]
    return [in_a_line(each) for each in asked if each not in signature.outputs]


def _number(spec: TensorSpec) -> int:
    try:
        return type_number(spec.data_type)
    except ValueError:
        return 0


def _fits(given: tuple[int, ...], wanted: tuple[int, ...] | None) -> bool:
    if wanted is None:
        return True
    return len(given) == len(wanted) and all(size in (-1, own) for size, own in zip(wanted, given))
