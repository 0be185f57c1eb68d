"""Running a built tensorflow_model_server: in our place, or beside us until it is no longer needed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.asking import rest_client
from npu_serving.asking.answers import status_table
from npu_serving.asking.npu_signs import NpuSigns, left_to_the_cpu, signs_in
from npu_serving.console import Reporter
from npu_serving.errors import NpuServingError, RequestError, ServerError, UnreachableError
from npu_serving.results.run_results import run_results
from npu_serving.serving.asked_models import asked_models
from npu_serving.serving.ending import Ending, EndWatch, adapter_words, server_failure
from npu_serving.serving.loaded_versions import note_first_versions
from npu_serving.serving.mapped_adapter import mapped_adapter
from npu_serving.serving.probes import ProbeEndpoint
from npu_serving.serving.readiness import ReadinessWatch, ReadyTerms
from npu_serving.serving.serve_request import ServeRequest
from npu_serving.serving.server_log import OutputLog
from npu_serving.serving.server_plan import ServerPlan
from npu_serving.serving.server_record import RecordKeeper, ServerRecord, begin_of
from npu_serving.serving.taken_ports import refuse_taken
from npu_serving.shown_text import masked_words
from npu_serving.state_lock import state_lock
from npu_serving.supervision import supervise
from npu_serving.writers.shell import command_line

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_FOR_ONE_ANSWER = 5.0
SECONDS_TO_END = 60.0  # what a dying server takes, whose core is written meanwhile
LOG_TAIL_BYTES = 1 << 18


@dataclass(frozen=True)
class RunningServer:
    """A server whose model is available. `adapter` is the adapter library that its process has mapped."""

    pid: int
    rest_url: str
    grpc_port: int
    log_path: Path
    adapter: Path | None
    log: _Log = field(repr=False)

    @property
    def signs(self) -> NpuSigns:
        """What its output says of the NPU so far."""
        return signs_in(self.log.whole())

    @property
    def adapter_loaded(self) -> bool:
        """Whether the adapter is part of the process: a server without it serves every model on the CPU, silently."""
        return self.adapter is not None


class Onlooker:
    """Somebody who hears how a server gets on; this one does not care."""

    def began(self, pid: int) -> None:
        """It runs, as this process."""

    def looked(self, ready: bool, reasons: Sequence[str]) -> None:
        """It was looked at, and is ready, or is not for these reasons."""

    def ended(self, error: NpuServingError | None) -> None:
        """It has ended; with an error, unless it was stopped as one stops a server."""


@dataclass(frozen=True)
class Company:
    """What a server has besides its plan: what was asked for, who hears of it, and the file that our output goes to."""

    request: ServeRequest | None = None
    onlooker: Onlooker = field(default_factory=Onlooker)
    log: OutputLog | None = None


def serve_in_foreground(
    plan: ServerPlan,
    reporter: Reporter,
    build_root: Path,
    terms: ReadyTerms | None = None,
    company: Company | None = None,
) -> int:
    """Runs the server in this process' place until it ends: the warnings before it, the cause of a failure after it.

    Beside it, it is said what the server still lacks and when it is ready (readiness.py), to probes as well. What its
    output says of the NPU is noted when it comes, and kept below `build_root` for status. Returns its exit status,
    negative for a signal. Raises MissingToolError where it can't be started, and ServerError where another server of
    `serve` has its ports, and where it was ended because it was not ready in time.
    """
    terms, company = terms or ReadyTerms(), company or Company()
    for warning in plan.warnings:
        reporter.warn(warning)
    reporter.note(command_line(plan.command))
    ended_by = EndWatch(plan.argv)
    record = _record_of(plan, terms, company)
    fsutil.make_directory(record.directory)
    served = _Served(plan, reporter, build_root, terms, company, record)
    returncode = served.run()
    error = served.watch.error
    stopped = -returncode in process.ENDING_SIGNALS or served.keeper.is_to_stop
    if error is None and returncode != 0 and not stopped:
        ending = ended_by.ending(returncode)
        error = server_failure(f"The server has ended: {ending.text()}.", served.watch.output(), ending)
    served.keeper.ended(error)
    company.onlooker.ended(error)
    _tell_results(plan, record, reporter)
    if served.watch.error is not None:
        raise served.watch.error
    if error is not None:
        _say(str(error), reporter)
    return returncode


class _Served:
    """A server while it runs: its record, its readiness, and who hears of them."""

    def __init__(
        self,
        plan: ServerPlan,
        reporter: Reporter,
        build_root: Path,
        terms: ReadyTerms,
        company: Company,
        record: ServerRecord,
    ) -> None:
        self._plan, self._reporter, self._build_root, self._terms = plan, reporter, build_root, terms
        self._company = company
        self._signs, self._was_ready = NpuSigns(), False
        self._starting = contextlib.ExitStack()
        self._directory = record.directory
        self.keeper = RecordKeeper(build_root, record)
        self.watch = ReadinessWatch(
            plan, terms, build_root=build_root, say=lambda text: _say(text, reporter), on_look=self._looked
        )

    def run(self) -> int:
        """Starts it, alone with its ports, and stays until it has ended: its exit status, negative for a signal."""
        plan, log = self._plan, self._company.log
        with self._starting, contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError, NpuServingError):  # a directory that can't be written to costs no server
                lock = state_lock(self._build_root / "servers", doing="serve", wait=True)
                self._starting.enter_context(lock)
            refuse_taken(self._build_root, (plan.port, plan.rest_api_port, self._terms.probe_port), plan.deployed)
            if self._terms.probe_port:
                stack.callback(ProbeEndpoint(self._terms.probe_port, lambda: self.watch.state).close)
            returncode = supervise(
                plan.argv,
                env=plan.env,
                cwd=self._directory,
                processors=plan.processors,
                on_line=self._read,
                on_start=self._began,
                after_output=log.turn_if_full if log else None,
            )
            self.watch.ended()
        return returncode

    def _began(self, pid: int) -> None:
        self.keeper.began(pid, in_background=self._company.log is not None)
        self._starting.close()
        self._company.onlooker.began(pid)
        self.watch.began(pid)

    def _read(self, line: str) -> None:
        before = replace(self._signs)
        if self._signs.add(line):
            self.keeper.saw(self._signs)
            _tell(before, self._signs, self._reporter)
        self.watch.saw(line, self._signs)

    def _looked(self, ready: bool, reasons: Sequence[str]) -> None:
        self.keeper.is_ready(ready, reasons)
        if ready and not self._was_ready:
            self._was_ready = True
            with contextlib.suppress(OSError, NpuServingError):
                note_first_versions(self._build_root, self.keeper.record)
        self._company.onlooker.looked(ready, reasons)


def _record_of(plan: ServerPlan, terms: ReadyTerms, company: Company) -> ServerRecord:
    """What is known of the server before it is started."""
    return ServerRecord(
        pid=0,
        process_begin=0,
        directory=plan.directory or Path.cwd(),
        started=time.time(),
        uses_npu=plan.uses_npu,
        models=tuple(model.name for model in asked_models(plan.argv)),
        rest_api_port=plan.rest_api_port,
        grpc_port=plan.port,
        probe_port=terms.probe_port,
        build=plan.build,
        program=Path(plan.argv[0]),
        argv=tuple(masked_words(plan.argv)),
        deployed=plan.deployed,
        log=company.log.path if company.log is not None else None,
        request=company.request,
        watcher=os.getpid(),
        watcher_begin=begin_of(os.getpid()),
    )


def _tell_results(plan: ServerPlan, record: ServerRecord, reporter: Reporter) -> None:
    """What the server that has ended has left behind."""
    left = left_to_the_cpu(record.directory, record.started)
    if left:
        _say(f"npu-serving: {left}", reporter)
    with contextlib.suppress(OSError):  # that nobody reads
        results = run_results(record.directory, plan.argv, plan.env, since=record.started, reporter=reporter).text()
        if results:
            reporter.note(f"npu-serving: the run has written\n{results}")


def _say(text: str, reporter: Reporter) -> None:
    """A note, if anybody reads it: a server is not to end, nor to end otherwise, because a pager was closed."""
    with contextlib.suppress(OSError):
        reporter.note(text)


def _tell(before: NpuSigns, now: NpuSigns, reporter: Reporter) -> None:
    """What a person wants to know of a sign that has just come."""
    if now.compiled and not before.compiled:
        _say("npu-serving: the NPU is used: the first graph was compiled for it", reporter)


@contextlib.contextmanager
def started(plan: ServerPlan, *, log_path: Path, timeout_s: float = 300.0) -> Iterator[RunningServer]:
    """A server that answers for its model while the block runs; SIGTERM stops it afterwards.

    Its output is appended to `log_path`; it runs in NAME.run beside that, which goes again if nothing falls into it:
    what the adapter writes is not to lie about where somebody typed a command. Raises ServerError, with the end of
    that output and the cause where it is a known one, when the server exits, when the model fails to load, and when it
    isn't available within `timeout_s`; a failure of the block's gets the cause that the server has printed meanwhile.
    RequestError when the plan has no REST API, by which the wait is done.
    """
    if plan.rest_api_port == 0:
        raise RequestError(
            "Without the REST API there is no way to see whether the model is available.",
            cure="give the server a REST port",
        )
    directory = log_path.with_name(f"{log_path.name}.run")
    fsutil.make_directory(directory)
    log = _Log(log_path)
    deadline, watch = time.monotonic() + timeout_s, EndWatch(plan.argv)
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_empty, directory)
        child = stack.enter_context(
            process.running(plan.argv, log_path=log_path, cwd=directory, env=plan.env, processors=plan.processors)
        )
        rest_url = f"http://127.0.0.1:{plan.rest_api_port}"
        _wait_until_available(plan, rest_url, child, log, watch, deadline)
        server = RunningServer(
            pid=child.pid,
            rest_url=rest_url,
            grpc_port=plan.port,
            log_path=log_path,
            adapter=mapped_adapter(child.pid),
            log=log,
        )
        try:
            yield server
        except NpuServingError as error:
            _explain(error, child, log, watch)
            raise


def _remove_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


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
        answer = status_table(status)
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
