"""bundle and unbundle beside `cat FILES | sha256sum`: 91 files of random bytes, 1 GB in all, in one run.

    .venv/bin/python bench/bundle.py [--gigabytes 1] [--rounds 3] [--directory DIR]

`cat` only reads; ours read, hash each byte twice (as its member's and as the bundle's), write, and wait for the disk.
Many systems' sha256sum works out the digest in plain C. openssl, as Python, has the processor do it: it is shown beside
the rival where it is there. Random bytes stand for archives: neither can be compressed any further.
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
LIMIT = 1.5
LIMIT_MB = 200

WRITE = """
import json, sys
from pathlib import Path
from npu_serving.console import Silent
from npu_serving.bundle.writer import BundleMember, Manifest, write_bundle
listed = json.loads(Path("listed.json").read_text())
members = tuple(BundleMember("archive", Path(path).name, digest, size) for path, digest, size in listed)
files = {digest: Path(path) for path, digest, _ in listed}
print(write_bundle(Path("made.bundle"), Manifest("1.15.0", "x86_64", "3.11", members), files, Silent()))
"""

READ = """
import sys
from pathlib import Path
from npu_serving import fsutil
from npu_serving.bundle.reader import read_bundle
from npu_serving.fetch.content_store import ContentStore
from npu_serving.bundle.placing import place_in_store
bundle = read_bundle(Path("made.bundle"))
if sys.argv[1:]:
    assert fsutil.sha256_of(bundle.path) == sys.argv[1]
place_in_store(bundle, bundle.places, ContentStore(Path("store")), lambda _: None)
"""


def timed(argv: list[str], directory: Path) -> tuple[float, float]:
    """Seconds, and the peak memory in MB of the program."""
    began = time.monotonic()
    process = subprocess.Popen(
        argv, cwd=directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} failed")
    return time.monotonic() - began, usage.ru_maxrss / 1000


def make_files(directory: Path, total_bytes: int) -> list[tuple[str, str, int]]:
    """Files with sizes like those of the real archives; each with its digest and size."""
    lock = json.loads((ROOT / "locks" / "serving-1.15.0.json").read_text())
    known = [archive["size_bytes"] for archive in lock["archives"] if "size_bytes" in archive]
    drawn = [*known, *random.Random(1).choices(known, k=FILES)][:FILES]
    listed = []
    for number, size in enumerate(drawn):
        path = directory / f"file-{number}.tar.gz"
        with path.open("wb") as file:
            left = max(1, size * total_bytes // sum(drawn))
            while left:
                left -= file.write(os.urandom(min(left, 1 << 20)))
        digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        listed.append((str(path), digest, path.stat().st_size))
    return listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to work: another disk, or a tmpfs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-bundle.", dir=options.directory) as name:
        directory = Path(name)
        (directory / "files").mkdir()
        listed = make_files(directory / "files", int(options.gigabytes * 1e9))
        (directory / "listed.json").write_text(json.dumps(listed))
        timed([sys.executable, "-c", WRITE], directory)  # so that there is one to unpack
        digest = subprocess.run(
            ["sha256sum", directory / "made.bundle"], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        commands = {
            "cat FILES | sha256sum": ["sh", "-c", "cat files/* | sha256sum"],
            "cat FILES | openssl": ["sh", "-c", "cat files/* | openssl dgst -sha256"],
            "bundle": [sys.executable, "-c", WRITE],
            "cat BUNDLE | sha256sum": ["sh", "-c", "cat made.bundle | sha256sum"],
            "unbundle": [sys.executable, "-c", READ],
            "unbundle --sha256": [sys.executable, "-c", READ, digest],
        }
        if shutil.which("openssl") is None:
            del commands["cat FILES | openssl"]
        rival_of = {
            "bundle": "cat FILES | sha256sum",
            "unbundle": "cat BUNDLE | sha256sum",
            "unbundle --sha256": "cat BUNDLE | sha256sum",
        }
        best: dict[str, tuple[float, float]] = {}
        for _ in range(options.rounds):
            for title, argv in commands.items():  # in turn, so that a busy moment hits all of them
                subprocess.run(["rm", "-rf", directory / "store"], check=True)
                best[title] = min(best.get(title, (1e9, 0.0)), timed(argv, directory))
    total = sum(size for _, _, size in listed)
    print(f"{FILES} files, {total / 1e6:.0f} MB, best of {options.rounds}")
    missed = False
    for title, (seconds, memory_mb) in best.items():
        line = f"  {title:23} {seconds:6.2f} s  {total / 1e6 / seconds:7.1f} MB/s  {memory_mb:5.0f} MB"
        if title in rival_of:
            ratio = seconds / best[rival_of[title]][0]
            missed = missed or ratio > LIMIT or memory_mb > LIMIT_MB
            line += f"  {ratio:.2f} times the time of {rival_of[title]}"
        print(line)
    sys.exit(f"a ratio is above {LIMIT}, or a memory above {LIMIT_MB} MB" if missed else 0)


if __name__ == "__main__":
    main()
