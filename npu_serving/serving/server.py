"""Starting a built tensorflow_model_server: what it is started with, checked beforehand, and whether it is ready."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import file_access, fsutil, process
from npu_serving.cann.environment import CannEnvironment
from npu_serving.cann.link_stubs import link_stub_findings
from npu_serving.client import rest_client
from npu_serving.console import Reporter
from npu_serving.doctor.places import noexec_trouble
from npu_serving.elf.loader import library_path_of
from npu_serving.elf.owners import is_of_driver, owners_table
from npu_serving.errors import NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.models.layout import (
    MODEL_LAYOUT,
    ModelPlace,
    RemotePlace,
    check_model_directory,
    check_model_name,
)
from npu_serving.options import server_flags
from npu_serving.options.server_environment import server_environment
from npu_serving.serving import preflight
from npu_serving.serving.deployment import deployment_of
from npu_serving.serving.ending import Ending, EndWatch, adapter_words, server_failure
from npu_serving.serving.npu_signs import NpuSigns, left_to_the_cpu, signs_in
from npu_serving.serving.server_record import RecordKeeper
from npu_serving.shown_text import masked_variable
from npu_serving.supervision import supervise
from npu_serving.writers.shell import command_line, shell_word

PROGRAM = "tensorflow_model_server"
ADAPTER_FILE = re.compile(f"(?:lib)?{re.escape(ADAPTER_SONAME)}")
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_FOR_ONE_ANSWER = 5.0
SECONDS_TO_END = 60.0  # what a dying server takes, whose core is written meanwhile
LOG_TAIL_BYTES = 1 << 18
LINES_OF_THE_END = 1000  # what a server printed last, in which the cause of its end is looked for


@dataclass(frozen=True)
class ServerPlan:
    """How a server is going to be started: the whole command line and the whole environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    model_name: str
    port: int
    rest_api_port: int
    uses_npu: bool = False
    """Whether its platform config asks for the NPU."""
    warnings: tuple[str, ...] = ()
    unlike_callers: Mapping[str, str | None] = field(default_factory=dict)
    """What of the environment a shell like the caller's has to be given; None for what is to be left out."""

    def to_json(self) -> dict[str, object]:
        """The plan as `--json` shows it."""
        return {
            "argv": list(self.argv),
            "environment": {name: masked_variable(name, value) for name, value in self.env.items()},
            "model_name": self.model_name,
            "port": self.port,
            "rest_api_port": self.rest_api_port,
            "uses_npu": self.uses_npu,
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """The command as a person can paste it, with what it needs of the environment."""
        given = [f"{name}={value}" for name, value in self.unlike_callers.items() if value is not None]
        without = [word for name, value in self.unlike_callers.items() if value is None for word in ("-u", name)]
        words = ["env", *without, *given, *self.argv] if self.unlike_callers else list(self.argv)
        return "\n".join([command_line(words), *(f"warning: {warning}" for warning in self.warnings)])


@dataclass(frozen=True)
class RunningServer:
    """A server whose model is available. `adapter` is the adapter library that its process has mapped."""

    pid: int
    rest_url: str
    grpc_port: int
    log_path: Path
    adapter: Path | None
    seconds: float
    log: _Log = field(repr=False)

    @property
    def signs(self) -> NpuSigns:
        """What its output says of the NPU so far."""
        return signs_in(self.log.whole())

    @property
    def adapter_loaded(self) -> bool:
        """Whether the adapter is part of the process: a server without it serves every model on the CPU, silently."""
        return self.adapter is not None

    def to_json(self) -> dict[str, object]:
        """The server as `--json` shows it."""
        return {
            "pid": self.pid,
            "rest_url": self.rest_url,
            "grpc_port": self.grpc_port,
            "log": str(self.log_path),
            "adapter": str(self.adapter) if self.adapter else None,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """The server for a person."""
        adapter = f"with {self.adapter}" if self.adapter else "WITHOUT the adapter: models run on the CPU"
        return f"process {self.pid} serves at {self.rest_url} and gRPC port {self.grpc_port}, {adapter}"


def plan_server(
    artifact: Path,
    *,
    model_base_path: ModelPlace | None,
    model_name: str,
    port: int = 8500,
    rest_api_port: int = 8501,
    platform_config_file: Path | None = None,
    cann: CannEnvironment | None = None,
    extra_flags: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> ServerPlan:
    """How to start the server of `artifact`, a directory dist/<build-id> with bin/ and lib/.

    `model_base_path` holds the version directories; it is None when `extra_flags` (--flag=value) name a
    --model_config_file. With `rest_api_port` 0 there is no REST API. LD_LIBRARY_PATH gets the artifact's lib directory
    where the server would not find its libraries otherwise, then those of `cann`, then what the caller has set; of the
    other variables that CANN's set_env.sh sets, the caller's count unless they are stale. `variables` are the server's
    own, and count most. Loading a model is tried once
    unless a flag says otherwise: by default the server keeps its ports shut for five minutes while it tries a bad model
    again and again.

    Raises RequestError and ServerError for whatever would keep the server from serving.
    """
    program = _program(artifact)
    check_model_name(model_name)
    flags = {"port": str(port), "rest_api_port": str(rest_api_port), "max_num_load_retries": "0"}
    further = server_flags.checked_flags(extra_flags)
    if platform_config_file is not None:
        path = server_flags.existing_file(platform_config_file, "platform_config_file")
        flags["platform_config_file"] = str(path)
    flags.update(_model_flags(model_base_path, model_name, further))
    flags.update(further)
    preflight.check_ports(port, rest_api_port)
    cann = cann if cann is not None else CannEnvironment()
    callers, stated = server_environment(os.environ), dict(variables or {})
    env = cann.added_to({**process.base_environment(), **callers.variables, **stated})
    env.update({name: value for name, value in stated.items() if name not in cann.lists})
    library_path = [*cann.library_path, *library_path_of({**os.environ, **stated})]
    env, missing = _with_libraries(env, program, artifact, library_path)
    deployment = deployment_of(platform_config_file, env, cann.runtime)
    env = {**env, **deployment.variables}
    sockets = preflight.socket_warnings(env) if deployment.uses_npu else []
    return ServerPlan(
        argv=(str(program), *(f"--{name}={value}" for name, value in flags.items())),
        env=env,
        unlike_callers=_unlike(env, (*cann.left_out, *callers.left_out)),
        model_name=model_name,
        port=port,
        rest_api_port=rest_api_port,
        uses_npu=deployment.uses_npu,
        warnings=(*_ignored_flags(flags), *deployment.warnings, *callers.warnings, *cann.warnings, *missing, *sockets),
    )


def serve_in_foreground(plan: ServerPlan, reporter: Reporter, build_root: Path) -> int:
    """Runs the server in this process' place until it ends: the warnings before it, the cause of a failure after it.

    What its output says of the NPU is noted when it comes, and kept below `build_root` for status. Returns its
    exit status, negative for a signal. Raises MissingToolError where it can't be started.
    """
    for warning in plan.warnings:
        reporter.warn(warning)
    reporter.note(command_line(plan.argv))
    last: deque[str] = deque(maxlen=LINES_OF_THE_END)
    watch = EndWatch(plan.argv)
    signs, begun, directory = NpuSigns(), time.time(), Path.cwd()
    keeper = RecordKeeper(build_root, plan.rest_api_port, uses_npu=plan.uses_npu)

    def read(line: str) -> None:
        last.append(line)
        before = replace(signs)
        if signs.add(line):
            keeper.saw(signs)
            _tell(plan, before, signs, reporter)

    returncode = supervise(plan.argv, env=plan.env, on_line=read, on_start=keeper.began)
    error = None
    if returncode != 0 and -returncode not in process.ENDING_SIGNALS:
        ending = watch.ending(returncode)
        error = server_failure(f"The server has ended: {ending.text()}.", "\n".join(last), ending)
    keeper.ended(error)
    left = left_to_the_cpu(directory, begun)
    if left:
        _say(f"npu-serving: {left}", reporter)
    if error is not None:
        _say(str(error), reporter)
    return returncode


def _say(text: str, reporter: Reporter) -> None:
    """A note, if anybody reads it: a server is not to end, nor to end otherwise, because a pager was closed."""
    with contextlib.suppress(OSError):
        reporter.note(text)


def _tell(plan: ServerPlan, before: NpuSigns, now: NpuSigns, reporter: Reporter) -> None:
    """What a person wants to know of a sign that has just come."""
    if now.loaded and not before.loaded:
        name = shell_word(plan.model_name) if f"--model_name={plan.model_name}" in plan.argv else "NAME"
        proof = f"./inv predict {name} --url http://localhost:{plan.rest_api_port} --request REQUEST"
        on_npu = ", and whether the NPU does" if plan.uses_npu else ""
        _say(
            f"npu-serving: loaded. Whether it answers{on_npu} shows at the first request"
            + (f": {proof}" if plan.rest_api_port else ""),
            reporter,
        )
    if now.compiled and not before.compiled:
        _say("npu-serving: the NPU is used: the first graph was compiled for it", reporter)


@contextlib.contextmanager
def started(plan: ServerPlan, *, log_path: Path, timeout_s: float = 300.0) -> Iterator[RunningServer]:
    """A server that answers for its model while the block runs; SIGTERM stops it afterwards.

    Its output is appended to `log_path`. Raises ServerError, with the end of that output and the cause where it is a
    known one, when the server exits, when the model fails to load, and when it isn't available within `timeout_s`; a
    failure of the block's gets the cause that the server has printed meanwhile. RequestError when the plan has no REST
    API, by which the wait is done.
    """
    if plan.rest_api_port == 0:
        raise RequestError(
            "Without the REST API there is no way to see whether the model is available.",
            cure="give the server a REST port",
        )
    fsutil.make_directory(log_path.parent)
    log = _Log(log_path)
    begun, watch = time.monotonic(), EndWatch(plan.argv)
    with process.running(plan.argv, log_path=log_path, env=plan.env) as child:
        rest_url = f"http://127.0.0.1:{plan.rest_api_port}"
        _wait_until_available(plan, rest_url, child, log, watch, begun + timeout_s)
        server = RunningServer(
            pid=child.pid,
            rest_url=rest_url,
            grpc_port=plan.port,
            log_path=log_path,
            adapter=_mapped_adapter(child.pid),
            seconds=time.monotonic() - begun,
            log=log,
        )
        try:
            yield server
        except NpuServingError as error:
            _explain(error, child, log, watch)
            raise


# ---- the plan


def _program(artifact: Path) -> Path:
    """The server in the artifact, by its real path: `dist/current` may point elsewhere before the server has ended."""
    program = artifact.expanduser().resolve() / "bin" / PROGRAM
    if not program.is_file():
        raise RequestError(
            f"{artifact} is not a finished build: {program} does not exist.",
            cure="build one with ./inv build-serving, or choose one that ./inv list-builds shows",
        )
    where = "the directory of finished builds"
    noexec = noexec_trouble(where, program.parent, "set dist_root in invoke.yaml to another directory")
    if noexec is not None:
        raise noexec
    if not os.access(program, os.X_OK):
        raise RequestError(f"This user may not execute {program}.", cure=f"chmod a+rx {program}")
    return program


def _model_flags(model_base_path: ModelPlace | None, model_name: str, further: Mapping[str, str]) -> dict[str, str]:
    if "model_config_file" in further:
        if model_base_path is not None:
            raise RequestError(
                "A model directory and --model_config_file cannot be combined.",
                cause="the server would ignore the directory",
                cure="remove one of the two",
            )
        return {}
    if model_base_path is None:
        raise RequestError("No model was named.", cause=MODEL_LAYOUT, cure="name the model's directory")
    base = model_base_path if isinstance(model_base_path, RemotePlace) else model_base_path.expanduser().absolute()
    if "\0" in str(base):
        raise RequestError(f"The model directory {str(base)!r} contains a NUL byte.", cure="use another path")
    if isinstance(base, Path):
        wanted = "model.tflite" if further.get("use_tflite_model") == "true" else "saved_model.pb"
        with fsutil.explained(base, doing="read"):
            check_model_directory(base, wanted)
    return {"model_name": model_name, "model_base_path": str(base)}


def _ignored_flags(flags: Mapping[str, str]) -> list[str]:
    if "platform_config_file" not in flags:
        return []
    known = server_flags.known_flags()
    return [
        f"--{name} has no effect: with a platform config the server reads this only from there"
        for name in flags
        if known[name].ignored_with_platform_config
    ]


def _with_libraries(
    env: Mapping[str, str], program: Path, artifact: Path, library_path: Sequence[Path]
) -> tuple[dict[str, str], list[str]]:
    """The environment with LD_LIBRARY_PATH, and a warning for each library that is missing or only a stub."""
    own = artifact.expanduser().resolve() / "lib"
    directories = [path.expanduser().absolute() for path in library_path]
    for directory in (own, *directories):
        if ":" in str(directory) or "\0" in str(directory):
            raise RequestError(
                f"The path of the library directory {str(directory)!r} contains a colon or NUL.",
                cause="such a path can't be part of LD_LIBRARY_PATH",
                cure="use another directory",
            )
    whole = _with_library_path(env, directories)
    found = preflight.find_libraries(program, whole)
    if any((own / name).exists() for name in found.missing):
        whole = _with_library_path(env, [own, *directories])
        found = preflight.find_libraries(program, whole)
    stubs = [f"{stub.what} Next: {stub.cure}" for stub in link_stub_findings(found.taken, directories)]
    return whole, [_not_found(name, directories) for name in found.missing] + stubs


def _not_found(name: str, directories: Sequence[Path]) -> str:
    """The warning about a library that the server needs; ServerError where it is there, but not for this user."""
    cure = "source CANN's set_env.sh (since CANN 8.5 cann/set_env.sh), or see ./inv cann-info and ./inv verify-serving"
    if is_of_driver(name):
        cure = owners_table().driver_cure
    for directory in directories:
        closed = file_access.refused_at(directory / name)
        if closed is not None and closed == Path(os.path.realpath(directory / name)):
            raise ServerError(
                f"The server needs {name}, and this user may not read {closed} ({file_access.whose(closed)}).",
                cause="CANN was installed for other users only; the loader passes over what it may not read",
                cure=file_access.cure_for(closed),
            )
        if closed is not None:
            whose = f"{closed} can't be entered by this user ({file_access.whose(closed)})"
            cure = f"{whose}: {file_access.cure_for(closed)}; or {cure}"
    return f"{name} was not found, so the server won't start: {cure}"


def _unlike(env: Mapping[str, str], left_out: Sequence[str]) -> dict[str, str | None]:
    """What of the environment is another than the caller's own, and what is taken out of that."""
    ours = {name: value for name, value in sorted(env.items()) if os.environ.get(name) != value}
    return {**dict.fromkeys(left_out), **ours}


def _with_library_path(env: Mapping[str, str], directories: Sequence[Path]) -> dict[str, str]:
    unique = list(dict.fromkeys(str(directory) for directory in directories))
    return {**env, "LD_LIBRARY_PATH": ":".join(unique)} if unique else dict(env)


# ---- the start


class _Log:
    """The part of a log file that this start wrote."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._begin = path.stat().st_size if path.exists() else 0

    def text(self) -> str:
        """The server's output so far, or the last part of it."""
        with self.path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._begin, end - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")

    def whole(self) -> str:
        """All of it."""
        with self.path.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode(errors="replace")


def _wait_until_available(
    plan: ServerPlan, rest_url: str, child: subprocess.Popen[bytes], log: _Log, watch: EndWatch, deadline: float
) -> None:
    answer = "it has not answered yet"
    while time.monotonic() < deadline:
        if _ends_within(child, SECONDS_BETWEEN_LOOKS):
            raise _ended(child, log, watch, "The server exited before it was ready")
        if "Failed to start HTTP Server" in log.text():
            raise _failure("The server is running without its REST API.", log)
        try:
            status = rest_client.model_status(rest_url, plan.model_name, timeout_s=SECONDS_FOR_ONE_ANSWER)
        except NpuServingError as error:
            answer = error.what
            continue
        if status.available:
            return
        answer = status.text()
        if status.failed:
            raise _failure(f"The server could not load its model.\n{answer}", log)
    raise _failure(f"The model {plan.model_name!r} was not available in time; last answer: {answer}", log)


def _explain(error: NpuServingError, child: subprocess.Popen[bytes], log: _Log, watch: EndWatch) -> None:
    """Raises in its place what the server's end, or its output, says of an answer that did not come."""
    if isinstance(error, UnreachableError) and _ends_within(child, SECONDS_TO_END):
        raise _ended(child, log, watch, "The server ended at a request, before it had answered") from error
    known = adapter_words(f"{log.text()}\n{error.what}")
    if known is not None:
        raise ServerError(error.what, cause=known.cause, cure=known.cure) from error


def _ends_within(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _ended(child: subprocess.Popen[bytes], log: _Log, watch: EndWatch, what: str) -> ServerError:
    ending = watch.ending(child.returncode)
    return _with_tail(f"{what}: {ending.text()}.", log, ending)


def _failure(what: str, log: _Log) -> ServerError:
    return _with_tail(what, log, None)


def _with_tail(what: str, log: _Log, ending: Ending | None) -> ServerError:
    """The error with the end of the log below it."""
    text = log.text()
    tail = [f"    {line}" for line in text.splitlines() if line.strip()][-process.TAIL_LINES :]
    what = "\n".join([what, *tail, f"The log is {log.path}"])
    return server_failure(what, text, ending, otherwise=f"read the whole log: {log.path}")


def _mapped_adapter(pid: int) -> Path | None:
    """The adapter library in the memory map of the process, or of one that it started (a wrapper's child)."""
    for member in sorted({pid, *process.descendants(pid)}):
        for name in _mapped_files(member):
            if ADAPTER_FILE.fullmatch(name.rpartition("/")[2]):
                return Path(name)
    return None


def _mapped_files(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # it has ended in the meantime
        return []
    columns = (line.split(maxsplit=5) for line in text.split("\n"))  # the path is the sixth, and may hold blanks
    return [row[5].removesuffix(" (deleted)") for row in columns if len(row) == 6]
