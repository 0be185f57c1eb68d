"""deployment.yaml: what one server is deployed with, and every mistake that its parts alone or together show.

What becomes of it: platforms.py, rendering.py. Which session options go together is judged in options/.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Callable, Literal, Union

from npu_serving import fsutil
from npu_serving.deploy.deployed_options import problems_of_options
from npu_serving.documents import NamedValues, Rule, read_layers
from npu_serving.errors import NpuServingError
from npu_serving.models.layout import check_model_name
from npu_serving.options.auxiliary_files import WRITTEN_FILES, AuxiliaryContent, auxiliary_text
from npu_serving.options.catalogue import OptionValue, presets
from npu_serving.options.explaining import preset_options
from npu_serving.options.server_environment import known_variables
from npu_serving.writers.environment_file import environment_line
from npu_serving.writers.flag_file import flag_line
from npu_serving.writers.systemd import systemd_line
from npu_serving.writers.text_proto import textproto_string

SCHEMA = Path("docs/deployment.schema.json")
"""Within the project; made from the classes here."""
NAMED_LISTS: Mapping[tuple[str | int, ...], str] = {("models",): "name"}
"""The lists that are merged by a name of their items where one file is merged onto another."""

_PRECISION = ("precision_mode", "precision_mode_v2")
_INT32, _INT64 = 2**31 - 1, 2**63 - 1
_DEFAULT_MAX_BATCH_SIZE = 1000  # tensorflow/core/kernels/batching_util/shared_batch_scheduler.h at 1.15
_Problem = tuple[Union[str, tuple[Union[str, int], ...]], str]


def _said(check: Callable[[], object]) -> str:
    """What is wrong, where the check raises an error of ours: in the words of a mistake in a document."""
    try:
        check()
    except NpuServingError as error:
        return ": ".join(part for part in (error.what.rstrip("."), error.cause or error.cure) if part)
    return ""


def _model_name(name: str) -> str:
    return _said(lambda: check_model_name(name))


def _text(value: str) -> str:
    """What no file that is written from it could hold."""
    return _said(lambda: textproto_string(value))


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        return f"must be an absolute path, not {path!r}: the server would look for it in its own working directory"
    return _text(path)


def _base_path(path: str) -> str:
    return _text(path) if fsutil.is_remote(path) else _absolute(path)


def _on_a_line(path: str) -> str:
    """A path that becomes the value of a flag, a line of a file."""
    return _absolute(path) or _said(lambda: flag_line("path", path))


def _library(path: str) -> str:
    if re.search(r"[\s:]", path):
        return f"must be a path without blanks and colons, which divide the paths of LD_PRELOAD, not {path!r}"
    return _absolute(path)


def _channel_value(value: object) -> str:
    if not isinstance(value, str) or re.fullmatch(r"[^,=\x00-\x1f\x7f]+", value):
        return ""
    return f"must be a text without commas, = and control characters, which end such a value, not {value!r}"


def _environment_value(value: object) -> str:
    return _said(lambda: environment_line("this variable", str(value)))


def _user(name: str) -> str:
    return _said(lambda: systemd_line(name)) or ("" if name else "must be the name of a user")


ModelName = Annotated[str, Rule(check=_model_name)]
BasePath = Annotated[str, Rule(check=_base_path)]
AbsolutePath = Annotated[str, Rule(check=_absolute)]
Version = Annotated[int, Rule(minimum=0, maximum=_INT64)]
Label = Annotated[str, Rule(pattern=r"[^\x00-\x1f\x7f]+", expected="a text without control characters")]
Count = Annotated[int, Rule(minimum=1, maximum=_INT32)]
NpuValue = Union[bool, Annotated[int, Rule(minimum=-_INT64 - 1, maximum=_INT64)], Annotated[str, Rule(check=_text)]]
OptionName = Annotated[
    str, Rule(pattern="[A-Za-z_][A-Za-z0-9_]*", expected="the name of a session option, of letters, digits and _")
]
NpuOptions = Annotated[
    Mapping[OptionName, Union[NpuValue, AuxiliaryContent]],
    NamedValues(
        {option: Union[Annotated[str, Rule(check=_text)], file.content] for option, file in WRITTEN_FILES.items()},
        otherwise=NpuValue,
    ),
]
PresetName = Annotated[str, Rule(choices=presets)]
ChannelName = Annotated[str, Rule(pattern=r"[^,=\s\x00-\x1f\x7f]+", expected="a name without commas, = and blanks")]
ChannelValue = Union[
    Annotated[int, Rule(minimum=-_INT32 - 1, maximum=_INT32)], Annotated[str, Rule(check=_channel_value)]
]
VariableName = Annotated[
    str,
    Rule(pattern="[A-Za-z_][A-Za-z0-9_]*", expected="the name of an environment variable, of letters, digits and _"),
]
VariableValue = Union[int, Annotated[str, Rule(check=_environment_value)]]


@dataclass(frozen=True)
class LatestVersions:
    """Of a model's versions, only the highest ones."""

    latest: Count = field(metadata={"help": "how many of the highest versions are served"})


