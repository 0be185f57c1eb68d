"""publish-model of a version with large files, beside `cp -r` of it and `sync`."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from npu_serving.console import Silent
from npu_serving.publishing.destination import destination
from npu_serving.publishing.publish import PublicationWish, plan_publication, publish
from npu_serving.sample.models import saved_model
from npu_serving.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
MEGABYTES, FILES, ROUNDS = 512, 8, 5


def make(version: Path) -> None:
    (version / "assets.extra").mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(saved_model(0.5, 2.0))
    for number in range(FILES):
        with (version / "assets.extra" / f"part-{number}").open("wb") as file:
            for _ in range(MEGABYTES // FILES):
                file.write(os.urandom(1 << 20))


def published(version: Path, base: Path) -> None:
    """The task as it is typed, to a place that has no version yet."""
    shutil.rmtree(base, ignore_errors=True)
    inv = [sys.executable, "-m", "npu_serving", "--search-root", str(ROOT), "publish-model"]
    words = [*inv, str(version), "--to", str(base)]
    subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def put(version: Path, base: Path) -> None:
    """The same without the start of the program, of which a busy machine makes seconds."""
    shutil.rmtree(base, ignore_errors=True)
    settings = Settings(build_root=base.parent / "build")
    plan = plan_publication(version, str(version), destination(settings, to=base), PublicationWish())
    publish(settings, plan, Silent())


def copied(version: Path, base: Path) -> None:
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    subprocess.run(["sh", "-c", 'cp -r "$1" "$2" && sync', "-", str(version), str(base / "1")], check=True)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as place:
        version = Path(place) / "exported"
        make(version)
        works = {
            "publish-model": functools.partial(published, version, Path(place) / "a"),
            "without its start": functools.partial(put, version, Path(place) / "c"),
            "cp -r; sync": functools.partial(copied, version, Path(place) / "b"),
        }
        copied(version, Path(place) / "b")  # the files are in memory then, for both
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(ROUNDS):
            for name, work in works.items():
                begun = time.perf_counter()
                work()
                times[name].append(time.perf_counter() - begun)
        best = {name: min(found) for name, found in times.items()}  # others use the disk, too
        theirs = best["cp -r; sync"]
        for name in ("publish-model", "without its start"):
            ours = best[name]
            print(f"| {name}, {MEGABYTES} MB | {ours:.2f} s | cp -r; sync | {theirs:.2f} s | {ours / theirs:.2f} |")
        print(f"load {os.getloadavg()[0]:.0f}", file=sys.stderr)


if __name__ == "__main__":
    main()
