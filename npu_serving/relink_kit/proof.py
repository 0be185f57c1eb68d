"""The proof of a new server: it is started on spare ports, and has to answer the golden requests over REST."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from npu_serving import fsutil, process
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import read_golden_requests
from npu_serving.asking.golden_places import golden_directory
from npu_serving.asking.npu_signs import (
    LEVEL_OF_THE_SIGN,
    LOG_LEVEL_VARIABLE,
    NpuSigns,
    compiled_since,
    signs_in,
)
from npu_serving.builds.manifest import Build
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import Cann
from npu_serving.client.rest_paths import model_path
from npu_serving.console import Progress, Reporter, duration_text
from npu_serving.deploy.platform_config import read_platform_config
from npu_serving.elf.loader import library_path_of
from npu_serving.errors import ServerError
from npu_serving.options.server_environment import server_environment
from npu_serving.relink_kit.kit_file import KIT_GOLDEN, Kit
from npu_serving.relink_kit.unpacking import read_entries

FIRST_ANSWER_S = 3600
"""The first request has a model compiled for the NPU, which takes minutes."""
_SECONDS_BETWEEN_LOOKS = 0.1
_SECONDS_TO_CONNECT = 5.0
_TAIL_LINES = 15


@dataclass(frozen=True)
class GoldenProof:
    """What is asked, and with which models: `models` is the directory of one, or of several, on this machine.

    `platform_config` is for all of them, in place of what each request names.
    """

    kit: Kit
    cache: Path
    models: Path | None = None
    platform_config: Path | None = None

    def prove(self, build: Build, cann: Cann, reporter: Reporter) -> None:
        """Raises ServerError where the build's server does not start, gives another answer, or has the CPU compute it
        though its platform config asks for the NPU.

        What can't be asked here is said, each with its reason.
        """
        requests = self._requests(build.directory.parent)
        if not requests:
            reporter.note("The kit holds no golden request, so the new server was verified, and not asked anything.")
        groups: dict[tuple[str, str, str], list[GoldenRequest]] = {}
        for golden in requests:
            base = self._model(golden, {each.model for each in requests})
            why = _why_not(golden, base)
            if why:
                reporter.note(f"The golden request {golden.name} was not asked: {why}.")
                continue
            config = self.platform_config or golden.platform_config_file
            groups.setdefault((golden.model, str(base), str(config or "")), []).append(golden)
        log_path = self.cache / "logs" / f"proof-{time.strftime('%Y%m%d-%H%M%S')}.log"
        for (model, base_path, config_path), group in groups.items():
            fsutil.make_directory(log_path.parent)
            with contextlib.ExitStack() as stack:
                title = f"asking {build.manifest.build_id}"
                progress = stack.enter_context(reporter.progress(title, total=len(group), unit="requests"))
                flags = _flags(model, base_path, config_path)
                on_npu = bool(config_path) and read_platform_config(Path(config_path)).asks_for_npu
                server = stack.enter_context(_served(build, cann, flags, log_path))
                server.wait_for(model, progress)
                server.check_adapter(build)
                compiled: set[str] = set()
                for number, golden in enumerate(group):
                    before = server.signs
                    server.ask(golden, build)
                    if on_npu and golden.signature not in compiled:
                        server.check_compiled(before)
                        compiled.add(golden.signature)
                    progress.update(number + 1, detail=golden.name)
            many = "golden request" if len(group) == 1 else "golden requests"
            where = "on the NPU" if on_npu else "on the CPU, since no NpuOptimizer is on in its platform config"
            reporter.note(f"The new server answers {len(group)} {many} for {model} as expected, {where}.")

    def _requests(self, dist_root: Path) -> tuple[GoldenRequest, ...]:
        """The kit's, and in place of those of a name the ones that are beside the builds."""
        found: dict[str, GoldenRequest] = {}
        with fsutil.scratch_directory(self.cache) as above:
            directory = above / "requests"
            for name, data in read_entries(self.kit, KIT_GOLDEN).items():
                fsutil.write_file(directory / Path(name).name, data)
            for golden in read_golden_requests(directory).sound():
                config = golden.platform_config_file
                if config is not None and not config.is_absolute():
                    kept = self.cache / f"config-{self.kit.digest[:16]}" / config.name
                    fsutil.copy_file(directory / config.name, kept)
                    config = kept
                found[golden.name] = dataclasses.replace(golden, platform_config_file=config)
        found.update({golden.name: golden for golden in read_golden_requests(golden_directory(dist_root)).sound()})
        return tuple(found[name] for name in sorted(found))

    def _model(self, golden: GoldenRequest, models: set[str]) -> Path | None:
        if self.models is None:
            return Path(golden.model_base_path) if golden.model_base_path else None
        inner = self.models / golden.model
        return self.models if not _is_directory(inner) and len(models) == 1 else inner


