"""The sections of a deployment.yaml, and the mistakes that each shows alone: a model, the server, the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, Union

from npu_serving.asking.image_spec import ImageSpec
from npu_serving.deploy.deployed_values import (
    INT32,
    INT64,
    AbsolutePath,
    BasePath,
    ChannelName,
    ChannelValue,
    Count,
    Label,
    LibraryPath,
    ModelName,
    NpuOptions,
    PathOnALine,
    PresetName,
    ProcessorList,
    UserName,
    Version,
)
from npu_serving.deploy.processor_lists import read_processors
from npu_serving.documents import Rule

_DEFAULT_MAX_BATCH_SIZE = 1000  # tensorflow/core/kernels/batching_util/shared_batch_scheduler.h at 1.15
Problem = tuple[Union[str, tuple[Union[str, int], ...]], str]


@dataclass(frozen=True)
class LatestVersions:
    """Of a model's versions, only the highest ones."""

    latest: Count = field(metadata={"help": "how many of the highest versions are served"})


@dataclass(frozen=True)
class BatchingOptions:
    """Requests that arrive together are run as one batch."""

    max_batch_size: Count | None = field(default=None, metadata={"help": "of how many rows; 1000 by default"})
    batch_timeout_micros: Annotated[int, Rule(minimum=0, maximum=INT64)] | None = field(
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

    @property
    def largest_batch(self) -> int:
        """How many rows a batch may have, and so a request."""
        return self.max_batch_size or _DEFAULT_MAX_BATCH_SIZE

    def problems(self) -> Iterator[Problem]:
        """Sizes that the server or each request would be refused for."""
        sizes = self.allowed_batch_sizes
        if any(later <= former for former, later in zip(sizes, sizes[1:])):
            yield "allowed_batch_sizes", "must rise from item to item"
        biggest = self.largest_batch
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

    def problems(self) -> Iterator[Problem]:
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
        default=LatestVersions(1),
        metadata={
            "help": "all, a list of versions, or latest: N; latest: 1 by default",
            "expected": "all, latest: N, or a list of versions such as [3, 4]",
        },
    )
    labels: Mapping[Label, Version] = field(
        default_factory=dict, metadata={"help": "names for versions, such as stable: 1; gRPC knows them, REST does not"}
    )
    npu: Literal[False] | NpuOptions | None = field(
        default=None, metadata={"help": "session options, over those of the deployment; false has the CPU serve it"}
    )
    presets: tuple[PresetName, ...] = field(
        default=(), metadata={"help": "session options under one name, over those of the deployment"}
    )
    batching: Literal[False] | BatchingOptions | None = field(
        default=None, metadata={"help": "in place of the server's; false for none"}
    )
    preprocess: ImageSpec | None = field(
        default=None, metadata={"help": "how predict prepares an image for it; the server does not read it"}
    )

    def problems(self) -> Iterator[Problem]:
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
    grpc_socket_path: PathOnALine | None = field(
        default=None, metadata={"help": "a UNIX socket on which the gRPC API listens as well"}
    )
    file_system_poll_wait_seconds: int | None = field(
        default=None,
        metadata={
            "help": "seconds between two looks for new versions; 1 by default, 0 looks once",
            "minimum": 0,
            "maximum": INT32,
        },
    )
    model_config_file_poll_wait_seconds: int | None = field(
        default=None,
        metadata={
            "help": "seconds between two readings of models.config; 0, the default, reads it once",
            "minimum": 0,
            "maximum": INT32,
        },
    )
    max_num_load_retries: int = field(
        default=0,
        metadata={
            "help": "how often loading a model is tried again; the server's own 5 keep its ports shut for minutes",
            "minimum": 0,
            "maximum": INT32,
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
    user: UserName | None = field(
        default=None, metadata={"help": "whom the systemd unit runs the server as; root by default"}
    )

    def problems(self) -> Iterator[Problem]:
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
    allocator: LibraryPath | None = field(
        default=None, metadata={"help": "a library such as libjemalloc.so.2 that allocates memory (LD_PRELOAD)"}
    )
    cpus: ProcessorList | None = field(
        default=None, metadata={"help": "the processors that the server runs on, such as 0-7,16-23; all by default"}
    )
    numa_node: Annotated[int, Rule(minimum=0, maximum=1023)] | None = field(
        default=None, metadata={"help": "the NUMA node whose processors it runs on, in place of cpus"}
    )

    @property
    def processors(self) -> tuple[int, ...]:
        """Those of `cpus`; () where it isn't there."""
        return read_processors(str(self.cpus)) if self.cpus is not None else ()

    @property
    def threads_within_operators(self) -> dict[str, int]:
        """The numbers of threads that work at one operator together, as far as they are set."""
        counts = {"intra_op_threads": self.intra_op_threads, "omp_threads": self.omp_threads}
        return {name: count for name, count in counts.items() if count is not None}

    def problems(self) -> Iterator[Problem]:
        """Processors that are named twice, and more threads than there are processors for them."""
        if self.cpus is None:
            return
        if self.numa_node is not None:
            yield "numa_node", "names the processors that cpus names as well: keep one of the two"
        for name, count in self.threads_within_operators.items():
            if count > len(self.processors):
                yield name, more_threads(count, len(self.processors))


def more_threads(count: int, processors: int) -> str:
    """The mistake of more threads for an operator than processors."""
    return (
        f"is {count}, and cpu.cpus names {processors} processors, on which threads of an operator would take turns: "
        "leave it out, and as many are made as there are processors"
    )


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(str(version) for version in versions[:10]) + (" …" if len(versions) > 10 else "")
