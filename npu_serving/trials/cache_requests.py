"""What a model is asked so that all is compiled that its clients will need: each version, signature and gear."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.npy import json_values
from npu_serving.asking.request import COLUMN, PredictRequest
from npu_serving.asking.request_tensors import request_tensors
from npu_serving.asking.tensor import Tensor, Value
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, ModelMetadata, Signature
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel, LatestVersions
from npu_serving.deploy.gear_checks import gear_shapes
from npu_serving.deploy.platform_config import ServedModel
from npu_serving.errors import NpuServingError
from npu_serving.models.layout import version_directories
from npu_serving.models.saved_model import SAVED_MODEL, MetaGraph
from npu_serving.options.session_options import OptionValue, complete_options
from npu_serving.serving.asked_models import wanted_versions
from npu_serving.serving.first_request import OVER_GRPC, FirstRequest, first_requests
from npu_serving.trials.warm_up import WarmUpRecord, graph_of, of_gears, signature_of


@dataclass(frozen=True)
class CacheRequest:
    """A request to a version of a model (the newest where that is not known); or why none can be made."""

    model: str
    version: int | None
    signature: str
    source: str
    request: PredictRequest | None = field(default=None, repr=False)
    why_not: str = ""
    over_grpc: bool = False

    def to_json(self) -> dict[str, object]:
        """The request without its values."""
        return {
            "model": self.model,
            "version": self.version,
            "signature": self.signature,
            "source": self.source,
            "not_asked": self.why_not,
        }


def is_local(model: DeployedModel) -> bool:
    """Whether the model's files can be looked at here."""
    return model.base_path.startswith("/") and Path(model.base_path).is_dir()


def local_requests(
    deployment: DeploymentFile, model: DeployedModel, golden: Sequence[GoldenRequest]
) -> Iterator[CacheRequest]:
    """Those for each version that is served of a model whose files are here: golden requests, or zeros; for gears, one
    for each of them.
    """
    versions = model.versions.latest if isinstance(model.versions, LatestVersions) else model.versions
    there = version_directories(Path(model.base_path))
    for version in wanted_versions(ServedModel(model.name, model.base_path, versions=versions)):
        if version not in there:
            yield CacheRequest(model.name, version, DEFAULT_SIGNATURE, "", None, "it is not there")
            continue
        fitting = [each for each in golden if _asks_version(each, version, model)]
        try:
            graph = graph_of(there[version] / SAVED_MODEL, deployment.server.saved_model_tags)
            yield from _of_version(deployment, model, version, graph, fitting)
        except NpuServingError as error:
            yield CacheRequest(model.name, version, DEFAULT_SIGNATURE, "", None, error.what)


def remote_requests(
    model: str, metadata: ModelMetadata, golden: Sequence[GoldenRequest], *, has_gears: bool
) -> Iterator[CacheRequest]:
    """Those for the newest version of a model that only its server knows."""
    for first in first_requests(metadata, golden, ()):
        if has_gears and first.golden is None:
            why = "its gears are not known without its files; record a golden request for each gear"
            yield CacheRequest(model, None, first.signature, "zeros", None, why)
        else:
            yield _of_first(model, None, first)


def _of_version(
    deployment: DeploymentFile, model: DeployedModel, version: int, graph: MetaGraph, golden: Sequence[GoldenRequest]
) -> Iterator[CacheRequest]:
    own = deployment.npu_of(model)
    options = complete_options(own) if own is not None else {}
    if options.get("dynamic_dims"):
        yield from _of_gears(deployment, model, version, graph, golden, options)
        return
    names = [name for name, signature in graph.signatures.items() if signature.is_for_requests]
    metadata = ModelMetadata(model.name, version, tuple(signature_of(graph, name) for name in sorted(names)))
    for first in first_requests(metadata, golden, ()):
        yield _of_first(model.name, version, first)


def _of_gears(
    deployment: DeploymentFile,
    model: DeployedModel,
    version: int,
    graph: MetaGraph,
    golden: Sequence[GoldenRequest],
    options: dict[str, OptionValue],
) -> Iterator[CacheRequest]:
    records = []
    for each in golden:
        inputs = request_tensors(each.request, signature_of(graph, each.signature))
        records.append(WarmUpRecord(_of_golden(each), ModelSpec(model.name, signature_name=each.signature), inputs))
    if not records:
        name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in graph.signatures else next(iter(sorted(graph.signatures)), "")
        signature = signature_of(graph, name)
        shapes = gear_shapes(options, graph.signatures[name])
        inputs = _zeros(signature, shapes[0]) if shapes else {}
        records.append(WarmUpRecord("zeros", ModelSpec(model.name, signature_name=name), inputs))
    for record in of_gears(records, graph, deployment, model)[0]:
        values = {name: json_values(tensor) for name, tensor in record.inputs.items()}
        name = record.spec.signature_name
        over_grpc = any(tensor.data_type.name in OVER_GRPC for tensor in record.inputs.values())
        source = f"{record.source}, gear {record.shapes}"
        request = PredictRequest(COLUMN, values, name)
        yield CacheRequest(model.name, version, name, source, request, over_grpc=over_grpc)


def _zeros(signature: Signature, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    found = {}
    for info in signature.inputs:
        kind, shape = BY_NAME[info.dtype], shapes[info.name]
        zero: Value = b"" if kind.is_text else False if kind.code == "?" else 0.0 if kind.is_real else 0
        found[info.name] = Tensor(kind, shape, [zero] * math.prod(shape))
    return found


def _of_first(model: str, version: int | None, first: FirstRequest) -> CacheRequest:
    source = _of_golden(first.golden) if first.golden is not None else "zeros"
    return CacheRequest(model, version, first.signature, source, first.request, first.why_not, first.needs_grpc)


def _of_golden(golden: GoldenRequest) -> str:
    return f"golden request {golden.name}"


def _asks_version(golden: GoldenRequest, version: int, model: DeployedModel) -> bool:
    """Whether it may be asked of that version: it names that one, or none."""
    named = model.labels.get(golden.label) if golden.label else golden.version
    return named is None or named == version
