"""What a fetch survives that can only be shown with a process of its own: being killed, and a disk that fills up."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for fault_server, beside unit/ and integration/

import fault_server as faults

from npu_serving.settings import PROJECT_ROOT

KILLS = 12
FETCH = """
import json, sys
from pathlib import Path
from npu_serving.deps.connection import Tuning
from npu_serving.deps.fetch import fetch, plan_fetch
from npu_serving.deps.store import ContentStore
from npu_serving.deps.transfer import Wanted
from npu_serving.errors import NpuServingError

files = [Wanted(url, url.rsplit("/", 1)[1], (url,), sha256, size) for url, sha256, size in json.loads(sys.argv[2])]
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


def test_after_being_killed_at_any_moment_a_run_goes_on_and_fetches_no_finished_file_again(server, tmp_path):
    listed = put_files(server)
    store = tmp_path / "store"
    moments = random.Random(7)
    for _ in range(KILLS):
        process = start(store, listed)
        try:
            process.wait(timeout=0.35 + moments.random() * 0.7)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        for sha256 in finished(store, listed):  # whatever has its final name is whole, at every moment
            file = store / "content_addressable/sha256" / sha256 / "file"
            assert hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    had = finished(store, listed)
    with server.guard:
        server.requests.clear()
    output, _ = start(store, listed).communicate(timeout=120)
    report = json.loads(output)
    assert_all_right(store, listed)
    asked = {request.path for request in server.requests}
    assert not asked & {url[len(server.url) :] for url, sha256, _ in listed if sha256 in had}
    assert len(report["present"]) == len(had)


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
