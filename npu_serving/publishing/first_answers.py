"""Whether a version that is loaded answers: AVAILABLE says no more than that it was read."""

from __future__ import annotations

from dataclasses import replace

from npu_serving.asking import grpc_client, rest_client
from npu_serving.asking.golden_places import RECORD
from npu_serving.client.model_spec import ModelSpec
from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError, ServerError
from npu_serving.publishing.destination import Destination
from npu_serving.serving.first_request import first_requests
from npu_serving.serving.golden_request import golden_requests
from npu_serving.serving.server_apis import ServerApis
from npu_serving.settings import Settings

_NEVER_ANSWERS = ("uninitialized", "NodeDef mentions attr", "Op type not registered")
"""What a server says of a model that no request can be answered by, whatever is in it."""


def answered_by(settings: Settings, place: Destination, version: int, reporter: Reporter) -> str:
    """What the version has answered to the model's golden requests, in a sentence; zeros where there are none.

    ServerError where a golden request is not answered, and where no request could be. An answer other
    than the recorded one is said, and fails nothing: it is another model.
    """
    assert place.server is not None
    record = place.server.record
    assert record is not None
    apis = ServerApis(record.rest_api_port, record.grpc_port)
    own = place.deployment.golden if place.deployment is not None else None
    golden = golden_requests(settings, place.deployment).of(place.model, "" if own else str(place.base))
    if not golden:
        return _of_zeros(apis, place.model, version)
    others = []
    with reporter.progress(
        f"asking version {version} of {place.model}", total=len(golden), unit="requests"
    ) as progress:
        for done, each in enumerate(golden):
            progress.update(done, detail=each.name)
            try:
                answer = apis.ask(replace(each, version=version, label=""))
            except NpuServingError as error:
                raise ServerError(
                    f"Version {version} of {place.model} does not answer the golden request {each.name}: {error.what}",
                    cause="the model takes other inputs, or can't be run by this server",
                    cure=f"give it the inputs of the former version, or record the request again: {RECORD}",
                ) from error
            difference = each.difference(answer.outputs)
            others += [f"{each.name}: {difference}"] if difference else []
    count = "its golden request is" if len(golden) == 1 else f"its {len(golden)} golden requests are"
    if others:
        return f"It answers; {count} answered otherwise than recorded ({'; '.join(others[:3])})."
    return f"It answers: {count} answered as recorded."


def _of_zeros(apis: ServerApis, model: str, version: int) -> str:
    try:
        if apis.rest_url:
            metadata = rest_client.model_metadata(apis.rest_url, model, version)
        else:
            metadata = grpc_client.model_metadata(apis.grpc_url, ModelSpec(model, version))
        first = next((each for each in first_requests(metadata, ()) if each.request is not None), None)
        if first is None or first.request is None:
            return "It was not asked: no golden request is recorded for it, and zeros can't be made for its inputs."
        apis.predict(ModelSpec(model, version), first.request, over_grpc=first.needs_grpc)
    except NpuServingError as error:
        if any(words in error.what for words in _NEVER_ANSWERS):
            raise ServerError(
                f"Version {version} of {model} is loaded, and no request can be answered by it: {error.what}",
                cause="its variables were not copied with it, or it was exported by a newer TensorFlow",
                cure="export it again, or copy it with its directory variables",
            ) from error
        return f"It was asked for zeros, and refused them ({error.what}); record a golden request: {RECORD}."
    return "It answers (zeros: no golden request is recorded for it)."
