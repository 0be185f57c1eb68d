"""smoke: a build's server is started on spare ports and has to answer the golden request, with its adapter loaded."""

from __future__ import annotations

import dataclasses
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from npu_serving.builds.current import find_build
from npu_serving.builds.manifest import Build
from npu_serving.cann.install import Cann
from npu_serving.client.rest_client import predict
from npu_serving.console import Reporter, duration_text
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError, RequestError, ServerError
from npu_serving.serving.from_build import plan_current
from npu_serving.serving.golden_request import RECORD, GoldenRequest, read_golden, write_golden
from npu_serving.serving.npu_signs import NpuSigns
from npu_serving.serving.server import RunningServer, started
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.settings import Settings


@dataclass(frozen=True)
class SmokeResult:
    """How a build's server answered the golden request; `why` is empty where it did so as expected."""

    build: Build
    golden: GoldenRequest
    why: str
    seconds: float
    recorded: Path | None = None
    """The file, where the answer was recorded and not compared."""
    on_npu: bool = False
    """Whether the server said that the NPU computed the answer."""

    @property
    def exit_code(self) -> int:
        """0, or 3 where the answer is different or missing."""
        return EXIT_ACTION_NEEDED if self.why else 0

    def to_json(self) -> dict[str, object]:
        """The request, the expected answer, and the result."""
        return {
            "build_id": self.build.manifest.build_id,
            "passed": not self.why,
            "on_npu": self.on_npu,
            "why": self.why,
            "golden": self.golden.to_json(),
            "recorded": str(self.recorded) if self.recorded is not None else None,
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """One line, or the reason."""
        name, took = self.build.manifest.build_id, duration_text(self.seconds)
        if self.recorded is not None:
            kept = f"Recorded the answer of {name} in {self.recorded}; every rebuilt server has to give the same one."
            return f"{kept}\n{self._where}"
        if self.why:
            return f"{name} fails the golden request ({took}): {self.why}"
        return f"{name} answers the golden request, with its adapter loaded ({took}). {self._where}"

    @property
    def _where(self) -> str:
        if self.on_npu:
            return "The NPU computed it: the adapter had the model compiled for it."
        return (
            "That proves nothing about the NPU: the golden request has no platform config that asks for it, so the CPU "
            f"answered. To have the NPU proven: {RECORD}"
        )


def plan_smoke(settings: Settings, build: str, golden: GoldenRequest, cann: Cann | None = None) -> ServerPlan:
    """How the server is started for it: on ports that nothing else listens on now."""
    port, rest_api_port = spare_ports(2)
    return plan_current(
        settings,
        build=build,
        model_base_path=golden.model_base_path,
        model_name=golden.model_name,
        port=port,
        rest_api_port=rest_api_port,
        platform_config_file=golden.platform_config_file,
        cann=cann,
    )


def record(settings: Settings, name: str, golden: GoldenRequest, reporter: Reporter) -> SmokeResult:
    """Asks a build (the current one by default), and keeps its answer as what later builds have to answer.

    Raises ServerError where it doesn't answer, or without its adapter: what is recorded comes from a good build.
    """
    begun = time.monotonic()
    build = find_build(settings.dist_root, name)
    answer, on_npu = _ask(settings, build, golden, reporter)
    golden = dataclasses.replace(golden, expected=answer, build_id=build.manifest.build_id)
    path = write_golden(settings.dist_root, golden)
    return SmokeResult(build, golden, "", time.monotonic() - begun, path, on_npu)


def golden_of(settings: Settings) -> GoldenRequest:
    """The golden request; RequestError where none was recorded."""
    golden = read_golden(settings.dist_root)
    if golden is None:
        raise RequestError("No golden request has been recorded yet.", cure=f"record one: {RECORD}")
    return golden


def smoke(settings: Settings, name: str, reporter: Reporter) -> SmokeResult:
    """Whether a build (the current one by default) answers the golden request as the last good one did."""
    return smoke_build(settings, find_build(settings.dist_root, name), golden_of(settings), reporter)


def smoke_build(
    settings: Settings, build: Build, golden: GoldenRequest, reporter: Reporter, cann: Cann | None = None
) -> SmokeResult:
    """The same for this build; whatever keeps the server from answering is a result, not an error."""
    begun, on_npu = time.monotonic(), False
    try:
        answer, on_npu = _ask(settings, build, golden, reporter, cann)
        why = golden.difference(answer)
    except NpuServingError as error:
        why = str(error)
    return SmokeResult(build, golden, why, time.monotonic() - begun, on_npu=on_npu)


def prove(settings: Settings, build: Build, cann: Cann, reporter: Reporter) -> None:
    """Raises ServerError where a golden request was recorded and a new build does not answer it as expected."""
    golden = read_golden(settings.dist_root)
    if golden is None:
        reporter.note(
            f"no golden request is recorded, so the new server was not tried. To have it tried next time: {RECORD}"
        )
        return
    result = smoke_build(settings, build, golden, reporter, cann)
    if result.why:
        name = build.manifest.build_id
        raise ServerError(
            f"The new build fails the golden request, so the previous one stays current: {result.why}",
            cause=f"the new server, kept in {build.directory}, computes something else or fails to start",
            cure=f"try it again with ./inv smoke --build {name}, or use it anyway with ./inv rollback --build {name}",
        )
    reporter.note(result.text())


def spare_ports(count: int) -> tuple[int, ...]:
    """TCP ports that nothing listens on now."""
    with ExitStack() as held:  # until all are found, so that they differ
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return tuple(int(probe.getsockname()[1]) for probe in probes)


def _ask(
    settings: Settings, build: Build, golden: GoldenRequest, reporter: Reporter, cann: Cann | None = None
) -> tuple[object, bool]:
    """The answer, and whether the NPU gave it; ServerError where the NPU is meant and did not."""
    plan = plan_smoke(settings, build.directory.name, golden, cann)
    for warning in plan.warnings:
        reporter.warn(warning)
    log_path = settings.logs / f"smoke-{time.strftime('%Y%m%d-%H%M%S')}.log"
    with reporter.progress(f"sending {build.manifest.build_id} the golden request", unit="requests"):  # noqa: SIM117
        with started(plan, log_path=log_path) as server:
            _check_adapter(server, build)
            before = server.signs
            answer = predict(server.rest_url, golden.model_name, golden.request).outputs
            if plan.uses_npu:
                check_compiled(before, server.signs, log_path)
            return answer, plan.uses_npu


def check_compiled(before: NpuSigns, after: NpuSigns, log_path: Path) -> None:
    """ServerError unless the model that has just answered for the first time was compiled for the NPU.

    Each signature's graph is compiled when it is first run: with the request, or before it with the recorded ones that
    warm a model up. What is compiled while a model is loaded otherwise is its restoring, and proves nothing.
    """
    if after.compiled > before.compiled or (before.compiled and before.warmed_up):
        return
    raise ServerError(
        f"The server answered, but the CPU computed it: the adapter had nothing compiled for the NPU ({log_path}).",
        cause="no operator of the model is in the adapter's list of operators, or an option keeps it on the CPU",
        cure="look at the list with ./inv cann-info, and at use_off_line and in_out_pair in the platform config",
    )


def _check_adapter(server: RunningServer, build: Build) -> None:
    """ServerError unless the process has the adapter of this very build in its memory map."""
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
