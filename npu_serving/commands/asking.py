"""Asking a server for predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, check_timeout, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.asking.image_spec import ImageSpec
    from npu_serving.cli import Result
    from npu_serving.deploy.deployment_file import DeploymentFile

GRPC_PORT, SERVER = 8500, "http://localhost:8501"


@command(
    kinds={
        "version": int,
        "timeout": int,
        "ca": Path,
        "cert": Path,
        "key": Path,
        "deployment": Path,
        "batch_size": int,
        "top_k": int,
        "max_megapixels": int,
        "output": Path,
    },
    help={
        "model": "the model's name",
        "request": "JSON, or a file: .json, .npz, .npy, .csv, .tfrecord, an image, a directory of them; NAME=FILE for "
        "one input (repeatable); standard input by default",
        "url": f"where its REST API is, {SERVER} by default; or grpc://HOST:{GRPC_PORT}, grpcs:// with TLS",
        "version": "the version to ask; the newest by default",
        "label": "the label of the version to ask, over gRPC",
        "signature": "the signature to ask; serving_default by default",
        "cast": "send numbers as the input's type even where that changes them",
        "image_spec": "how images are prepared: a YAML file, or resnet50 or mobilenet as Huawei's guide does it",
        "deployment": "a deployment.yaml that says it (preprocess), and where golden requests are",
        "batch_size": "of images: how many are asked at once; as the model fixes it, or 1, by default",
        "max_megapixels": "of an image that is decoded; 64 by default",
        "top_k": "show so many of the best classes of each row; 5 by default with --labels",
        "labels": "the names of the classes, or the right class of each image, such as val_label.txt (repeatable)",
        "label_offset": "what is added to the numbers of the labels, such as 1 for a class of the background",
        "scores": "the output with the scores of the classes, where several could be",
        "output": "write the outputs to this file as well, .npy or .npz",
        "save_golden": "keep request and answer as the golden request of that name",
        "ca": "with TLS, the certificates to check the server's with, PEM; those of this machine by default",
        "cert": "with TLS, the client's own certificate, PEM, where the server wants one (client_verify)",
        "key": "the key of that certificate, PEM",
        "timeout": "for how many seconds an answer is waited for; 600 by default",
    },
)
def predict(
    call: Call,
    model: str,
    request: tuple[str, ...] = (),
    url: str = SERVER,
    version: int | None = None,
    label: str = "",
    signature: str = "",
    cast: bool = False,
    image_spec: str = "",
    deployment: Path | None = None,
    batch_size: int | None = None,
    max_megapixels: int | None = None,
    top_k: int | None = None,
    labels: tuple[str, ...] = (),
    label_offset: int = 0,
    scores: str = "",
    output: Path | None = None,
    save_golden: str = "",
    timeout: int = 600,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> Result:
    """Ask a served model for predictions: of JSON, arrays, CSV, recorded requests or images."""
    from npu_serving.asking.given_requests import sort_given
    from npu_serving.asking.predicting import ModelAtServer, Wishes, predict_given
    from npu_serving.asking.prediction_files import check_output
    from npu_serving.client.model_spec import ModelSpec
    from npu_serving.client.tls import Tls
    from npu_serving.serving.kept_answers import KeptAnswers
    from npu_serving.serving.server_record import note_answer
    from npu_serving.settings import user_path

    check_timeout(timeout)
    _check_numbers(top_k, max_megapixels)
    tls = Tls(ca, cert, key)
    server = ModelAtServer(url, ModelSpec(model, version, label, signature), timeout, tls)
    if not server.is_grpc:
        _refuse_over_rest(label, ca, cert, key)
    file = _deployment(deployment)
    if output is not None:
        check_output(output)
    kept = KeptAnswers(call.settings, file, output, save_golden)
    wishes = Wishes(
        cast=cast,
        image_spec=_image_spec(image_spec, file, model),
        batch_size=batch_size,
        most_megapixels=max_megapixels,
        labels=tuple(user_path(text, "--labels") for text in labels),
        label_offset=label_offset,
        top=top_k or 0,
        scores=scores,
        output=output,
        is_kept=bool(save_golden),
    )
    asked = predict_given(server, sort_given(request), wishes, call.console)
    note_answer(call.settings.build_root, url, model)
    return kept.keep(server, asked)


def _refuse_over_rest(label: str, ca: Path | None, cert: Path | None, key: Path | None) -> None:
    if label:
        raise RequestError(
            "--label has no effect over the REST API.",
            cause="TensorFlow Serving 1.15 knows versions by their labels over gRPC only",
            cure=f"name the gRPC API: --url grpc://HOST:{GRPC_PORT}",
        )
    because = "TensorFlow Serving 1.15 has TLS for gRPC only: --url grpcs://HOST:PORT"
    refuse_together("a REST URL", because, ca=ca, cert=cert, key=key)


def _check_numbers(top_k: int | None, max_megapixels: int | None) -> None:
    if top_k is not None and top_k < 1:
        raise RequestError(f"--top-k can't be {top_k}.", cure="use a number from 1, such as --top-k 5")
    if max_megapixels is not None and max_megapixels < 1:
        raise RequestError(
            f"--max-megapixels can't be {max_megapixels}.", cure="use a number from 1, such as --max-megapixels 120"
        )


def _deployment(path: Path | None) -> DeploymentFile | None:
    if path is None:
        return None
    from npu_serving.commands.deployment import read_with

    return read_with(path, (), ())


def _image_spec(text: str, deployment: DeploymentFile | None, model: str) -> ImageSpec | None:
    """The one that was named, or else the deployment's."""
    if text:
        from npu_serving.asking.image_spec import read_image_spec

        return read_image_spec(text)
    if deployment is None:
        return None
    found = next((each for each in deployment.models if each.name == model), None)
    if found is None:
        names = ", ".join(each.name for each in deployment.models[:5])
        raise RequestError(
            f"The deployment has no model {model!r}.",
            cause=f"it has {names}",
            cure="name one of these, or another file",
        )
    return found.preprocess
