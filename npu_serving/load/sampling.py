"""What the server takes while it is under load, sampled beside the run: processor, memory, its own metrics, the NPU.

Each of these may be absent. It runs in a thread of its own, seldom, and what fails is noted once and tried again.
"""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from npu_serving import process
from npu_serving.client.proxy_rules import is_this_machine
from npu_serving.doctor.checks_npu import PLACES, PROGRAM
from npu_serving.doctor.npu_smi import NpuChip, NpuState, parse_npu_smi
from npu_serving.errors import NpuServingError
from npu_serving.load.metrics_page import MetricValue, fetch_metrics
from npu_serving.load.results import Sample
from npu_serving.serving.listeners import PROC, listeners_on
from npu_serving.shown_text import in_a_line, shown_url

USUAL_PAGE = "/monitoring/prometheus/metrics"
NPU_EXPORTER = "http://127.0.0.1:8082/metrics"  # Ascend/mind-cluster's, on the port that it has by default
_SECONDS_BETWEEN = 1.0
_SECONDS_BETWEEN_SEARCHES = 5.0  # for the processes that listen: the whole of /proc is read
_SECONDS_BETWEEN_NPU_SMI = 5.0  # a program that takes a second of a processor
_NPU_SMI_TIMEOUT_S = 10.0
_MOST_SERIES = 200
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_OF_EXPORTER = {
    "npu_chip_info_utilization": "utilization %",
    "npu_chip_info_overall_utilization": "overall utilization %",
    "npu_chip_info_used_memory": "memory MB",
    "npu_chip_info_hbm_used_memory": "HBM MB",
    "npu_chip_info_power": "power W",
    "npu_chip_info_temperature": "temperature C",
}
"""What is kept of an NPU exporter's page and what it is called here."""


Taken = TypeVar("Taken")
Failures = tuple[type[Exception], ...]


@dataclass(frozen=True)
class SampledServer:
    """Where to look. `port` is 0 for a server that isn't on this machine; pages are URLs, "" for none.

    Nobody has named the pages: nothing is wrong where they are absent.
    """

    port: int = 0
    page: str = ""
    npu_exporter: str = ""
    npu_smi: Path | None = None


def sampled_server(url: str, *, proc: Path = PROC, root: Path = Path("/")) -> SampledServer:
    """What can be sampled of the server at that URL (gRPC or REST): its own page is looked for at its REST port."""
    parts = urllib.parse.urlsplit(url)
    is_here = bool(parts.hostname) and is_this_machine(parts.hostname or "")
    port = (parts.port or 0) if is_here else 0
    page = ""
    if parts.scheme in ("http", "https"):
        page = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{_page_of(port, proc) or USUAL_PAGE}"
    elif port:
        rest = next((flags["rest_api_port"] for flags in _flags_on(port, proc) if "rest_api_port" in flags), "")
        page = f"http://127.0.0.1:{rest}{_page_of(port, proc) or USUAL_PAGE}" if rest.isdecimal() else ""
    if not port:
        return SampledServer(page=page)
    smi = process.find_program(PROGRAM) or next((root / at for at in PLACES if (root / at).is_file()), None)
    return SampledServer(port, page, NPU_EXPORTER, smi)


def _flags_on(port: int, proc: Path) -> Iterable[Mapping[str, str]]:
    """The flags of the programs that listen on the port."""
    for listener in listeners_on(port, proc):
        words = _text(proc / str(listener.pid) / "cmdline").split("\0")
        pairs = (re.fullmatch(r"--([a-z_]+)=(.*)", word, re.DOTALL) for word in words)
        yield {pair[1]: pair[2] for pair in pairs if pair is not None}


def _page_of(port: int, proc: Path) -> str:
    """The path of the page, by the file that a server on this machine was given; "" where that isn't known."""
    for flags in _flags_on(port, proc) if port else ():
        named = re.findall(r'path:\s*"([^"\\]+)"', _text(Path(flags.get("monitoring_config_file", ""))))
        if named:
            return str(named[-1])
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


