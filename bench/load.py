"""What sending takes: processor time a request of the load test's paths, beside h2load and a loop of grpc.aio.

The server is an nginx that answers each request with the same bytes, in the form of gRPC's answers or as JSON: it takes
less than any model server, so what is measured is the sender. Latencies stand beside, those of h2load's log. Through
grpcio the rival is the shortest loop that keeps as many requests under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from npu_serving.console import SilentProgress
from npu_serving.load.generator import Plan, ReadyRequest
from npu_serving.load.level import Load, Terms, measure

ROUNDS, SECONDS = 3, 2.0
METHOD, REST = "/tensorflow.serving.PredictionService/Predict", "/v1/models/m:predict"
PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
BODY = b"x" * 60
NGINX = """
user USER;
daemon off;
pid nginx.pid;
error_log stderr error;
events { worker_connections 1000; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_requests 100000000;
  server { listen 127.0.0.1:GRPC http2; default_type application/grpc; root files; open_file_cache max=9;
           error_page 405 =200 $uri; add_trailer grpc-status 0 always; }
  server { listen 127.0.0.1:REST; location / { default_type application/json; return 200 '{"predictions": [1.0]}'; } }
}
"""


@dataclass(frozen=True)
class Cost:
    """Of one run: microseconds of the processor a request, requests a second, the median latency in ms."""

    cpu_us: float
    rate: float
    p50_ms: float


@contextlib.contextmanager
def nginx(directory: Path) -> Iterator[tuple[int, int]]:
    """Its ports for gRPC and REST."""
    program = shutil.which("nginx", path=PLACES)
    assert program is not None, "nginx is not installed"
    for_grpc, rest = free_port(), free_port()
    text = NGINX.replace("USER", getpass.getuser()).replace("GRPC", str(for_grpc)).replace("REST", str(rest))
    (directory / "nginx.conf").write_text(text)
    answer = directory / "files" / METHOD[1:]
    answer.parent.mkdir(parents=True)
    answer.write_bytes(b"\0" + len(BODY).to_bytes(4, "big") + BODY)
    with subprocess.Popen([program, "-p", directory, "-c", "nginx.conf"], cwd=directory) as running:
        try:
            for _ in range(500):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", rest), 1):
                    break
                time.sleep(0.02)
            yield for_grpc, rest
        finally:
            running.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def ours(url: str, path: str, request: ReadyRequest, concurrency: int, connections: int, processes: int) -> Cost:
    plan = Plan(url, (request,), 0, connections=max(1, connections // processes), path=path)
    terms = Terms(warm_up_s=0.3, window_s=SECONDS / 3, duration_s=SECONDS, processes=processes)
    level = measure(plan, Load(concurrency=concurrency), terms, SilentProgress()).level
    assert not level.errors, level.errors
    return Cost(level.generator.cpu_per_request_us, level.throughput, level.percentile_ms(50) or 0.0)


def of_h2load(url: str, concurrency: int, connections: int, threads: int, directory: Path, *more: str) -> Cost:
    body, log = directory / "request", directory / "h2load.log"
    body.write_bytes(b"\0" + len(BODY).to_bytes(4, "big") + BODY)
    log.unlink(missing_ok=True)
    words = ["h2load", f"-D{SECONDS + 0.3:.0f}", f"-c{connections}", f"-m{concurrency // connections}", f"-t{threads}"]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([*words, *more, "-d", body, f"--log-file={log}", url], check=True, capture_output=True, timeout=60)
    seconds, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    times = [int(row[2]) for row in rows if row[1] == "200"]
    assert len(times) > 0.99 * len(rows)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(1e6 * cpu / len(times), len(times) / seconds, statistics.median(times) / 1e3)


def of_aio(target: str, concurrency: int) -> Cost:
    """A loop of grpc.aio without anything else, in this process."""
    times: list[float] = []

    async def under_way(call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], until: float) -> None:
        while (begun := time.perf_counter()) < until:
            await call(BODY)
            times.append(time.perf_counter() - begun)

    async def loop() -> float:
        async with grpc.aio.insecure_channel(target) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            await call(BODY)
            before, until = time.process_time(), time.perf_counter() + SECONDS
            await asyncio.gather(*(under_way(call, until) for _ in range(concurrency)))
            return time.process_time() - before

    cpu = asyncio.run(loop())
    return Cost(1e6 * cpu / len(times), len(times) / SECONDS, 1e3 * statistics.median(times))


def row(name: str, mine: list[Cost], rival_name: str, rival: list[Cost]) -> None:
    def middle(costs: list[Cost]) -> tuple[float, float, float]:
        return (
            statistics.median(cost.cpu_us for cost in costs),
            statistics.median(cost.rate for cost in costs),
            statistics.median(cost.p50_ms for cost in costs),
        )

    (cpu, rate, p50), (other, other_rate, other_p50) = middle(mine), middle(rival)
    print(
        f"| {name} | {cpu:.1f} µs | {rate:,.0f} | {p50:.2f} ms | {rival_name} | {other:.1f} µs | {other_rate:,.0f} "
        f"| {other_p50:.2f} ms | {cpu / other:.2f} |"
    )


def main() -> None:
    assert shutil.which("h2load") is not None, "h2load is not installed (package nghttp2-client)"
    print("| ours | CPU a request | a second | p50 | rival | CPU a request | a second | p50 | CPU, ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    grpc_request, rest_request = ReadyRequest(METHOD, BODY), ReadyRequest(REST, b'{"instances": [1.0]}')
    with tempfile.TemporaryDirectory() as temporary, nginx(Path(temporary)) as (grpc_port, rest):
        directory = Path(temporary)
        for concurrency, connections, processes in ((1, 1, 1), (16, 4, 1), (64, 4, 1), (16, 4, 2)):
            mine, rival = [], []
            for _ in range(ROUNDS):
                url = f"grpc://127.0.0.1:{grpc_port}"
                mine.append(ours(url, "http2", grpc_request, concurrency, connections, processes))
                there = f"http://127.0.0.1:{grpc_port}{METHOD}"
                rival.append(of_h2load(there, concurrency, connections, processes, directory))
            many = f", {processes} processes" if processes > 1 else ""
            row(f"--path http2, {concurrency} at once{many}", mine, f"h2load -c{connections} -t{processes}", rival)
        for concurrency in (1, 16):
            mine, rival = [], []
            for _ in range(ROUNDS):
                mine.append(ours(f"grpc://127.0.0.1:{grpc_port}", "grpcio", grpc_request, concurrency, 1, 1))
                rival.append(of_aio(f"127.0.0.1:{grpc_port}", concurrency))
            row(f"--path grpcio, {concurrency} at once", mine, "a loop of grpc.aio", rival)
        for concurrency in (1, 16):
            mine, rival = [], []
            for _ in range(ROUNDS):
                url = f"http://127.0.0.1:{rest}"
                mine.append(ours(url, "http1", rest_request, concurrency, concurrency, 1))
                rival.append(of_h2load(f"{url}{REST}", concurrency, concurrency, 1, directory, "--h1"))
            row(f"--path http1, {concurrency} at once", mine, f"h2load --h1 -c{concurrency}", rival)


if __name__ == "__main__":
    main()
