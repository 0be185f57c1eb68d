"""The requests that a server sends through a model before it offers it, written beside the model.

Without them the first caller waits while the NPU compiles, for minutes; with gears, at the first request of each gear.
A request that fails keeps the server from loading the model (saved_model_warmup.cc at 1.15.0), so each is made from
the model's own signature, and read back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import GoldenRequests
from npu_serving.asking.golden_places import RECORD
from npu_serving.asking.messages import read_prediction_log, write_prediction_log
from npu_serving.asking.recorded_values import first_of_each_shape, recorded_file_in
from npu_serving.asking.request import PredictRequest, read_request
from npu_serving.asking.request_tensors import request_tensors, resized
from npu_serving.asking.tensor import Tensor
from npu_serving.client.data_types import UNKNOWN, type_name
from npu_serving.client.model_spec import ModelSpec
from npu_serving.client.model_types import DEFAULT_SIGNATURE, Signature, TensorInfo
from npu_serving.console import amount_text, table
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel
from npu_serving.deploy.gear_checks import gear_shapes
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.models.attribute_values import DATA_TYPES
from npu_serving.models.layout import check_model_directory, version_directories
from npu_serving.models.saved_model import SAVED_MODEL, MetaGraph, ModelSignature, read_saved_model
from npu_serving.models.warm_up_file import MOST_RECORDS, WARM_UP_FILE, framed, records_in, warm_up_trouble
from npu_serving.options.session_options import complete_options
from npu_serving.settings import user_path
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import MalformedMessageError

_NUMBERS = {name: number for number, name in DATA_TYPES.items()}


@dataclass(frozen=True)
class WarmUpRecord:
    """One request of the file: where it is from, which signature it asks, and the shapes of its inputs."""

    source: str
    spec: ModelSpec
    inputs: Mapping[str, Tensor] = field(repr=False)
    is_resized: bool = False
    """Whether its rows were cut or repeated to fit a gear."""

    @property
    def shapes(self) -> str:
        """Such as `x [1, 224]`."""
        return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(self.inputs.items()))

    def to_json(self) -> dict[str, object]:
        """The request without its values."""
        return {
            "source": self.source,
            "signature": self.spec.signature_name,
            "shapes": {name: list(tensor.shape) for name, tensor in sorted(self.inputs.items())},
            "resized": self.is_resized,
        }


@dataclass(frozen=True)
class WarmUpPlan:
    """The file to write, and what is there now."""

    path: Path
    records: tuple[WarmUpRecord, ...]
    data: bytes = field(repr=False)
    is_current: bool
    """Whether the file holds just that already."""
    gears: int = 0
    is_written: bool = False

    def to_json(self) -> dict[str, object]:
        """The file and its requests."""
        return {
            "file": str(self.path),
            "bytes": len(self.data),
            "requests": [record.to_json() for record in self.records],
            "gears": self.gears,
            "up_to_date": self.is_current and not self.is_written,
            "written": self.is_written,
        }

    def text(self) -> str:
        """The requests, and what was done or would be."""
        rows: list[tuple[str, ...]] = [
            (record.spec.signature_name, record.shapes, record.source + (", resized" if record.is_resized else ""))
            for record in self.records
        ]
        many = amount_text(len(self.data), "bytes")
        if self.is_written:
            end = (
                f"{self.path} is written and was read back ({many}). A server sends these requests through the model "
                "each time it loads this version; one that runs has loaded it before."
            )
        elif self.is_current:
            end = f"{self.path} is up to date ({many})."
        else:
            end = f"Would write {self.path} ({many})."
        return f"{table(rows, header=('SIGNATURE', 'INPUTS', 'FROM'))}\n{end}"


def plan_warm_up(
    model_dir: str,
    sources: Sequence[str],
    *,
    golden: GoldenRequests | None = None,
    signature_name: str = "",
    version: int | None = None,
    tags: Sequence[str] = ("serve",),
    deployment: DeploymentFile | None = None,
    force: bool = False,
) -> WarmUpPlan:
    """The warm-up file for a version of the model, made from the requests; changes nothing.

    RequestError for a request that the model does not take, for too many of them, and where the file there holds other
    requests, unless `force` is given; ModelFileError for what is not a model.
    """
    base = user_path(model_dir, "the model's directory").absolute()
    directory = _version_directory(base, version)
    model, tags = _deployed(base, deployment, tags)
    graph = graph_of(directory / SAVED_MODEL, tags)
    name = model.name if model is not None else base.name
    records = []
    for source, request in _requests(sources, golden, base, model):
        asked = signature_name or request.signature_name or DEFAULT_SIGNATURE
        try:
            inputs = request_tensors(request, signature_of(graph, asked))
        except RequestError as error:
            raise RequestError(f"{source}: {error.what}", cause=error.cause, cure=error.cure) from error
        records.append(WarmUpRecord(source, ModelSpec(name, signature_name=asked), inputs))
    gears = 0
    if deployment is not None and model is not None:
        records, gears = of_gears(records, graph, deployment, model)
    if len(records) > MOST_RECORDS:
        raise RequestError(
            f"{len(records)} requests are too many for a warm-up file.",
            cause=f"TensorFlow Serving does not load a model that has more than {MOST_RECORDS} of them",
            cure="leave some out: one for each shape is enough",
        )
    data = framed(write_prediction_log(record.spec, record.inputs) for record in records)
    if len(data) > fsutil.READ_WHOLE_BYTES:
        raise RequestError(
            f"The requests have {amount_text(len(data), 'bytes')}, and a warm-up file is for a few.",
            cause="each load of the model would send them all",
            cure="give requests with fewer instances",
        )
    path = directory / WARM_UP_FILE
    is_current = _is_current(path, data, force=force)
    fsutil.refuse_unwritable(path.parent)
    return WarmUpPlan(path, tuple(records), data, is_current, gears)


def write_warm_up(plan: WarmUpPlan) -> WarmUpPlan:
    """Writes the file, and reads it back as a server would. A file that is up to date stays as it is."""
    if plan.is_current:
        return plan
    fsutil.make_directory(plan.path.parent)
    fsutil.write_file(plan.path, plan.data)
    trouble = warm_up_trouble(plan.path) or _difference(plan)
    if trouble:
        raise NpuServingError(
            f"{plan.path} was written, and reads otherwise: {trouble}.",
            cause="the disk is faulty, or somebody else writes there",
            cure=f"remove {plan.path}, then run the same command again",
        )
    return replace(plan, is_written=True)


def _difference(plan: WarmUpPlan) -> str:
    read = list(records_in(plan.path))
    if len(read) != len(plan.records):
        return f"it has {len(read)} records, not {len(plan.records)}"
    for number, (data, record) in enumerate(zip(read, plan.records), start=1):
        try:
            spec, inputs = read_prediction_log(memoryview(data))
        except MalformedMessageError as error:
            return f"record {number} is damaged ({error})"
        if write_prediction_log(spec, inputs) != write_prediction_log(record.spec, record.inputs):
            return f"record {number} is a different request"
    return ""


def _version_directory(base: Path, version: int | None) -> Path:
    check_model_directory(base, SAVED_MODEL)
    versions = version_directories(base)
    number = max(versions) if version is None else version
    if number not in versions:
        there = ", ".join(map(str, sorted(versions)[-5:]))
        raise RequestError(f"{base} has no version {number}.", cure=f"choose one that is there: {there}")
    return versions[number]


def _deployed(
    base: Path, deployment: DeploymentFile | None, tags: Sequence[str]
) -> tuple[DeployedModel | None, Sequence[str]]:
    """The model of the deployment that is served from there, and the tags that the server asks for."""
    if deployment is None:
        return None, tags
    real = os.path.realpath(base)
    model = next((each for each in deployment.models if os.path.realpath(each.base_path) == real), None)
    if model is None:
        there = ", ".join(in_a_line(each.base_path) for each in deployment.models[:5])
        raise RequestError(
            f"The deployment has no model at {base}.",
            cause=f"its models are at {there}",
            cure="name one of these directories, or leave --deployment out",
        )
    if not deployment.server.warm_up:
        raise RequestError(
            "The deployment says server.warm_up: false, so its server would not read the requests.",
            cure="set server.warm_up to true, here with --set server.warm_up=true",
        )
    return model, deployment.server.saved_model_tags


def graph_of(path: Path, tags: Sequence[str]) -> MetaGraph:
    """The graph of a saved_model.pb with just these tags. RequestError where it has none."""
    graphs = read_saved_model(path)
    graph = next((each for each in graphs if each.tags == set(tags)), None)
    if graph is None:
        there = " and ".join(f"[{in_a_line(', '.join(sorted(each.tags)))}]" for each in graphs[:5])
        raise RequestError(
            f"{path} has no graph with the tags [{', '.join(tags)}].",
            cause=f"there is one with {there}",
            cure="name its tags with --tag, or set server.saved_model_tags in the deployment",
        )
    return graph


def signature_of(graph: MetaGraph, name: str) -> Signature:
    """The signature of the graph as clients know it."""
    found = graph.signatures.get(name)
    if found is None:
        names = ", ".join(in_a_line(each) for each in sorted(graph.signatures)) or "none at all"
        raise RequestError(
            f"The model has no signature {name!r}.",
            cause=f"its signatures: {names}",
            cure="name one of them with --signature",
        )
    return Signature(name, found.method_name, *(_infos(found, inputs=inputs) for inputs in (True, False)))


def _infos(signature: ModelSignature, *, inputs: bool) -> tuple[TensorInfo, ...]:
    specs = signature.inputs if inputs else signature.outputs
    return tuple(
        TensorInfo(name, UNKNOWN if spec.others else type_name(_NUMBERS.get(spec.data_type, 0)), spec.shape)
        for name, spec in sorted(specs.items())
    )


def _requests(
    sources: Sequence[str], golden: GoldenRequests | None, base: Path, served_as: DeployedModel | None
) -> list[tuple[str, PredictRequest]]:
    name = served_as.name if served_as is not None else base.name
    found: list[tuple[str, PredictRequest]] = []
    for source in sources:
        recorded = recorded_file_in(source)
        if recorded is not None:
            found += first_of_each_shape(recorded[0], name, recorded[1])
        else:
            found.append((_shown(source), read_request(source)))
    if golden is not None:
        found += [(f"the golden request {each.name}", each.request) for each in _golden_of(golden, base, served_as)]
    if not found:
        raise RequestError(
            "write-warmup needs at least one request.",
            cause="a server can only send what was asked before",
            cure="give one as predict takes it: --request FILE, or the recorded ones: --golden",
        )
    return found


def _golden_of(golden: GoldenRequests, base: Path, served_as: DeployedModel | None) -> list[GoldenRequest]:
    """The golden requests of the model there: those recorded from there, or, that say no place, for its name."""
    requests = golden.sound()
    if not requests:
        raise RequestError("No golden request is recorded.", cure=RECORD)
    name, real = served_as.name if served_as is not None else base.name, os.path.realpath(base)
    found = [
        each
        for each in requests
        if (each.model_base_path and os.path.realpath(each.model_base_path) == real)
        or (not each.model_base_path and each.model == name)
    ]
    if not found:
        there = ", ".join(dict.fromkeys(each.model_base_path or f"any model {each.model}" for each in requests[:5]))
        raise RequestError(
            f"No golden request is for the model at {base}, only for {there}.",
            cure="name such a directory, or give a request of your own with --request",
        )
    return found


def _shown(source: str) -> str:
    if source == "-":
        return "standard input"
    return "the text given" if source.lstrip()[:1] in ("[", "{") else source


def of_gears(
    records: list[WarmUpRecord], graph: MetaGraph, deployment: DeploymentFile, model: DeployedModel
) -> tuple[list[WarmUpRecord], int]:
    """One request for each gear of the model, and how many gears there are; the requests as they are where it has none.

    A request whose shape is not a gear's would fail, and the server would not load the model.
    """
    own = deployment.npu_of(model)
    options = complete_options(own) if own is not None else {}
    found: list[WarmUpRecord] = []
    gears = 0
    for name in dict.fromkeys(record.spec.signature_name for record in records):
        of_name = [record for record in records if record.spec.signature_name == name]
        shapes = gear_shapes(options, graph.signatures[name])
        if not shapes and options.get("dynamic_dims"):
            raise RequestError(
                f"The gears of the deployment do not fit the signature {name!r}.",
                cause="each entry of input_shape stands for one input",
                cure="./inv check-deployment FILE says which does not",
            )
        gears += len(shapes)
        found += [_for_gear(of_name, gear) for gear in shapes] if shapes else of_name
    return found, gears


def _for_gear(records: Sequence[WarmUpRecord], gear: Mapping[str, tuple[int, ...]]) -> WarmUpRecord:
    for record in records:
        if all(tensor.shape == gear[name] for name, tensor in record.inputs.items()):
            return record
    first = records[0]
    inputs = {}
    for name, tensor in first.inputs.items():
        try:
            inputs[name] = resized(tensor, gear[name])
        except ValueError as error:
            raise RequestError(
                f"{first.source} can't be made to fit the gear {json.dumps(gear)}: the input {name!r}: {error}.",
                cure="give a request with at least one value for each input",
            ) from error
    return replace(first, inputs=inputs, is_resized=True)


def _is_current(path: Path, data: bytes, *, force: bool) -> bool:
    """Whether the file holds just that. RequestError where it holds something else, and is not to be replaced."""
    if not os.path.lexists(path):
        return False
    fsutil.refuse_other_than_file(path)
    if path.is_file() and fsutil.read_bytes(path) == data:
        return True
    if not force:
        raise RequestError(
            f"{path} is there already, with other requests.",
            cause="somebody recorded them, or wrote them for other shapes",
            cure="replace it with --force, or keep it",
        )
    return False