class ServerSampler:
    """Samples a server from `with` to its end.

    `notes` says what could not be sampled, each source once.
    """

    def __init__(self, server: SampledServer, *, seconds_between: float = _SECONDS_BETWEEN, proc: Path = PROC) -> None:
        self._server = server
        self._between_s = seconds_between
        self._processes = _Processes(server.port, proc)
        self._taken: list[tuple[int, Sample]] = []
        self._notes: dict[str, str] = {}
        self._npu_smi_s = 0.0
        self._seen: set[str] = set()
        self._absent: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server sampler", daemon=True)

    def __enter__(self) -> ServerSampler:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)  # one that waits for a page ends by itself

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be sampled, and why."""
        return tuple(self._notes.values())

    def since(self, begin_ns: int, end_ns: int | None = None) -> tuple[Sample, ...]:
        """What was sampled from one time of time.monotonic_ns() to another, with the seconds since the former."""
        taken = [(at, each) for at, each in list(self._taken) if begin_ns <= at and (end_ns is None or at <= end_ns)]
        return tuple(
            Sample(round((at - begin_ns) / 1e9, 3), each.cpu_share, each.memory_bytes, each.metrics, each.npu)
            for at, each in taken
        )

    def _run(self) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            cpu_share, memory_bytes = self._processes.take()
            metrics = self._page()
            npu = {**self._from_exporter(), **self._from_npu_smi()}
            if cpu_share is not None or memory_bytes is not None or metrics or npu:
                self._taken.append((round(begun * 1e9), Sample(0.0, cpu_share, memory_bytes, metrics, npu)))
            self._stop.wait(max(0.0, self._between_s - (time.monotonic() - begun)))

    def _page(self) -> dict[str, float]:
        kept = (each for each in self._read(self._server.page) if not each.name.endswith("_bucket"))
        return {each.series: each.value for each, _ in zip(kept, range(_MOST_SERIES))}

    def _from_exporter(self) -> dict[str, float]:
        values = self._read(self._server.npu_exporter)
        if values and not any(each.name in _OF_EXPORTER for each in values):
            self._absent.add(self._server.npu_exporter)  # another program has the port
        return {
            f"NPU {each.label('id')} {_OF_EXPORTER[each.name]}": each.value
            for each in values
            if each.name in _OF_EXPORTER
        }

    def _read(self, url: str) -> tuple[MetricValue, ...]:
        """What is on a page; one that was not there at first isn't asked for again."""
        if not url or url in self._absent:
            return ()
        is_known = url in self._seen
        values = self._noted(shown_url(url), lambda: fetch_metrics(url), (OSError, ValueError), quiet=not is_known)
        if values is None:
            if not is_known:
                self._absent.add(url)
            return ()
        self._seen.add(url)
        return values

    def _from_npu_smi(self) -> dict[str, float]:
        program = self._server.npu_smi
        if program is None or time.monotonic() - self._npu_smi_s < _SECONDS_BETWEEN_NPU_SMI:
            return {}
        state = self._noted(f"{program} info", lambda: _ask_npu_smi(program), (NpuServingError, OSError, ValueError))
        self._npu_smi_s = time.monotonic()
        if state is None:
            return {}
        pids = self._processes.pids
        own = [chip for chip in state.chips if any(each.pid in pids for each in state.of(chip))]
        return {name: value for chip in own or state.chips for name, value in _of_chip(chip)}

    def _noted(self, name: str, take: Callable[[], Taken], errors: Failures, *, quiet: bool = False) -> Taken | None:
        """What is taken from a source; None, and a note of the first time, where that fails."""
        try:
            return take()
        except errors as error:
            if not quiet:
                self._notes.setdefault(name, f"{name} could not be sampled: {in_a_line(str(error)) or 'no answer'}")
            return None


class _Processes:
    """The processes that listen on a port of this machine: what they take together."""

    def __init__(self, port: int, proc: Path) -> None:
        self.pids: tuple[int, ...] = ()
        self._port = port
        self._proc = proc
        self._ticks: dict[int, int] = {}
        self._taken_s = 0.0
        self._searched_s = -_SECONDS_BETWEEN_SEARCHES

    def take(self) -> tuple[float | None, int | None]:
        """The processors that they used since the last time (1 for a whole one), and their memory in bytes."""
        if not self._port:
            return None, None
        now = time.monotonic()
        stats = {pid: found for pid in self.pids if (found := self._ticks_and_bytes(pid)) is not None}
        if now - self._searched_s >= _SECONDS_BETWEEN_SEARCHES or (self.pids and len(stats) < len(self.pids)):
            self._searched_s = now
            self.pids = tuple(listener.pid for listener in listeners_on(self._port, self._proc))
            stats = {pid: found for pid in self.pids if (found := self._ticks_and_bytes(pid)) is not None}
        before, seconds = self._ticks, now - self._taken_s
        self._ticks, self._taken_s = {pid: ticks for pid, (ticks, _) in stats.items()}, now
        used = [ticks - before[pid] for pid, ticks in self._ticks.items() if pid in before]
        share = round(max(sum(used), 0) / _TICKS / seconds, 4) if used and seconds > 0 else None
        return share, sum(size for _, size in stats.values()) if stats else None

    def _ticks_and_bytes(self, pid: int) -> tuple[int, int] | None:
        """The time of the processors (in ticks) and the memory of a process; None where it has ended."""
        words = _text(self._proc / str(pid) / "stat").rpartition(")")[2].split()
        pages = _text(self._proc / str(pid) / "statm").split()
        if len(words) < 13 or len(pages) < 2:
            return None
        return int(words[11]) + int(words[12]), int(pages[1]) * _PAGE_BYTES


def _ask_npu_smi(program: Path) -> NpuState:
    answer = process.run([program, "info"], env=process.own_environment(), check=False, timeout_s=_NPU_SMI_TIMEOUT_S)
    state = parse_npu_smi(answer.stdout)
    if not state.chips:
        said = next(
            (line.strip() for line in reversed(answer.output.splitlines()) if line.strip()), "it prints nothing"
        )
        raise ValueError(said[:200])
    return state


def _of_chip(chip: NpuChip) -> Iterable[tuple[str, float]]:
    name = f"NPU {chip.card}" + (f" chip {chip.chip}" if chip.chip else "")
    yield f"{name} memory MB", float(chip.used_mb)
    if chip.busy_percent is not None:
        yield f"{name} AICore %", float(chip.busy_percent)
