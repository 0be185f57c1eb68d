"""What a fetch survives that can only be shown with a process of its own: being killed, and a disk that fills up."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fault_server as faults
import pytest

from npu_serving.settings import PROJECT_ROOT

KILLS = 100
FETCH = """
import json, sys
from pathlib import Path
from npu_serving.fetch.tuning import Tuning
from npu_serving.fetch.fetching import fetch, plan_fetch
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.transfer import WantedFile
from npu_serving.errors import NpuServingError

files = [WantedFile(url, url.rsplit("/", 1)[1], (url,), sha256, size) for url, sha256, size in json.loads(sys.argv[2])]
store = ContentStore(Path(sys.argv[1]))
tuning = Tuning(files_at_once=3, ranges_from_bytes=1_000_000, range_bytes=250_000, ranges_at_once=3, backoff_s=0.05)
try:
    report = fetch(plan_fetch(files, store), store, tuning=tuning)
except NpuServingError as error:
    print(json.dumps(error.to_json()))
    raise SystemExit(error.exit_code)
print(json.dumps(report.to_json()))
"""


@pytest.fixture
def server():
    with faults.serving() as running:
        running.latency_s = 0.005
        running.bytes_per_s = 4e6
        yield running


def sizes():
    return [random.Random(number).randrange(10_000, 400_000) for number in range(10)] + [3_000_000, 2_000_000]


def put_files(server):
    listed = []
    for number, size in enumerate(sizes()):
        data = random.Random(number).randbytes(size)
        listed.append((server.put(f"/file-{number}.bin", data), hashlib.sha256(data).hexdigest(), size))
    return listed


def start(store: Path, listed) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, str(store), json.dumps(listed)],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(store: Path, listed) -> set[str]:
    return {sha256 for _, sha256, _ in listed if (store / "content_addressable/sha256" / sha256 / "file").exists()}


def assert_all_right(store: Path, listed) -> None:
    for _, sha256, _ in listed:
        file = store / "content_addressable/sha256" / sha256 / "file"
        assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256


ZYGOTE = """
import os, sys, requests, requests.adapters, urllib3
import npu_serving.fetch.fetching, npu_serving.fetch.workers
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        os.dup2(os.open(line.strip() + ".out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        sys.argv[1] = line.strip()
        break
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
else:
    raise SystemExit
"""


class Runner:
    """Starts fetches within a millisecond each: as forks of a process that has everything imported."""

    def __init__(self, listed) -> None:
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self._process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE + FETCH, "", json.dumps(listed)],
            cwd=PROJECT_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._in, self._out = self._process.stdin, self._process.stdout

    def start(self, store: Path) -> int:
        """Its process id."""
        self._in.write(f"{store}\n")
        self._in.flush()
        return int(self._out.readline())

    def end(self) -> int:
        """Waits for the last one; its exit status."""
        return int(self._out.readline())

    def close(self) -> None:
        self._in.close()
        self._process.wait(timeout=20)
        self._out.close()


def test_after_being_killed_at_any_of_100_moments_a_run_goes_on_and_fetches_no_finished_file_again(tmp_path):
    memory = Path("/dev/shm")  # what was written is never lost by a kill, so nothing has to reach a disk
    root = Path(tempfile.mkdtemp(dir=memory)) if os.access(memory, os.W_OK) else tmp_path
    with faults.serving() as server:
        server.latency_s = 0.004
        server.bytes_per_s = 2e7
        contents = [random.Random(number).randbytes(size) for number, size in enumerate([30_000] * 8 + [1_200_000])]
        listed = [
            (server.put(f"/{number}.bin", data), hashlib.sha256(data).hexdigest(), len(data))
            for number, data in enumerate(contents)
        ]
        runner = Runner(listed)
        try:
            runner.start(root / "first")
            began = time.monotonic()
            assert runner.end() == 0
            takes_s = time.monotonic() - began
            moments = random.Random(7)
            finished_when_killed = []
            for number in range(KILLS):
                store = root / str(number)
                pid = runner.start(store)
                time.sleep(moments.random() * takes_s if number else 0)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                assert runner.end() in (0, -signal.SIGKILL)
                had = finished(store, listed)
                finished_when_killed.append(len(had))
                for sha256 in had:  # whatever has its final name is whole, at every moment
                    file = store / "content_addressable/sha256" / sha256 / "file"
                    assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
                with server.guard:
                    server.requests.clear()
                runner.start(store)
                assert runner.end() == 0
                assert_all_right(store, listed)
                asked = {request.path for request in server.requests}
                assert not asked & {url[len(server.url) :] for url, sha256, _ in listed if sha256 in had}
                assert len(json.loads(Path(f"{store}.out").read_text())["present"]) == len(had)
                shutil.rmtree(store)
            assert finished_when_killed[0] == 0, "at least one was killed before its end, however busy the machine"
        finally:
            runner.close()
            shutil.rmtree(root, ignore_errors=True)


def test_killed_runs_do_not_begin_again_from_nothing(server, tmp_path):
    data = random.Random(1).randbytes(6_000_000)
    listed = [(server.put("/large.bin", data), hashlib.sha256(data).hexdigest(), len(data))]
    process = start(tmp_path / "store", listed)
    journal = tmp_path / "store" / "partial" / (listed[0][1] + ".ranges")
    while process.poll() is None and not (journal.exists() and journal.read_text().count("\n") > 8):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    output, _ = start(tmp_path / "store", listed).communicate(timeout=60)
    assert json.loads(output)["fetched_bytes"] <= len(data) - 8 * 250_000
    assert_all_right(tmp_path / "store", listed)


def test_two_processes_on_one_store_fetch_each_file_once(server, tmp_path):
    listed = put_files(server)[:8]
    processes = [start(tmp_path / "store", listed) for _ in range(3)]
    reports = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert_all_right(tmp_path / "store", listed)
    assert sorted({request.path for request in server.requests}) == sorted(r.path for r in server.requests)
    assert sum(report["fetched_bytes"] for report in reports) == sum(size for _, _, size in listed)


def test_ctrl_c_ends_the_run_at_once_though_the_server_says_nothing(server, tmp_path):
    data = random.Random(1).randbytes(50_000)
    listed = [(server.put("/silent.bin", data, always=faults.stalls(10)), hashlib.sha256(data).hexdigest(), len(data))]
    process = start(tmp_path / "store", listed)
    while not server.requests:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)  # the connection's own patience is 30 s
    assert process.returncode != 0


@pytest.fixture
def small_disk(tmp_path):
    directory = tmp_path / "small disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)], check=False, stderr=subprocess.DEVNULL
    )
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small disk")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_a_disk_that_fills_up_is_told_and_what_was_finished_stays(server, small_disk):
    # Sizes are not pinned here, so that nothing can be known beforehand.
    pieces = [random.Random(number).randbytes(400_000) for number in range(4)]
    listed = [(server.put(f"/{n}.bin", data), hashlib.sha256(data).hexdigest(), None) for n, data in enumerate(pieces)]
    process = start(small_disk / "store", listed)
    output, _ = process.communicate(timeout=60)
    error = json.loads(output)
    assert error["error"] == "DiskFullError"
    assert "disk is full" in error["what"]
    done = finished(small_disk / "store", listed)
    assert len(done) < 4
    for partial in (small_disk / "store" / "partial").iterdir():
        partial.unlink()
    kept = [entry for entry in listed if entry[1] in done][:2] or listed[:1]
    again = start(small_disk / "store", kept)
    again.communicate(timeout=60)
    assert again.returncode == 0
    assert_all_right(small_disk / "store", kept)


def test_a_store_on_a_read_only_disk_serves_what_it_has_and_says_what_it_cannot_do(server, small_disk):
    pieces = [random.Random(number).randbytes(100_000) for number in range(2)]
    listed = [
        (server.put(f"/{n}.bin", data), hashlib.sha256(data).hexdigest(), 100_000) for n, data in enumerate(pieces)
    ]
    first = start(small_disk / "store", listed[:1])
    first.communicate(timeout=60)
    assert first.returncode == 0
    (small_disk / "store" / "memo.json").unlink()  # so that something would have to be written
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with server.guard:
        server.requests.clear()
    there = start(small_disk / "store", listed[:1])
    assert json.loads(there.communicate(timeout=60)[0])["present"] == [listed[0][0]]
    missing = start(small_disk / "store", listed)
    error = json.loads(missing.communicate(timeout=60)[0])
    assert (error["error"], missing.returncode) == ("FileAccessError", 1)
    assert "read-only" in error["cause"]
    assert server.requests == []
