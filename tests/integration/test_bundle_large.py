"""Bundles larger than what may be in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LIMIT_MB = 100
SIZE = 300_000_000

PROGRAM = r"""
import re, sys
from pathlib import Path
from npu_serving import fsutil
from npu_serving.console import Silent
from npu_serving.bundle.writer import BundleMember, Manifest, write_bundle
from npu_serving.bundle.reader import read_bundle
from npu_serving.fetch.content_store import ContentStore
from npu_serving.bundle.placing import place_in_store
directory = Path(sys.argv[1])
sparse = directory / "sparse"
with sparse.open("wb") as file:
    file.truncate(int(sys.argv[2]))
digest = fsutil.sha256_of(sparse)
member = BundleMember("archive", "sparse", digest, sparse.stat().st_size)
write_bundle(directory / "bundle", Manifest("1", "x86_64", "3.11", (member,)), {digest: sparse}, Silent())
bundle = read_bundle(directory / "bundle")
place_in_store(bundle, bundle.places, ContentStore(directory / "store"), lambda _: None)
# ru_maxrss would begin with what the process that forked this one had.
print(int(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text()).group(1)) // 1000)
"""


def test_memory_stays_small_whatever_the_size(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(SIZE)], capture_output=True, text=True, check=True
    )
    for name in ("bundle", "sparse"):
        (tmp_path / name).unlink()
    assert int(done.stdout) < LIMIT_MB
