"""warm-cache: a deployment's server is started on spare ports and asked until its compile cache holds what it needs.

A first request compiles for minutes. Done before a new CANN, build or model goes live, the server that goes live finds
everything compiled.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.asking.golden import GoldenRequest
from npu_serving.builds.build_settings import settings_to_serve
from npu_serving.client.model_spec import ModelSpec
from npu_serving.console import Reporter, duration_text, table
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.preset_values import filled_in, installed_release
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError, RequestError, UnreachableError
from npu_serving.models.layout import version_directories
from npu_serving.models.warm_up_file import WARM_UP_FILE
from npu_serving.serving.golden_request import golden_requests
from npu_serving.serving.listeners import listeners_on
from npu_serving.serving.server import RunningServer
from npu_serving.serving.server_apis import ServerApis
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.settings import Settings
from npu_serving.trials.cache_requests import CacheRequest, is_local, local_requests, remote_requests
from npu_serving.trials.compile_cache import CompileCache, check_cache_is_used, compile_caches, content_of
from npu_serving.trials.spare_server import on_spare_ports, plan_spare, started_whole, ticking
from npu_serving.writers.shell import shell_word, task_argument

_REPLAYED = re.compile(
    rf"Finished reading warmup data for model at (.+)/{re.escape(str(WARM_UP_FILE))}\. "
    r"Number of warmup records read: (\d+)\.(?: Elapsed time \(microseconds\): (\d+)\.)?"
)
"""What the server prints of each model that it has warmed up (saved_model_warmup.cc at 1.15.0)."""


@dataclass(frozen=True)
class WarmedRequest:
    """A request, and how long its answer took; `why` it failed, or was not asked."""

    asked: CacheRequest
    seconds: float = 0.0
    graphs: int = 0
    """How many graphs were compiled, or taken from a cache of graphs, for it."""
    why: str = ""

    def to_json(self) -> dict[str, object]:
        """The request without its values, and the outcome."""
        outcome = {"seconds": round(self.seconds, 3), "graphs": self.graphs, "why": self.why}
        return {**self.asked.to_json(), **outcome}

    def row(self) -> tuple[str, ...]:
        """As a table shows it."""
        asked = self.asked
        not_asked = f"not asked: {asked.why_not}" if asked.why_not else ""
        version = "newest" if asked.version is None else str(asked.version)
        took = "" if not_asked else duration_text(self.seconds)
        return asked.model, version, asked.signature, asked.source, took, self.why or not_asked or "answered"


@dataclass(frozen=True)
class ReplayedWarmUp:
    """The recorded requests of a version: how many the server has sent through it, and in how many seconds.

    `records` is None where the file is there and the server said nothing of it.
    """

    model: str
    version: int
    records: int | None = None
    seconds: float = 0.0

    def text(self) -> str:
        """What happened, in a line."""
        if self.records is None:
            return f"{self.model} {self.version}: its warm-up file was NOT replayed: the server says nothing of it."
        took = f", {duration_text(self.seconds)}" if self.seconds else ""
        return f"{self.model} {self.version}: its warm-up file was replayed ({self.records} requests{took})."


@dataclass(frozen=True)
class WarmCachePlan:
    """How the server is started, what it is asked, and where what it compiles is kept."""

    server: ServerPlan
    deployment: DeploymentFile = field(repr=False)
    requests: tuple[CacheRequest, ...]
    remote: tuple[str, ...]
    """The models whose requests are known only when the server runs."""
    golden: Mapping[str, tuple[GoldenRequest, ...]] = field(repr=False)
    caches: tuple[CompileCache, ...]
    release: str
    timeout_s: float
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The plan as `--json` shows it."""
        return {
            "server": self.server.to_json(),
            "requests": [request.to_json() for request in self.requests],
            "asked_when_it_runs": list(self.remote),
            "caches": [cache.to_json() for cache in self.caches],
            "cann": self.release,
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """The requests, the caches, and the command."""
        rows = [
            (each.model, str(each.version), each.signature, each.source, each.why_not and f"not asked: {each.why_not}")
            for each in self.requests
        ]
        rows += [(name, "newest", "", "what its metadata say", "") for name in self.remote]
        return "\n".join(
            [
                *(f"warning: {warning}" for warning in self.warnings),
                table(rows, header=("MODEL", "VERSION", "SIGNATURE", "WOULD BE ASKED", "")),
                *(cache.text(self.release) for cache in self.caches),
                "Would start, and end when all of it was answered:",
                self.server.text(),
            ]
        )


@dataclass(frozen=True)
class WarmCacheResult:
    """What was asked and how long it took, and what is in the caches now."""

    warmed: tuple[WarmedRequest, ...]
    replayed: tuple[ReplayedWarmUp, ...]
    caches: tuple[CompileCache, ...]
    release: str
    log_path: Path
    next_step: str
    used_npu: bool
    seconds: float

    @property
    def troubles(self) -> tuple[str, ...]:
        """Why the server that goes live may have something to compile all the same."""
        failed = [f"{each.asked.model} does not answer {each.asked.source}" for each in self.warmed if each.why]
        skipped = [f"{each.asked.model}: nothing was asked" for each in self.warmed if each.asked.why_not]
        found = [*failed, *dict.fromkeys(skipped)]
        found += [each.text().rstrip(".") for each in self.replayed if each.records is None]
        if not self.used_npu:
            found.append("the CPU has answered: the adapter had nothing compiled for the NPU")
        elif not any(cache.after and cache.after.files for cache in self.caches):
            found.append("the cache is empty: nothing that was compiled has been kept")
        return tuple(found)

    @property
    def exit_code(self) -> int:
        """3 where something is left to do."""
        return EXIT_ACTION_NEEDED if self.troubles else 0

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "requests": [each.to_json() for each in self.warmed],
            "warm_up_files": [dataclasses.asdict(each) for each in self.replayed],
            "caches": [cache.to_json() for cache in self.caches],
            "cann": self.release,
            "on_npu": self.used_npu,
            "troubles": list(self.troubles),
            "log": str(self.log_path),
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """A line for each request, each cache, and what to do next."""
        rows = [each.row() for each in self.warmed]
        lines = [
            table(rows, header=("MODEL", "VERSION", "SIGNATURE", "ASKED", "TOOK", "")),
            *(each.text() for each in self.replayed),
            *(cache.text(self.release) for cache in self.caches),
        ]
        if self.troubles:
            lines.append(f"Not all is compiled: {'; '.join(self.troubles)}. The log is {self.log_path}")
        return "\n".join([*lines, f"Next: {self._cure() if self.troubles else self.next_step}"])

    def _cure(self) -> str:
        unasked = next((each.asked.model for each in self.warmed if each.asked.why_not), "")
        if unasked:
            record = "./inv smoke --record --model-base-path PATH --request REQUEST --platform-config-file CONFIG"
            return f"{record} --model-name {shell_word(unasked)} gives it something to ask"
        if not self.used_npu:
            return "./inv cann-info shows what the adapter finds"
        return "correct what the answers or the log name, then run the same command again"


def plan_warm_cache(
    settings: Settings,
    deployment: DeploymentFile,
    file: Path,
    *,
    build: str = "",
    timeout_s: float,
    dry_run: bool = False,
) -> WarmCachePlan:
    """What is going to be asked of which server. RequestError where no cache is used, and what keeps it from serving.

    The server's files are written, unless it is a dry run.
    """
    check_cache_is_used(deployment)
    of_build = settings_to_serve(settings, build)
    deployment = filled_in(deployment, of_build)
    golden = golden_requests(settings, deployment)
    release = installed_release(deployment, of_build)
    by_model = {
        model.name: golden.of(model.name, "" if deployment.golden else model.base_path) for model in deployment.models
    }
    warnings = [str(error) for error in golden.errors]
    for port in {deployment.server.port, deployment.server.rest_api_port} - {0}:
        for each in listeners_on(port):
            warnings.append(
                f"process {each.pid} listens on port {port} of the deployment: it and the server that is started now "
                "share the device and its memory, unless --set environment.ASCEND_DEVICE_ID=N names another device"
            )
            break
    on_npu = [model for model in deployment.models if deployment.npu_of(model) is not None]
    requests = [
        request
        for model in on_npu
        if is_local(model)
        for request in local_requests(deployment, model, by_model[model.name])
    ]
    server = plan_spare(settings, on_spare_ports(deployment), file, build=build, dry_run=dry_run)
    return WarmCachePlan(
        server,
        deployment,
        tuple(requests),
        tuple(model.name for model in on_npu if not is_local(model)),
        by_model,
        compile_caches(deployment, server.env, release),
        release,
        timeout_s,
        tuple(dict.fromkeys((*warnings, *server.warnings))),
    )


def warm_cache(settings: Settings, plan: WarmCachePlan, file: Path, reporter: Reporter) -> WarmCacheResult:
    """Starts the server, asks it, ends it, and looks at the caches again.

    Raises ServerError where the server does not start, or ends at a request.
    """
    begun = time.monotonic()
    for warning in plan.warnings:
        reporter.warn(warning)
    log_path = settings.logs / f"warm-cache-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    warmed: list[WarmedRequest] = []
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(reporter.progress("filling the compile cache", unit="requests"))
        server = stack.enter_context(
            started_whole(plan.server, log_path=log_path, timeout_s=plan.timeout_s, progress=progress)
        )
        requests = [*plan.requests, *_of_remote(plan)]
        for number, asked in enumerate(requests):
            with ticking(progress, f"{asked.model}: {asked.source}", number, len(requests)):
                warmed.append(_asked(plan, server, asked))
        progress.update(len(requests), total=len(requests))
        output = server.log.whole()
        compiled = server.signs.compiled
    caches = tuple(dataclasses.replace(cache, after=content_of(cache.directory)) for cache in plan.caches)
    return WarmCacheResult(
        tuple(warmed),
        replayed_in(output, plan.deployment),
        caches,
        plan.release,
        log_path,
        f"./inv serve {task_argument('--deployment', str(file))}",
        bool(compiled),
        time.monotonic() - begun,
    )


def replayed_in(output: str, deployment: DeploymentFile) -> tuple[ReplayedWarmUp, ...]:
    """What became of the warm-up files of the versions that the server has loaded, by what it printed."""
    said = {os.path.normpath(found[1]): found for found in _REPLAYED.finditer(output)}
    replays = []
    for model in deployment.models if deployment.server.warm_up else ():
        there = version_directories(Path(model.base_path)) if is_local(model) else {}
        for version, path in sorted(there.items()):
            is_loaded = f"{{name: {model.name} version: {version}}}" in output
            if not is_loaded or not (path / WARM_UP_FILE).is_file():
                continue
            found = said.get(os.path.normpath(path))
            if found is None:
                replays.append(ReplayedWarmUp(model.name, version))
            else:
                seconds = int(found[3] or 0) / 1e6
                replays.append(ReplayedWarmUp(model.name, version, int(found[2]), seconds))
    return tuple(replays)


def _of_remote(plan: WarmCachePlan) -> Sequence[CacheRequest]:
    """The requests to models that only their server knows."""
    apis = ServerApis(plan.server.rest_api_port, plan.server.port)
    found: list[CacheRequest] = []
    for model in plan.deployment.models:
        if model.name in plan.remote:
            has_gears = "dynamic_dims" in (plan.deployment.npu_of(model) or {})
            try:
                metadata = apis.metadata(model.name)
                found += remote_requests(model.name, metadata, plan.golden[model.name], has_gears=has_gears)
            except RequestError as error:
                found.append(CacheRequest(model.name, None, "", "", None, error.what))
    return found


def _asked(plan: WarmCachePlan, server: RunningServer, asked: CacheRequest) -> WarmedRequest:
    if asked.request is None:
        return WarmedRequest(asked)
    apis = ServerApis(plan.server.rest_api_port, plan.server.port)
    before, begun = server.signs.compiled, time.monotonic()
    why = ""
    try:
        spec = ModelSpec(asked.model, asked.version)
        apis.predict(spec, asked.request, timeout_s=plan.timeout_s, over_grpc=asked.over_grpc)
    except UnreachableError:
        raise  # the server has ended, which its own last words explain
    except NpuServingError as error:
        why = error.what
    return WarmedRequest(asked, time.monotonic() - begun, server.signs.compiled - before, why)
