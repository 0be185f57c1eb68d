"""smoke: a build's server is started on spare ports and has to answer the golden requests, with its adapter loaded."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenOrigin, GoldenRequest
from npu_serving.asking.golden_files import GoldenRequests, write_golden
from npu_serving.asking.golden_places import NONE_RECORDED, RECORD, golden_directory
from npu_serving.asking.npu_signs import NpuSigns, compiled_since
from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import find_build
from npu_serving.builds.manifest import Build
from npu_serving.cann.install import Cann, cann_of
from npu_serving.console import Reporter
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.errors import NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.models.layout import model_place, version_directories
from npu_serving.serving.from_build import plan_current
from npu_serving.serving.golden_request import golden_requests
from npu_serving.serving.server import RunningServer
from npu_serving.serving.server_apis import ServerApis
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.settings import Settings
from npu_serving.trials.smoke_result import GoldenList, GoldenOutcome, SmokeResult
from npu_serving.trials.spare_server import (
    FIRST_ANSWER_MS,
    FIRST_ANSWER_S,
    on_spare_ports,
    plan_spare,
    spare_ports,
    started_whole,
    ticking,
)


@dataclass(frozen=True)
class _SmokeRun:
    """One server, and what it is asked; which models are meant for the NPU there."""

    plan: ServerPlan
    requests: tuple[GoldenRequest, ...]
    means_npu: Callable[[str], bool]


@dataclass(frozen=True)
class _Asked:
    """An outcome, and what was answered."""

    outcome: GoldenOutcome
    answer: object


def list_golden(found: GoldenRequests) -> GoldenList:
    """Those of the directory. RequestError for files that hold none."""
    return GoldenList(found.directory, found.sound())


def plan_smoke(settings: Settings, build: str, golden: GoldenRequest, cann: Cann | None = None) -> ServerPlan:
    """How the server is started for it: on ports that nothing else listens on now."""
    port, rest_api_port = spare_ports(2)
    return plan_current(
        settings,
        build=build,
        model_base_path=model_place(golden.model_base_path, "model_base_path"),
        model_name=golden.model,
        port=port,
        rest_api_port=rest_api_port,
        platform_config_file=golden.platform_config_file,
        extra_flags=(f"--rest_api_timeout_in_ms={FIRST_ANSWER_MS}",),
        cann=cann,
    )


def record(
    settings: Settings,
    name: str,
    golden: GoldenRequest,
    reporter: Reporter,
    *,
    directory: Path | None = None,
    inputs_npz: Path | None = None,
) -> SmokeResult:
    """Asks a build (the current one by default), and keeps its answer as what later builds have to answer.

    Raises ServerError where it doesn't answer, or without its adapter: what is recorded comes from a good build.
    """
    begun = time.monotonic()
    build = find_build(settings.dist_root, name)
    plan = plan_smoke(settings, build.directory.name, golden)
    run = _SmokeRun(plan, (golden,), lambda _model: plan.uses_npu)
    asked: list[_Asked] = []
    _ask(settings, build, run, reporter, asked)
    device = plan.env.get("ASCEND_DEVICE_ID") or plan.env.get("DEVICE_ID") or "0"
    installation = cann_of(settings_of(build, settings)).installation
    origin = GoldenOrigin(
        build=build.manifest.build_id,
        cann=installation.version if installation is not None else "",
        device=f"npu {device}" if plan.uses_npu else "cpu",
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    golden = dataclasses.replace(golden, expected=asked[0].answer, origin=origin)
    arrays = fsutil.read_bytes(inputs_npz) if inputs_npz is not None else None
    path = write_golden(directory or golden_directory(settings.dist_root), golden, arrays)
    kept = dataclasses.replace(asked[0].outcome, golden=golden, why="")
    return SmokeResult(build, (kept,), time.monotonic() - begun, path)


def golden_of(found: GoldenRequests, name: str = "") -> tuple[GoldenRequest, ...]:
    """The golden requests, or the one of that name. RequestError where there is none, and for files with mistakes."""
    requests = found.sound()
    if not requests:
        raise RequestError("No golden request has been recorded yet.", cure=f"record one: {RECORD}")
    chosen = tuple(golden for golden in requests if name in ("", golden.name))
    if not chosen:
        there = ", ".join(golden.name for golden in requests[:10])
        raise RequestError(f"There is no golden request {name!r}.", cure=f"choose one that is there: {there}")
    return chosen


def smoke(
    settings: Settings,
    name: str,
    reporter: Reporter,
    requests: Sequence[GoldenRequest] = (),
    deployment: tuple[DeploymentFile, Path] | None = None,
) -> SmokeResult:
    """Whether a build (the current one by default) answers as the last good one did: all golden requests, or those."""
    build = find_build(settings.dist_root, name)
    requests = requests or golden_of(golden_requests(settings))
    return smoke_build(settings, build, requests, reporter, None, deployment)


def smoke_build(
    settings: Settings,
    build: Build,
    requests: Sequence[GoldenRequest],
    reporter: Reporter,
    cann: Cann | None = None,
    deployment: tuple[DeploymentFile, Path] | None = None,
) -> SmokeResult:
    """The same for this build and these requests, by a deployment and its file where one is given.

    Whatever keeps the server from answering is a result, not an error.
    """
    begun = time.monotonic()
    found: dict[str, GoldenOutcome] = {}
    groups: dict[tuple[object, ...], list[GoldenRequest]] = {}
    for golden in requests:
        not_asked = "" if deployment is not None else _why_not_alone(golden)
        if not_asked:
            found[golden.name] = GoldenOutcome(golden, not_asked=not_asked)
        else:
            of_server = (golden.model, golden.model_base_path, golden.platform_config_file)
            groups.setdefault(() if deployment is not None else of_server, []).append(golden)
    for group in groups.values():
        asked: list[_Asked] = []
        try:
            _ask(settings, build, _run_for(settings, build, group, cann, deployment), reporter, asked)
        except NpuServingError as error:
            found.update({golden.name: GoldenOutcome(golden, why=str(error)) for golden in group})
        found.update({each.outcome.golden.name: each.outcome for each in asked})
    outcomes = tuple(found[golden.name] for golden in requests)
    return SmokeResult(build, outcomes, time.monotonic() - begun)


def plan_smokes(
    settings: Settings,
    build: str,
    requests: Sequence[GoldenRequest],
    deployment: tuple[DeploymentFile, Path] | None = None,
) -> ServerPlan:
    """How the first server is started. RequestError and ServerError for whatever would keep it from serving."""
    if deployment is not None:
        return plan_spare(settings, on_spare_ports(deployment[0]), deployment[1], build=build, dry_run=True)
    alone = [golden for golden in requests if not _why_not_alone(golden)]
    if not alone:
        raise RequestError(
            f"{requests[0].name}: {_why_not_alone(requests[0])}.", cure="name the deployment: --deployment FILE"
        )
    plans = [plan_smoke(settings, build, golden) for golden in alone]
    return plans[0]


def prove(settings: Settings, build: Build, cann: Cann, reporter: Reporter) -> None:
    """Raises ServerError where golden requests were recorded and a new build does not answer them as expected."""
    requests = golden_requests(settings).sound()
    if not requests:
        reporter.note(NONE_RECORDED)
        return
    result = smoke_build(settings, build, requests, reporter, cann)
    if result.why:
        name = build.manifest.build_id
        many = "the golden request" if len(requests) == 1 else "a golden request"
        raise ServerError(
            f"The new build fails {many}, so the previous one stays current: {result.why}",
            cause=f"the new server, kept in {build.directory}, computes something else or fails to start",
            cure=f"try it again with ./inv smoke --build {name}, or use it anyway with ./inv rollback --build {name}",
        )
    reporter.note(result.text())


def _why_not_alone(golden: GoldenRequest) -> str:
    """Why it can't be asked without a deployment."""
    if not golden.model_base_path:
        return "it does not say where its model is (model_base_path), so it needs a deployment"
    if golden.label:
        return f"only a deployment says which version is {golden.label!r}"
    base = Path(golden.model_base_path)
    if golden.version is not None and base.is_dir() and golden.version != max(version_directories(base), default=-1):
        return f"version {golden.version} is not the newest, so only a deployment serves it"
    return ""


