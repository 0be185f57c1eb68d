"""fetch-deps beside aria2c and a wget loop: 91 files, 230 MB, one local server, all in one run.

    .venv/bin/python bench/fetch.py [--uncapped-only | --capped-only]

Capped: 20 MB/s per connection and 50 ms before each answer, like a far mirror. Uncapped: loopback at full speed.
Each rival verifies sha256 (wget's files are hashed by sha256sum). Needs aria2c and wget on PATH; one that is missing is
left out.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = 91
TOTAL_BYTES = 230_000_000
CAP_BYTES_PER_S = 20e6
LATENCY_S = 0.05

SERVER = """
import hashlib, json, random, sys
sys.path.insert(0, sys.argv[1])
import fault_server
sizes, rate, latency = json.loads(sys.argv[2])
with fault_server.serving() as server:
    server.bytes_per_s, server.latency_s = rate, latency
    listed = []
    for number, size in enumerate(sizes):
        data = random.Random(number).randbytes(size)
        listed.append((server.put(f"/file-{number}.tar.gz", data), hashlib.sha256(data).hexdigest(), size))
    print(json.dumps(listed), flush=True)
    sys.stdin.read()
"""

OURS = """
import json, sys
from pathlib import Path
from npu_serving.fetch.fetching import fetch, plan_fetch
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.transfer import WantedFile
listed = json.loads(Path(sys.argv[1]).read_text())
store = ContentStore(Path(sys.argv[2]))
files = [WantedFile(url, url.rsplit("/")[-1], (url,), digest, size) for url, digest, size in listed]
fetch(plan_fetch(files, store), store)
"""


def sizes() -> list[int]:
    """Sizes distributed like those of the real archives: the known ones, drawn from again, scaled to the total."""
    lock = json.loads((ROOT / "locks" / "serving-1.15.0.json").read_text())
    known = [archive["size_bytes"] for archive in lock["archives"] if "size_bytes" in archive]
    drawn = [*known, *random.Random(1).choices(sorted(known)[: len(known) * 3 // 4], k=FILES)][:FILES]
    return [max(1, size * TOTAL_BYTES // sum(drawn)) for size in drawn]


def timed(argv: list[str], directory: Path) -> tuple[float, float]:
    """Seconds, and the peak memory in MB of the program."""
    began = time.monotonic()
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    process = subprocess.Popen(
        argv, cwd=directory, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} failed")
    return time.monotonic() - began, usage.ru_maxrss / 1000


def rivals(listed: list[tuple[str, str, int]], directory: Path) -> dict[str, list[str]]:
    (directory / "listed.json").write_text(json.dumps(listed))
    (directory / "aria2.txt").write_text("".join(f"{url}\n checksum=sha-256={digest}\n" for url, digest, _ in listed))
    (directory / "urls.txt").write_text("".join(f"{url}\n" for url, _, _ in listed))
    (directory / "sums.txt").write_text("".join(f"{digest}  {url.rsplit('/')[-1]}\n" for url, digest, _ in listed))
    loop = 'while read -r url; do wget -q "$url" || exit 1; done < ../urls.txt; sha256sum --quiet -c ../sums.txt'
    found = {"fetch-deps": [sys.executable, "-c", OURS, "../listed.json", "store"]}
    if shutil.which("aria2c"):
        found["aria2c"] = ["aria2c", "-q", "-j16", "-x8", "-s8", "-i", "../aria2.txt"]
    if shutil.which("wget"):
        found["wget loop"] = ["bash", "-c", loop]
    return found


def measure(title: str, rate: float, latency: float, names: tuple[str, ...], rounds: int) -> None:
    arguments = json.dumps([sizes(), rate, latency])
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(ROOT / "tests"), arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    listed = json.loads(server.stdout.readline())
    best: dict[str, tuple[float, float]] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="bench-fetch.") as name:
            commands = {key: argv for key, argv in rivals(listed, Path(name)).items() if key in names}
            for _ in range(rounds):
                for rival, argv in commands.items():  # in turn, so that a busy moment hits all of them
                    directory = Path(name, "run")
                    directory.mkdir()
                    best[rival] = min(best.get(rival, (1e9, 0.0)), timed(argv, directory))
                    shutil.rmtree(directory)
    finally:
        server.communicate()
    ours = best["fetch-deps"][0]
    print(f"{title}: {FILES} files, {sum(sizes()) / 1e6:.0f} MB, best of {rounds}")
    for rival, (seconds, memory_mb) in best.items():
        rate_mb = sum(sizes()) / 1e6 / seconds
        print(f"  {rival:11} {seconds:7.2f} s  {rate_mb:7.1f} MB/s  {memory_mb:6.0f} MB  "
              f"{'' if rival == 'fetch-deps' else f'fetch-deps is {seconds / ours:.2f} times as fast'}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--capped-only", action="store_true")
    parser.add_argument("--uncapped-only", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not options.uncapped_only:
        measure("20 MB/s per connection, 50 ms", CAP_BYTES_PER_S, LATENCY_S, ("fetch-deps", "aria2c", "wget loop"), 1)
    if not options.capped_only:
        measure("uncapped loopback", 0.0, 0.0, ("fetch-deps", "aria2c"), options.rounds)


if __name__ == "__main__":
    main()