@dataclass(frozen=True)
class BatchingOptions:
    """Requests that arrive together are run as one batch."""

    max_batch_size: Count | None = field(default=None, metadata={"help": "of how many rows; 1000 by default"})
    batch_timeout_micros: Annotated[int, Rule(minimum=0, maximum=_INT64)] | None = field(
        default=None, metadata={"help": "how long a batch waits for more requests; 0 by default"}
    )
    max_enqueued_batches: Count | None = field(
        default=None, metadata={"help": "how many batches wait before requests are refused; 10 by default"}
    )
    num_batch_threads: Count | None = field(
        default=None, metadata={"help": "batches that run at the same time; one for each processor by default"}
    )
    allowed_batch_sizes: tuple[Count, ...] = field(
        default=(),
        metadata={"help": "sizes to which a batch is filled up, such as the gears; the last is max_batch_size"},
    )
    pad_variable_length_inputs: bool = field(
        default=False, metadata={"help": "fill up inputs of different shapes in one batch"}
    )

    def problems(self) -> Iterator[_Problem]:
        """Sizes that the server or each request would be refused for."""
        sizes = self.allowed_batch_sizes
        if any(later <= former for former, later in zip(sizes, sizes[1:])):
            yield "allowed_batch_sizes", "must rise from item to item"
        biggest = self.max_batch_size or _DEFAULT_MAX_BATCH_SIZE
        if sizes and sizes[-1] != biggest:
            default = "" if self.max_batch_size else ", its default"
            yield (
                "allowed_batch_sizes",
                f"must end with max_batch_size, which is {biggest}{default}, not with {sizes[-1]}",
            )


@dataclass(frozen=True)
class MonitoringOptions:
    """Metrics for Prometheus, at the REST port."""

    path: str = field(
        default="/monitoring/prometheus/metrics",
        metadata={
            "help": "where the REST port answers with them",
            "pattern": r"/[A-Za-z0-9._~/-]*",
            "expected": "a path of an URL that begins with /",
        },
    )


@dataclass(frozen=True)
class TlsOptions:
    """TLS for gRPC: files whose texts are written into ssl.config, because the server wants no paths there."""

    server_key: AbsolutePath = field(metadata={"help": "the file with the private key, PEM"})
    server_cert: AbsolutePath = field(metadata={"help": "the file with the certificate, PEM"})
    custom_ca: AbsolutePath | None = field(
        default=None, metadata={"help": "the file with the certificates that clients' are checked with, PEM"}
    )
    client_verify: bool = field(default=False, metadata={"help": "refuse clients without a certificate"})

    def problems(self) -> Iterator[_Problem]:
        """Nothing that a client's certificate could be checked with."""
        if self.client_verify and self.custom_ca is None:
            yield "client_verify", "needs custom_ca, the certificates that clients' are checked with"