def _why_not(golden: GoldenRequest, base: Path | None) -> str:
    if golden.needs_grpc:
        return "it is asked over gRPC, which needs more than Python's standard library"
    if base is None:
        return "it does not say where its model is"
    if not _is_directory(base):
        return f"its model {base} is not on this machine (--model-base-path names where it is)"
    if golden.version is not None and golden.version != max(_versions(base), default=-1):
        return f"version {golden.version} is not the newest in {base}, and only a deployment serves it"
    return ""


def _is_directory(path: Path) -> bool:
    with fsutil.explained(path, doing="read"):
        return path.is_dir()


def _versions(base: Path) -> list[int]:
    with fsutil.explained(base, doing="read"):
        found = list(base.iterdir())
    return [int(path.name) for path in found if path.name.isascii() and path.name.isdecimal()]


def _flags(model: str, base_path: str, config: str) -> tuple[str, ...]:
    flags = {
        "model_name": model,
        "model_base_path": str(Path(base_path).absolute()),
        "max_num_load_retries": "0",
        "rest_api_timeout_in_ms": str(1000 * FIRST_ANSWER_S),
        **({"platform_config_file": config} if config else {}),
    }
    return tuple(f"--{name}={value}" for name, value in flags.items())


@dataclass(frozen=True)
class _StartedServer:
    """A server that was started, and where it listens."""

    process: Popen[bytes]
    port: int
    log_path: Path
    log_begins: int
    """Where in the log its output begins, in bytes: servers that were started before it have written there too."""

    @property
    def signs(self) -> NpuSigns:
        """What it has said of the NPU so far."""
        printed = fsutil.read_bytes(self.log_path)[self.log_begins :]
        return signs_in(printed.decode("utf-8", "replace"))

    def check_compiled(self, before: NpuSigns) -> None:
        """ServerError unless what it has answered since was compiled for the NPU."""
        if not compiled_since(before, self.signs):
            raise ServerError(
                "The new server answered, but the CPU computed it: the adapter had nothing compiled for the NPU "
                f"({self.log_path}). So the previous build stays current.",
                cause="no operator of the model is in the adapter's list of operators, or an option keeps it on the "
                "CPU",
                cure="look at use_off_line and in_out_pair in the platform config; to use the server anyway: "
                "--no-proof",
            )

    def wait_for(self, model: str, progress: Progress) -> None:
        """Returns when the model is available. ServerError where it can't be, or where the server ends."""
        begun = time.monotonic()
        while True:
            self._check_alive()
            states = self._states(model)
            if states == {"AVAILABLE"}:
                return
            seconds = time.monotonic() - begun
            if states == {"END"} or seconds > FIRST_ANSWER_S:
                raise self._error(f"The new server does not load {model}")
            progress.update(0, detail=f"the server loads {model}, {duration_text(seconds)}")
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def check_adapter(self, build: Build) -> None:
        """ServerError unless the process has the build's own adapter in its memory."""
        maps = Path("/proc", str(self.process.pid), "maps")
        with fsutil.explained(maps, doing="read"):
            loaded = maps.read_text(encoding="utf-8", errors="surrogateescape")
        if os.path.realpath(build.adapter) not in loaded:
            raise self._error(f"The new server runs without the adapter {build.adapter}")

    def ask(self, golden: GoldenRequest, build: Build) -> None:
        """ServerError where the answer is another than the expected one."""
        version = f"/versions/{golden.version}" if golden.version is not None else ""
        path = f"{model_path(golden.model)}{version}:predict"
        status, answer = self._call("POST", path, golden.request.body(), FIRST_ANSWER_S)
        self._check_alive()
        key = golden.request.answer_key
        if status != http.client.OK or not isinstance(answer, dict) or key not in answer:
            why = f"HTTP {status}: {str(answer)[:300]}"
        else:
            why = golden.difference(answer[key])
        if why:
            raise ServerError(
                f"The new build fails the golden request {golden.name}, so the previous one stays current: {why}",
                cause=f"the new server, kept in {build.directory}, computes something else",
                cure=f"look at {self.log_path}; to use it anyway: --no-proof",
            )

    def _states(self, model: str) -> set[str]:
        status, answer = self._call("GET", model_path(model), None, _SECONDS_TO_CONNECT)
        if status != http.client.OK or not isinstance(answer, dict):
            return set()
        versions = answer.get("model_version_status")
        return {str(each.get("state")) for each in versions} if isinstance(versions, list) else set()

    def _call(self, method: str, path: str, body: str | None, timeout_s: float) -> tuple[int, object]:
        """The status and the JSON of an answer; 0 where none comes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)
        with contextlib.closing(connection):
            try:
                connection.request(method, path, body)
                answer = connection.getresponse()
                data = answer.read()
            except (OSError, http.client.HTTPException) as error:
                return 0, str(error)
        try:
            return answer.status, json.loads(data)
        except (ValueError, RecursionError):
            return answer.status, data.decode("utf-8", "replace")

    def _check_alive(self) -> None:
        if self.process.poll() is not None:
            raise self._error(f"The new server ended ({self.process.returncode})")

    def _error(self, what: str) -> ServerError:
        tail = fsutil.read_text(self.log_path).splitlines()[-_TAIL_LINES:]
        lines = "\n".join(f"    {line}" for line in tail)
        return ServerError(
            f"{what}, so the current build stays:\n{lines}",
            cause="the last lines of its log, above, say what keeps it from serving",
            cure=f"correct that, then run the same command again; the log is {self.log_path}",
        )


@contextlib.contextmanager
def _served(build: Build, cann: Cann, flags: Sequence[str], log_path: Path) -> Iterator[_StartedServer]:
    grpc_port, rest_port = _spare_ports(2)
    argv = (str(build.server.resolve()), f"--port={grpc_port}", f"--rest_api_port={rest_port}", *flags)
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(fsutil.scratch_directory(log_path.parent))
        begins = log_path.stat().st_size if log_path.exists() else 0
        running = process.running(argv, log_path=log_path, env=_environment(cann), cwd=directory)
        yield _StartedServer(stack.enter_context(running), rest_port, log_path, begins)


def _environment(cann: Cann) -> Mapping[str, str]:
    """What CANN's set_env.sh would set, what of the caller's is for a server, and the level at which the NPU shows."""
    of_cann = cann_environment(cann.installation, os.environ)
    env = of_cann.added_to({**process.base_environment(), **server_environment(os.environ).variables})
    env = {**env, LOG_LEVEL_VARIABLE: LEVEL_OF_THE_SIGN}
    directories = (*of_cann.library_path, *library_path_of(os.environ))
    return {**env, "LD_LIBRARY_PATH": ":".join(dict.fromkeys(map(str, directories)))} if directories else env


def _spare_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:  # until all are found, so that they differ
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