def _run_for(
    settings: Settings,
    build: Build,
    group: Sequence[GoldenRequest],
    cann: Cann | None,
    deployment: tuple[DeploymentFile, Path] | None,
) -> _SmokeRun:
    if deployment is None:
        plan = plan_smoke(settings, build.directory.name, group[0], cann)
        return _SmokeRun(plan, tuple(group), lambda _model: plan.uses_npu)
    file = deployment[0]
    plan = plan_spare(settings, on_spare_ports(file), deployment[1], build=build.directory.name)
    on_npu = {model.name for model in file.models if plan.uses_npu and file.npu_of(model) is not None}
    return _SmokeRun(plan, tuple(group), lambda model: model in on_npu)


def _ask(settings: Settings, build: Build, run: _SmokeRun, reporter: Reporter, found: list[_Asked]) -> None:
    """Adds to `found` how each request was answered. Raises what keeps the server from starting, or ends it."""
    for warning in run.plan.warnings:
        reporter.warn(warning)
    log_path = settings.logs / f"smoke-{time.strftime('%Y%m%d-%H%M%S')}.log"
    apis = ServerApis(run.plan.rest_api_port, run.plan.port)
    proven: set[tuple[str, str]] = set()
    many = len(run.requests)
    title = f"sending {build.manifest.build_id} {'the golden request' if many == 1 else f'{many} golden requests'}"
    with ExitStack() as stack:
        progress = stack.enter_context(reporter.progress(title, total=many, unit="requests"))
        server = stack.enter_context(
            started_whole(run.plan, log_path=log_path, timeout_s=FIRST_ANSWER_S, progress=progress)
        )
        _check_adapter(server, build)
        for number, golden in enumerate(run.requests):
            begun, on_npu, before = time.monotonic(), run.means_npu(golden.model), server.signs
            answer: object = None
            try:
                with ticking(progress, golden.name, number, many):
                    answer = apis.ask(golden, timeout_s=FIRST_ANSWER_S).outputs
                if on_npu and (golden.model, golden.signature) not in proven:
                    check_compiled(before, server.signs, log_path)
                    proven.add((golden.model, golden.signature))
                why = golden.difference(answer)
            except NpuServingError as error:
                if many == 1 or isinstance(error, UnreachableError):
                    raise  # what the server printed, or how it ended, says more of it
                why, on_npu = str(error), False
            found.append(_Asked(GoldenOutcome(golden, why, on_npu=on_npu, seconds=time.monotonic() - begun), answer))


def check_compiled(before: NpuSigns, after: NpuSigns, log_path: Path) -> None:
    """ServerError unless the model that has just answered for the first time was compiled for the NPU."""
    if compiled_since(before, after):
        return
    raise ServerError(
        f"The server answered, but the CPU computed it: the adapter had nothing compiled for the NPU ({log_path}).",
        cause="no operator of the model is in the adapter's list of operators, or an option keeps it on the CPU",
        cure="look at the list with ./inv cann-info, and at use_off_line and in_out_pair in the platform config",
    )


def _check_adapter(server: RunningServer, build: Build) -> None:
    """ServerError unless the process has the adapter of this very build in its memory map, where the build has one."""
    if build.manifest.without_adapter:
        return
    if server.adapter is None:
        raise ServerError(
            "The server is running without its adapter, so it serves every model on the CPU.",
            cause="it is not linked with the adapter, or the adapter was removed from the build",
            cure="find out which with ./inv verify-serving",
        )
    if build.directory.resolve() not in server.adapter.resolve().parents:
        raise ServerError(
            f"The server has loaded {server.adapter}, which is not the adapter of this build.",
            cause="a directory of LD_LIBRARY_PATH or /etc/ld.so.conf comes before the build's own",
            cure="remove that directory from it",
        )