@dataclass(frozen=True)
class DeployedModel:
    """A model, and what it has of its own."""

    name: ModelName = field(metadata={"help": "the name that clients ask for"})
    base_path: BasePath = field(
        metadata={"help": "the directory of its version directories: an absolute path, or s3://, gs://, hdfs://"}
    )
    versions: Literal["all"] | LatestVersions | Annotated[tuple[Version, ...], Rule(fewest=1)] = field(
        default=LatestVersions(1), metadata={"help": "all, a list of versions, or latest: N; latest: 1 by default"}
    )
    labels: Mapping[Label, Version] = field(
        default_factory=dict, metadata={"help": "names for versions, such as stable: 1; gRPC knows them, REST does not"}
    )
    npu: Literal[False] | NpuOptions | None = field(
        default=None, metadata={"help": "session options, over those of the deployment; false has the CPU serve it"}
    )
    batching: Literal[False] | BatchingOptions | None = field(
        default=None, metadata={"help": "in place of the server's; false for none"}
    )

    def problems(self) -> Iterator[_Problem]:
        """Versions twice, and labels for versions that are not served."""
        versions = self.versions
        if isinstance(versions, tuple):
            for index, version in enumerate(versions):
                if version in versions[:index]:
                    yield ("versions", index), f"{version} is there twice"
            for label, version in self.labels.items():
                if version not in versions:
                    yield ("labels", label), f"is {version}, and only the versions {_listed(versions)} are served"
        elif isinstance(versions, LatestVersions) and len(set(self.labels.values())) > versions.latest:
            many = len(set(self.labels.values()))
            yield "labels", f"name {many} versions, and only the latest {versions.latest} are served: set versions"


@dataclass(frozen=True)
class ServerOptions:
    """The server itself: its ports, how it looks for models, and what it does with requests."""

    port: int = field(default=8500, metadata={"help": "of the gRPC API", "minimum": 1, "maximum": 65535})
    rest_api_port: int = field(
        default=8501, metadata={"help": "of the REST API; 0 for none", "minimum": 0, "maximum": 65535}
    )
    rest_api_num_threads: Count | None = field(
        default=None, metadata={"help": "threads that answer REST calls; four for each processor by default"}
    )
    rest_api_timeout_in_ms: Count | None = field(
        default=None, metadata={"help": "after how many milliseconds a REST call is given up; 30000 by default"}
    )
    grpc_channel_arguments: Mapping[ChannelName, ChannelValue] = field(
        default_factory=dict, metadata={"help": "settings of gRPC, such as grpc.max_connection_age_ms: 2000"}
    )
    grpc_socket_path: Annotated[str, Rule(check=_on_a_line)] | None = field(
        default=None, metadata={"help": "a UNIX socket on which the gRPC API listens as well"}
    )
    file_system_poll_wait_seconds: int | None = field(
        default=None,
        metadata={
            "help": "seconds between two looks for new versions; 1 by default, 0 looks once",
            "minimum": 0,
            "maximum": _INT32,
        },
    )
    model_config_file_poll_wait_seconds: int | None = field(
        default=None,
        metadata={
            "help": "seconds between two readings of models.config; 0, the default, reads it once",
            "minimum": 0,
            "maximum": _INT32,
        },
    )
    max_num_load_retries: int = field(
        default=0,
        metadata={
            "help": "how often loading a model is tried again; the server's own 5 keep its ports shut for minutes",
            "minimum": 0,
            "maximum": _INT32,
        },
    )
    load_retry_interval_micros: int | None = field(
        default=None, metadata={"help": "microseconds between two tries; a minute by default", "minimum": 0}
    )
    flush_filesystem_caches: bool | None = field(
        default=None, metadata={"help": "drop the machine's file caches after loading; true by default"}
    )
    saved_model_tags: Annotated[tuple[Label, ...], Rule(fewest=1)] = field(
        default=("serve",), metadata={"help": "the tags of the graph to load from a SavedModel"}
    )
    warm_up: bool = field(
        default=True, metadata={"help": "send a model's recorded requests through it before it is offered"}
    )
    warm_up_iterations: Count | None = field(default=None, metadata={"help": "how often each of them; once by default"})
    remove_unused_fields_from_bundle_metagraph: bool = field(
        default=True, metadata={"help": "drop parts of a model's description that serving does not use"}
    )
    batching: BatchingOptions | None = field(
        default=None, metadata={"help": "run requests that arrive together as one batch; {} has the defaults"}
    )
    monitoring: MonitoringOptions | None = field(
        default=None, metadata={"help": "metrics for Prometheus; {} has the default path"}
    )
    tls: TlsOptions | None = field(default=None, metadata={"help": "TLS for gRPC"})
    user: Annotated[str, Rule(check=_user)] | None = field(
        default=None, metadata={"help": "whom the systemd unit runs the server as; root by default"}
    )

    def problems(self) -> Iterator[_Problem]:
        """What the server would only mention in its log, and go on without."""
        if self.port == self.rest_api_port:
            yield "rest_api_port", f"is {self.port}, and so is port: the server would start without its REST API"
        if self.file_system_poll_wait_seconds == 0 and self.model_config_file_poll_wait_seconds:
            yield (
                "file_system_poll_wait_seconds",
                "is 0, so models are looked for once, at the start: one that models.config gets later would never be "
                "loaded, and no later reading of it would count; write 1, or leave out "
                "model_config_file_poll_wait_seconds",
            )
        if self.monitoring is not None and self.rest_api_port == 0:
            yield "monitoring", "needs the REST API, by which the metrics are read, and rest_api_port is 0"
        if self.warm_up_iterations is not None and not self.warm_up:
            yield "warm_up_iterations", "has no effect, because warm_up is false"


