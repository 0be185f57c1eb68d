"""fetch-deps with nothing to do, beside what others take to see that; and --verify beside sha256 itself.

    .venv/bin/python bench/store.py

91 files, 230 MB, sizes like those of the real archives, all there. Each is run in turn, the median counts. openssl is
left out where it is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import fetch as fetching
import yaml

from npu_serving.building.sources import own_lock_path
from npu_serving.fetch.content_store import ContentStore
from npu_serving.lock.lockfile import Archive, read_lock, render_lock
from npu_serving.settings import PROJECT_ROOT, Settings

ROUNDS = 7


def fill(root: Path) -> tuple[ContentStore, Settings, list[Archive]]:
    """A state directory whose store has all that the lock of a small tree names."""
    tree = root / "tree"
    (tree / "tensorflow_serving/model_servers").mkdir(parents=True)
    (tree / "WORKSPACE").write_text('workspace(name = "tf_serving")\n')
    (tree / "tensorflow_serving/model_servers/BUILD").write_text("")
    settings = Settings(source=str(tree), build_root=root / "build")
    store = ContentStore(settings.store_root)
    real = read_lock(PROJECT_ROOT / "locks" / "serving-1.15.0.json")
    archives = []
    for number, (archive, size) in enumerate(zip(real.archives, fetching.sizes())):
        data = random.Random(number).randbytes(size)
        digest = hashlib.sha256(data).hexdigest()
        (root / "file").write_bytes(data)
        store.adopt(root / "file", digest)
        archives.append(dataclasses.replace(archive, sha256=digest, size_bytes=size))
    lock = dataclasses.replace(real, serving_version="", tensorflow_commit="", archives=tuple(archives))
    path = own_lock_path(tree, settings)
    path.parent.mkdir(parents=True)
    path.write_text(render_lock(lock))
    values = {"source": settings.source, "build_root": str(settings.build_root)}
    (root / "invoke.yaml").write_text(yaml.safe_dump({"npu_serving": values}))
    return store, settings, archives


def program(argv: Sequence[str | Path], cwd: Path, environment: dict[str, str]) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        subprocess.run(argv, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began

    return run


def check(store: ContentStore, archives: list[Archive], *, verify: bool) -> Callable[[], float]:
    def run() -> float:
        began = time.perf_counter()
        found = ContentStore(store.root).check([archive.sha256 or "" for archive in archives], verify=verify)
        assert len(found.present) == len(archives)
        return time.perf_counter() - began

    return run


def compare(title: str, ours: str, runs: dict[str, Callable[[], float]]) -> None:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS + 1):
        for name, run in runs.items():
            seconds = run()
            if number:  # the first one warms up
                times[name].append(seconds)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(title)
    for name, seconds in medians.items():
        beside = "" if name == ours else f"{ours} is {seconds / medians[ours]:.2f} times as fast"
        print(f"  {name:34} {1000 * seconds:8.1f} ms  {beside}".rstrip())


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bench-store.") as name:
        root = Path(name)
        store, settings, archives = fill(root)
        environment = {**os.environ, "NPU_SERVING_SETTINGS": str(root / "invoke.yaml")}
        command: list[str | Path] = [PROJECT_ROOT / "inv", "fetch-deps", "--all"]
        program(command, root, environment)()  # puts everything in its place
        files = sorted(path for path in settings.distdir.iterdir() if not path.name.startswith("."))
        sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)
        (root / "sums.txt").write_text(sums)
        here = settings.distdir
        rival = {"sha256sum -c": program(["sha256sum", "-c", root / "sums.txt"], here, dict(os.environ))}
        ours = "./inv fetch-deps, nothing to do"
        compare(f"nothing to do: {len(archives)} files", ours, {ours: program(command, root, environment), **rival})
        ours = "the check of all files"
        compare("of which", ours, {ours: check(store, archives, verify=False)})

        sha256: dict[str, Callable[[], float]] = {"sha256sum": program(["sha256sum", *files], here, dict(os.environ))}
        if shutil.which("openssl"):
            sha256["openssl dgst -sha256"] = program(["openssl", "dgst", "-sha256", *files], here, dict(os.environ))
        ours = "--verify"
        compare("every byte read again", ours, {ours: check(store, archives, verify=True), **sha256})


if __name__ == "__main__":
    main()
