"""Requests that a person gives a load test: JSON, and files of it or of NumPy's arrays by name."""

from __future__ import annotations

from pathlib import Path

from npu_serving.asking.given_requests import ARRAY, IMAGES, RECORDS, ROWS, STANDARD_INPUT, WARM_UP_REQUESTS
from npu_serving.asking.request import PredictRequest, read_request
from npu_serving.errors import RequestError
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import task_argument

_ONLY_PREDICT = frozenset({ARRAY, *RECORDS, *ROWS, *IMAGES})


def read_given(model: str, source: str) -> tuple[str, PredictRequest]:
    """What the request is called, and the request.

    RequestError as read_request() raises it, and for files that `predict` alone takes, with the way by which their
    requests become those of a load test.
    """
    if source == STANDARD_INPUT:
        return "standard input", read_request(source)
    if source.lstrip()[:1] in ("[", "{"):
        return "the text given", read_request(source)
    path = Path(source.partition("#")[0])
    if path.suffix.lower() in _ONLY_PREDICT or path.name == WARM_UP_REQUESTS or ("\0" not in source and path.is_dir()):
        raise RequestError(
            f"A load test takes no file of this kind: {in_a_line(source)}.",
            cause="it takes JSON and .npz files, golden requests, and with --recorded what ./inv record has kept",
            cure=f"keep it as a golden request: ./inv predict {task_argument('--model', model)} --request FILE "
            "--save-golden NAME; then give --golden NAME",
        )
    return source, read_request(source)