@dataclass(frozen=True)
class CpuOptions:
    """What the server has of the CPU and the memory."""

    intra_op_threads: Count | None = field(default=None, metadata={"help": "threads within one operator"})
    inter_op_threads: Count | None = field(default=None, metadata={"help": "operators that run at the same time"})
    omp_threads: Count | None = field(default=None, metadata={"help": "OpenMP's threads (OMP_NUM_THREADS)"})
    allocator: Annotated[str, Rule(check=_library)] | None = field(
        default=None, metadata={"help": "a library such as libjemalloc.so.2 that allocates memory (LD_PRELOAD)"}
    )


@dataclass(frozen=True)
class DeploymentFile:
    """What one server is deployed with."""

    version: Literal[1] = field(metadata={"help": "of this format"})
    models: Annotated[tuple[DeployedModel, ...], Rule(fewest=1)] = field(metadata={"help": "what is served"})
    server: ServerOptions = field(default=ServerOptions(), metadata={"help": "the server itself"})
    npu: NpuOptions | None = field(
        default=None,
        metadata={"help": "session options of NpuOptimizer; {} has the defaults; without it the CPU serves"},
    )
    presets: tuple[PresetName, ...] = field(
        default=(),
        metadata={"help": "session options under one name, such as mixed-precision; ./inv explain NAME shows them"},
    )
    environment: Mapping[VariableName, VariableValue] = field(
        default_factory=dict, metadata={"help": "environment variables of the server"}
    )
    cpu: CpuOptions = field(default=CpuOptions(), metadata={"help": "CPU and memory"})
    cann: Annotated[str, Rule(check=_absolute)] | None = field(
        default=None, metadata={"help": "where CANN and the driver are installed; found by itself without it"}
    )

    def problems(self) -> Iterator[_Problem]:
        """What only shows in several parts together."""
        seen: set[str] = set()
        for index, model in enumerate(self.models):
            if model.name in seen:
                yield ("models", index, "name"), f"{model.name} is there twice"
            seen.add(model.name)
        yield from self._problems_of_variables()
        of_presets = [*self._problems_of_presets()]
        yield from of_presets or problems_of_options(self)

    def _problems_of_presets(self) -> Iterator[_Problem]:
        """Presets that contradict each other, and what one needs besides; the file's own values decide first."""
        for index, name in enumerate(self.presets):
            preset, former = presets()[name], self.presets[:index]
            if name in former:
                yield ("presets", index), f"{name} is there twice"
                continue
            for other in former:
                if other in preset.conflicts:
                    yield ("presets", index), f"{name} can't stand beside {other}: {preset.conflicts[other]}"
                for option, value in preset.options.items():
                    theirs = presets()[other].options.get(option, value)
                    if theirs != value and option not in (self.npu or {}):
                        yield (
                            ("presets", index),
                            f"{name} sets {option} to {value}, and {other} to {theirs}: keep one of the two, or write "
                            f"{option} under npu",
                        )
            yield from self._problems_of_needs(index, preset.needs)

    def _problems_of_needs(self, index: int, needs: tuple[str, ...]) -> Iterator[_Problem]:
        of_each = ((model.name, self.npu_of(model)) for model in (self.models if needs else ()))
        lacking = {name: [need for need in needs if need not in own] for name, own in of_each if own is not None}
        for name, options in lacking.items():
            if options:
                yield ("presets", index), f"{self.presets[index]} needs {' and '.join(options)} under npu, for {name}"

    def _problems_of_variables(self) -> Iterator[_Problem]:
        of_cpu = {
            "OMP_NUM_THREADS": ("omp_threads", self.cpu.omp_threads),
            "LD_PRELOAD": ("allocator", self.cpu.allocator),
        }
        for name in self.environment:
            key, value = of_cpu.get(name, ("", None))
            if value is not None:
                yield ("environment", name), f"is set by cpu.{key} as well: keep one of the two"
            known = next((line for line in known_variables() if line.fits(name)), None)
            if known is not None and not known.passed:
                yield ("environment", name), f"must not be set: {known.instead or 'the server does not read it'}"

    def uses_npu(self) -> bool:
        """Whether a model is meant for the NPU."""
        return any(self.npu_of(model) is not None for model in self.models)

    def npu_of(self, model: DeployedModel, directory: Path = Path("/")) -> dict[str, bool | int | str] | None:
        """The session options of a model, files of ours being in `directory`; None where the CPU serves it."""
        if model.npu is False or (model.npu is None and self.npu is None and not self.presets):
            return None
        names = self._names_of_files
        of_deployment = _replaced_by(self.options_of_presets, self.npu or {})
        return {
            name: value if isinstance(value, (bool, int, str)) else str(directory / names[name, repr(value)])
            for name, value in _replaced_by(of_deployment, model.npu or {}).items()
        }

    @functools.cached_property
    def options_of_presets(self) -> dict[str, OptionValue]:
        """What the presets set where nothing else is written."""
        return {option: value for name in self.presets for option, value in presets()[name].options.items()}

    def auxiliary_files(self) -> dict[str, str]:
        """The texts of the files that session options name and whose content stands here, by the files' names."""
        names = self._names_of_files
        return {names[option, repr(content)]: auxiliary_text(option, content) for option, content in self._contents()}

    @functools.cached_property
    def _names_of_files(self) -> dict[tuple[str, str], str]:
        """By the option and the content: ops_info.json, and for another content ops_info_2.json."""
        names: dict[tuple[str, str], str] = {}
        counts: dict[str, int] = {}
        for option, content in self._contents():
            if (option, repr(content)) not in names:
                counts[option] = counts.get(option, 0) + 1
                name = Path(WRITTEN_FILES[option].name)
                number = f"_{counts[option]}" if counts[option] > 1 else ""
                names[option, repr(content)] = f"{name.stem}{number}{name.suffix}"
        return names

    def _contents(self) -> Iterator[tuple[str, AuxiliaryContent]]:
        for options in (self.npu, *(model.npu for model in self.models)):
            for option, value in (options or {}).items():
                if not isinstance(value, (bool, int, str)):
                    yield option, value

    def expanded_presets(self) -> dict[str, tuple[str, ...]]:
        """What became of the options of each preset, a text for each; those of models are their own."""
        names = self._names_of_files
        written = {
            name: value if isinstance(value, (bool, int, str)) else names[name, repr(value)]
            for name, value in _replaced_by(self.options_of_presets, self.npu or {}).items()
        }
        return {name: tuple(preset_options(presets()[name], written)) for name in self.presets}

    def batching_of(self, model: DeployedModel) -> BatchingOptions | None:
        """How a model's requests are put together; None for each on its own."""
        if model.batching is None:
            return self.server.batching
        return model.batching or None


def read_deployment(path: Path, overlays: Sequence[Path] = (), values: Sequence[str] = ()) -> DeploymentFile:
    """The deployment of that file, with others merged onto it and then single values (KEY.KEY=VALUE).

    Raises DocumentError with every mistake, each with its place, RequestError for a value that can't be set, and
    FileAccessError.
    """
    return read_layers(path, DeploymentFile, overlays=overlays, values=values, named_lists=NAMED_LISTS)


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(str(version) for version in versions[:10]) + (" …" if len(versions) > 10 else "")


def _replaced_by(
    base: Mapping[str, OptionValue | AuxiliaryContent], own: Mapping[str, OptionValue | AuxiliaryContent]
) -> Mapping[str, OptionValue | AuxiliaryContent]:
    """Both; of the same name the second's, and of the two options for the precision one replaces the other."""
    if not base or not own:
        return own or base
    if any(name in own for name in _PRECISION):
        base = {name: value for name, value in base.items() if name not in _PRECISION}
    return {**base, **own}
