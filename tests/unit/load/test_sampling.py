"""What a server takes, sampled beside a run: a real process, a real page, an npu-smi that prints real tables."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from npu_machine import CARDS_310P, NO_DRIVER

from npu_serving.load import sampling
from npu_serving.load.results import Sample
from npu_serving.load.sampling import SampledServer, ServerSampler, sampled_server

SERVER = """
import http.server, json, sys, threading
pages = json.loads(sys.argv[1])
class Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = pages.get(self.path)
        self.send_response(404 if body is None else 200)
        self.end_headers()
        self.wfile.write((body or "").encode())
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Pages)
def work():
    while True:
        pass
if "busy" in sys.argv:
    threading.Thread(target=work, daemon=True).start()
print(server.server_address[1], flush=True)
server.serve_forever()
"""
METRICS = "# TYPE :tensorflow:serving:request_example_count_total counter\n" + (
    ':tensorflow:serving:request_example_count_total{model="m"} 42\n:tensorflow:serving:latency_bucket{le="10"} 1\n'
)
EXPORTER = """# HELP npu_chip_info_utilization the utilization
npu_chip_info_utilization{id="0",vdie_id="X"} 71 1700000000000
npu_chip_info_hbm_used_memory{id="0"} 20480
npu_chip_info_name{id="0",name="910B"} 1
"""


@contextmanager
def server(pages: dict[str, str], *flags: str, port: int = 0) -> Iterator[int]:
    words = [sys.executable, "-c", SERVER, json.dumps(pages), str(port), *flags]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield int(running.stdout.readline())
        finally:
            running.kill()


def sampled(where: SampledServer, enough: Callable[[tuple[Sample, ...]], bool]) -> tuple[ServerSampler, list[Sample]]:
    """Samples until there is enough, for half a minute at most."""
    begin = time.monotonic_ns()
    with ServerSampler(where, seconds_between=0.1) as sampler:
        for _ in range(300):
            if enough(sampler.since(begin)) or sampler.notes:
                break
            time.sleep(0.1)
    return sampler, list(sampler.since(begin))


def npu_smi(directory: Path, output: str) -> Path:
    program = directory / "npu-smi"
    program.write_text(f'#!/bin/sh\n[ "$*" = info ] || exit 9\ncat <<"END"\n{output}\nEND\n')
    program.chmod(0o755)
    return program


def test_the_process_that_listens_its_page_and_the_npu_are_sampled_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npu_smi(tmp_path, CARDS_310P)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with server({sampling.USUAL_PAGE: METRICS, "/npu": EXPORTER}, "busy") as port:
        monkeypatch.setattr(sampling, "NPU_EXPORTER", f"http://127.0.0.1:{port}/npu")
        where = sampled_server(f"http://127.0.0.1:{port}")
        sampler, samples = sampled(where, lambda found: any((each.cpu_share or 0) > 0.2 for each in found))
    assert sampler.notes == ()
    assert samples[0].cpu_share is None  # there is nothing before it
    assert max(each.cpu_share or 0 for each in samples) > 0.2
    assert all((each.memory_bytes or 0) > 1 << 20 for each in samples)
    assert samples[0].metrics == {':tensorflow:serving:request_example_count_total{model="m"}': 42.0}
    assert samples[0].npu == {
        "NPU 0 utilization %": 71.0,
        "NPU 0 HBM MB": 20480.0,
        "NPU 1 memory MB": 1074.0,
        "NPU 1 AICore %": 0.0,
        "NPU 4 memory MB": 21070.0,
        "NPU 4 AICore %": 0.0,
    }
    assert "NPU 1 memory MB" not in samples[1].npu  # the tool is asked seldom
    assert [each.at_s for each in samples] == sorted(each.at_s for each in samples)


def test_what_is_absent_is_no_error_and_what_is_gone_is_noted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server({"/other": METRICS}) as port:
        monkeypatch.setattr(sampling, "NPU_EXPORTER", f"http://127.0.0.1:{port}/other")  # another program's page
        quiet, samples = sampled(sampled_server(f"http://127.0.0.1:{port}"), lambda found: len(found) > 3)
        assert quiet.notes == ()
        assert samples[0].metrics == samples[0].npu == {}
    begin = time.monotonic_ns()
    with contextlib.ExitStack() as first:
        port = first.enter_context(server({"/metrics": METRICS}))
        where = SampledServer(0, f"http://127.0.0.1:{port}/metrics", "", npu_smi(tmp_path, NO_DRIVER))
        with ServerSampler(where, seconds_between=0.05) as noisy:
            while not any(each.metrics for each in noisy.since(begin)):
                time.sleep(0.02)
            first.close()
            while len(noisy.notes) < 2:
                time.sleep(0.02)
            time.sleep(0.2)
    assert noisy.notes == (
        f"{tmp_path}/npu-smi info could not be sampled: dcmi module initialize failed. ret is -8005",
        f"http://127.0.0.1:{port}/metrics could not be sampled: [Errno 111] Connection refused",
    )


def test_a_server_that_was_replaced_is_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SECONDS_BETWEEN_SEARCHES", 0.0)

    def seen(sampler: ServerSampler) -> None:
        begin = time.monotonic_ns()
        while not any(each.memory_bytes for each in sampler.since(begin)):
            time.sleep(0.02)

    with contextlib.ExitStack() as first:
        port = first.enter_context(server({}))
        with ServerSampler(SampledServer(port), seconds_between=0.05) as sampler:
            seen(sampler)
            first.close()
            with server({}, port=port):
                seen(sampler)
    assert sampler.notes == ()


def test_a_server_elsewhere_is_asked_for_its_page_alone_and_an_rpc_port_leads_to_the_rest_port(tmp_path: Path) -> None:
    assert sampled_server("http://10.1.2.3:8501/") == SampledServer(
        page="http://10.1.2.3:8501/monitoring/prometheus/metrics"
    )
    assert sampled_server("grpc://10.1.2.3:8500") == SampledServer()
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config {\n  enable: true\n  path: "/metrics"\n}\n')
    with server({}, "--rest_api_port=8599", f"--monitoring_config_file={config}") as port:
        found = sampled_server(f"grpc://127.0.0.1:{port}")
    assert (found.port, found.page) == (port, "http://127.0.0.1:8599/metrics")


def test_a_page_that_never_ends_does_not_hold_up_the_end_of_a_run() -> None:
    with server({}) as port:
        where = SampledServer(0, f"http://127.0.0.1:{port}{sampling.USUAL_PAGE}")
        waits = threading.Event()

        def slow(url: str) -> tuple[()]:
            waits.set()
            time.sleep(3)
            return ()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sampling, "fetch_metrics", slow)
            with ServerSampler(where):
                assert waits.wait(5)
                begun = time.monotonic()
            assert time.monotonic() - begun < 2.5
