"""load-test as it is typed, against a gRPC server in this process: from the flags to what is kept."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_server import ModelServer, serving

from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import write_golden
from npu_serving.asking.messages import write_predict_request
from npu_serving.asking.recorded_file import RecordedRequest, RecordingHeader, RecordingWriter
from npu_serving.asking.request import PredictRequest
from npu_serving.asking.tensor import Tensor
from npu_serving.client.data_types import BY_NAME
from npu_serving.client.model_spec import ModelSpec
from npu_serving.load.history import read_run
from npu_serving.load.results import LoadRun
from npu_serving.process import descendants

ROOT = Path(__file__).resolve().parents[2]
PREDICT = "/tensorflow.serving.PredictionService/Predict"
QUICK = ("--window", "0.4s", "--duration", "1.2s", "--warm-up", "0.2s")
SLOW_S = 0.1
"""What an answer takes, so that what a busy machine adds is small beside it."""


class Site:
    """A directory in which load-test is typed, with what it keeps there."""

    def __init__(self, root: Path, server: ModelServer) -> None:
        self.root = root
        self.server = server
        self.runs = root / "build" / "load-tests"
        self.golden = root / "dist" / "golden"
        section = {"build_root": str(root / "build"), "dist_root": str(root / "dist")}
        (root / "invoke.yaml").write_text(json.dumps({"npu_serving": section}))

    def begins(self, *words: str, model: str = "m", url: str = "") -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "npu_serving", "--search-root", str(ROOT), "load-test", model]
        return subprocess.Popen(
            [*argv, "--url", url or self.server.url, *words],
            cwd=self.root,
            env={**os.environ, "NPU_SERVING_SETTINGS": str(self.root / "invoke.yaml"), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def types(self, *words: str, wanted: int | None = 0, model: str = "m", url: str = "") -> str:
        """What it prints. `wanted` of None is 0, or 3 where the machine was too busy to send at the times wanted."""
        done = self.begins(*words, model=model, url=url)
        out, said = done.communicate(timeout=120)
        assert done.returncode in ((0, 3) if wanted is None else (wanted,)), (
            f"{words} ended with {done.returncode}\n{said}\n{out}"
        )
        return out if "--json" in words else said + out

    def answers(self, *words: str, wanted: int | None = 0, url: str = "") -> dict[str, Any]:
        document = json.loads(self.types(*words, "--json", wanted=wanted, url=url), parse_constant=pytest.fail)
        assert isinstance(document, dict)
        return document

    def kept(self) -> LoadRun:
        [path] = self.runs.glob("*.json")
        return read_run(path)


@pytest.fixture(scope="module")
def running() -> Iterator[ModelServer]:
    with serving() as found:
        yield found


@pytest.fixture
def site(running: ModelServer, tmp_path: Path) -> Iterator[Site]:
    running.requests.clear()
    yield Site(tmp_path, running)
    running.answer = None


def slow(seconds: float = SLOW_S) -> bytes:
    time.sleep(seconds)
    return b""


def test_a_run_is_kept_as_it_is_shown_and_asks_as_much_as_it_says(site: Site) -> None:
    site.server.answer = lambda _data, _context: slow()
    shown = site.answers("--concurrency", "2", *QUICK, "--fail-if", "errors>0", "--fail-if", "p99>20s")
    run = site.kept()
    assert shown["id"] == run.id
    [level] = run.levels
    assert level.load == "2 at once"
    assert level.throughput == pytest.approx(20, rel=0.25)
    assert level.percentile_ms(50) == pytest.approx(100, rel=0.2)
    assert [each.exceeded for each in run.thresholds] == [False, False]
    assert (site.runs / f"{run.id}.html").is_file()


def test_a_threshold_that_is_exceeded_ends_with_three_and_is_shown(site: Site) -> None:
    site.server.answer = lambda _data, _context: slow()
    shown = site.types("--concurrency", "1", *QUICK, "--fail-if", "p50>1ms", wanted=3)
    assert "p50>1ms" in shown


def test_a_dry_run_says_what_would_be_asked_and_asks_for_nothing_but_the_signature(site: Site) -> None:
    shown = site.types("--rate", "10,20", "--fail-if", "p99>20ms", "--dry-run")
    assert "10 a second (constant)" in shown
    assert "p99>20ms" in shown
    assert site.server.requests == []
    assert not site.runs.exists()


def test_golden_answers_are_compared_under_load_and_a_wrong_one_is_not_ok(site: Site) -> None:
    """The first answers are right, as where requests are asked one by one; under load every other one is wrong."""
    right = GoldenRequest("half", "m", PredictRequest("inputs", {"x": [[1.0, 2.0]]}), expected=[[2.0, 4.0]], api="grpc")
    write_golden(site.golden, right)
    assert site.answers("--golden", "all", *QUICK)["golden"]["differ"] == 0
    site.runs.rename(site.root / "first")

    def answer(data: bytes, context: Any) -> bytes:
        good = site.server.answer
        site.server.answer = None
        whole = site.server.predict(data, context)
        site.server.answer = good
        return whole if len(site.server.requests) % 2 else whole.replace(b"\0\0\0\x40", b"\0\0\xc0\x40")

    site.server.answer = answer
    shown = site.types("--golden", "half", *QUICK, "--fail-if", "errors.differs>0", wanted=3)
    assert "differs: half: outputs" in shown
    run = site.kept()
    assert 0 < run.golden["differ"] < run.golden["compared"]


def test_a_recorded_file_is_sent_again_at_the_times_it_was_recorded(site: Site) -> None:
    body = write_predict_request(ModelSpec("m"), {"x": Tensor(BY_NAME["DT_FLOAT"], (1, 2), [1.0, 2.0])})
    other = write_predict_request(ModelSpec("other"), {"x": Tensor(BY_NAME["DT_FLOAT"], (1, 2), [1.0, 2.0])})
    writer = RecordingWriter(site.root / "day.rec", RecordingHeader())
    for number, at_ms in enumerate((0, 50, 100, 400, 600)):
        writer.add(RecordedRequest(at_ms * 1_000_000, "grpc", PREDICT, other if number == 2 else body))
    writer.close()
    shown = site.answers("--recorded", "day.rec", "--arrivals", "recorded", wanted=None)
    [level] = site.kept().levels
    assert (level.ok, level.errors, level.arrivals) == (4, {}, "recorded")
    assert shown["request"] == "day.rec (4 requests)"


def test_the_highest_rate_under_a_latency_is_found_or_that_there_is_none(site: Site) -> None:
    site.server.answer = lambda _data, _context: slow(0.02)
    words = ("--search", "--window", "1s", "--max-windows", "8", "--warm-up", "0.1s")
    site.types(*words, "--rate", "20:40", "--p99", "2s", wanted=None)
    run = site.kept()
    assert run.best is not None, [(level.rate, level.stable, level.windows, level.errors) for level in run.levels]
    assert [level.rate for level in run.levels] == [20.0, 40.0]
    assert run.levels[run.best].rate == 40.0
    shown = site.types(*words, "--rate", "1:2", "--p99", "1ms", wanted=3)
    assert "No rate that was tried" in shown


def test_what_is_done_in_the_middle_is_marked_and_its_failure_shown(site: Site) -> None:
    site.server.answer = lambda _data, _context: slow(0.02)
    script = f"import time; time.sleep(0.3); open({str(site.root / 'done')!r}, 'w')"
    command = shlex.join([sys.executable, "-c", script])
    site.types("--concurrency", "1", "--window", "0.3s", "--duration", "1s", "--during", command)
    assert (site.root / "done").exists()
    events = [event.name for event in site.kept().levels[0].events]
    assert [name.rpartition(" ")[2] for name in events] == ["over", "begun", "ended"]
    failing = shlex.join([sys.executable, "-c", "import sys; sys.exit('no such release')"])
    shown = site.types("--concurrency", "1", "--window", "0.3s", "--duration", "1s", "--during", failing, wanted=1)
    assert "ended with status 1 (no such release)" in shown


def test_a_change_that_does_not_end_is_named_as_what_is_waited_for(site: Site) -> None:
    site.server.answer = lambda _data, _context: slow(0.02)
    command = shlex.join([sys.executable, "-c", "import time; time.sleep(600)"])
    child = site.begins(*QUICK, "--concurrency", "1", "--during", command)
    assert child.stderr is not None
    assert any("ends (Ctrl-C ends both" in line for line in child.stderr)
    [changing] = [pid for pid in descendants(child.pid) if b"sleep(600)" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert not Path(f"/proc/{changing}").exists()
    assert site.kept().levels[0].ok > 0


def test_figures_that_can_not_be_kept_are_shown_all_the_same(site: Site) -> None:
    site.server.answer = lambda _data, _context: slow(0.02)
    site.runs.parent.mkdir()
    site.runs.write_text("a file where the directory should be")
    shown = site.types(*QUICK, "--concurrency", "1", wanted=1)
    assert "1 at once" in shown
    assert "PER SECOND" in shown
    assert "Next:" in shown


def test_ctrl_c_keeps_what_was_measured_and_leaves_no_process(site: Site) -> None:
    asked = threading.Semaphore(0)

    def answer(_data: bytes, _context: Any) -> bytes:
        asked.release()
        return slow(0.02)

    site.server.answer = answer
    quick = ("--window", "0.2s", "--warm-up", "0.1s")
    child = site.begins("--concurrency", "2", "--processes", "2", "--duration", "10m", *quick)
    for _ in range(60):
        assert asked.acquire(timeout=60)
    workers = descendants(child.pid)
    assert len(workers) >= 2
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    run = site.kept()
    assert str(site.runs / f"{run.id}.html") in said
    assert run.levels[0].ok > 0
    assert "interrupted" in " ".join(run.reasons)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_processes_end_with_the_one_that_started_them_whatever_ended_that(site: Site) -> None:
    asked = threading.Semaphore(0)

    def answer(_data: bytes, _context: Any) -> bytes:
        asked.release()
        return slow(0.02)

    site.server.answer = answer
    child = site.begins("--concurrency", "2", "--processes", "2", "--duration", "10m")
    for _ in range(20):
        assert asked.acquire(timeout=60)
    workers = descendants(child.pid)
    child.kill()
    child.communicate(timeout=30)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_four_processes_send_from_a_program_that_has_used_grpc_before(site: Site) -> None:
    """This one has: the server runs in it, and a channel was open."""
    from npu_serving.asking.grpc_client import model_metadata
    from npu_serving.console import SilentProgress
    from npu_serving.load.generator import Plan, ReadyRequest
    from npu_serving.load.level import Load, Terms, measure

    body = write_predict_request(ModelSpec("m"), {"x": Tensor(BY_NAME["DT_FLOAT"], (1, 2), [1.0, 2.0])})
    assert model_metadata(site.server.url, ModelSpec("m")).version == 2
    plan = Plan(site.server.url, (ReadyRequest(PREDICT, body),), 0)
    level = measure(plan, Load(concurrency=4), Terms(window_s=0.3, duration_s=0.9, processes=4), SilentProgress()).level
    assert level.generator.processes == 4
    assert level.ok > 4
    assert level.errors == {}


REFUSED = [
    (("--concurrency", "1", "--rate", "5"), "--concurrency leaves --rate"),
    (("--p99", "20ms"), "--search"),
    (("--search",), "--p99 20ms"),
    (("--arrivals", "poisson"), "--rate 100"),
    (("--arrivals", "step:5@1s", "--rate", "5"), "leave --rate out"),
    (("--arrivals", "recorded"), "--recorded FILE"),
    (("--path", "http1"), "grpcio or http2"),
    (("--processes", "0"), "--processes"),
    (("--golden", "none"), "smoke --record"),
    (("--signature", "two"), "--range n:0:2"),
    (("--signature", "nope"), "serving_default"),
    (("--during", "'"), "split into words"),
    (("--during", "no-such-program-here"), "not on PATH"),
    (("--fail-if", "p99"), "p99"),
    (("--request", '{"inputs": {"x": [[1, 2]]}}', "--shape", "x:1,2"), "--shape would have no effect"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_contradicts_itself_is_refused_before_anything_is_sent(
    site: Site, words: tuple[str, ...], said: str
) -> None:
    wanted = 4 if "no-such-program-here" in words else 2
    assert said in site.types(*words, wanted=wanted)
    assert site.server.requests == []


def test_a_server_that_is_not_there_and_a_request_that_is_refused_are_said_at_once(site: Site) -> None:
    with serving() as gone:
        url = gone.url
    assert "Nothing listens at" in site.types(*QUICK, wanted=1, url=url)
    import grpc

    site.server.answer = lambda _data, context: context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too long by one")
    shown = site.types(*QUICK, wanted=2)
    assert "too long by one" in shown
    assert re.search("Likely cause:.*\nNext: ", shown)


def test_a_first_answer_that_takes_long_is_waited_for_and_said(site: Site) -> None:
    calls: list[int] = []

    def answer(_data: bytes, _context: Any) -> bytes:
        calls.append(1)
        return slow(2.5 if len(calls) == 1 else 0.02)

    site.server.answer = answer
    shown = site.types(*QUICK, "--timeout", "1")
    assert re.search(r"The first answer took [2-9]\.[0-9] s; that is not counted", shown)
    assert site.kept().levels[0].errors == {}
