"""Packing a relink kit beside `zip -1` of the same objects, and relinking from one beside its link.

    .venv/bin/python bench/kit.py [--megabytes 600] [--rounds 3] [--directory DIR]

Packed is C++ with debug information, 600 MB in all. Relinked is the sample, as it is and with 500 MB more in the
server: the whole command, with the kit's members unpacked by an earlier run, beside the linker's own part of it.

Ours reads, verifies the digest of each object, makes archives with an index of them, hashes these, compresses, writes,
and waits for the disk. The objects are compiled from a few sources; the symbols of each are renamed for each copy.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _upgrades import FILLED_MB, INV, filled, measured, settings_in

from npu_serving.building.pipeline import build_serving
from npu_serving.console import Silent
from npu_serving.sample.cann import NEXT_RELEASE, install_sample_cann

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.2
LIMIT_OF_A_RELINK_S = 2.0
LIMIT_MB = 400
GROUP = 6
"""Objects of one library, about as many as in TensorFlow Serving: 3,472 objects in some 600."""
SOURCES = {
    "regex": '#include <regex>\nbool f(const char* t) { return std::regex_match(t, std::regex("a+b")); }',
    "map": "#include <map>\n#include <string>\n"
    'int f() { std::map<std::string, std::string> m; m["a"] = "b"; return m.size(); }',
    "sort": "#include <algorithm>\n#include <vector>\n#include <functional>\nvoid f(std::vector<double>& v) "
    "{ std::sort(v.begin(), v.end(), std::greater<double>()); std::stable_sort(v.begin(), v.end()); }",
    "thread": "#include <future>\n#include <thread>\n#include <iostream>\n"
    "int f() { auto a = std::async([] { return 1; }); std::thread([] { std::cout << 1; }).join(); return a.get(); }",
}

PACK = """
import json, sys
from pathlib import Path
from npu_serving.console import Silent
from npu_serving.packaging.kit_members import PackedMember
from npu_serving.packaging.kit_writer import write_kit
groups = json.loads(Path("groups.json").read_text())
members = tuple(
    PackedMember(f"objects/{name}.a", tuple(Path(path) for path, _ in group), tuple(item[1] for item in group), True)
    for name, group in groups.items()
)
write_kit(Path("made.pyz"), members, {}, lambda held: json.dumps(sorted(held)).encode(), Silent())
"""


def timed(argv: list[str], directory: Path) -> tuple[float, float]:
    """Seconds, and the peak memory in MB of the program."""
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, cwd=directory, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{argv[0]} failed")
    return time.monotonic() - began, usage.ru_maxrss / 1000


def make_objects(directory: Path, total_bytes: int) -> list[Path]:
    """Objects of that many bytes in all; no two are the same."""
    compiled = []
    for name, text in SOURCES.items():
        source = directory / f"{name}.cc"
        source.write_text(text)
        subprocess.run(["g++", "-g", "-c", source, "-o", directory / f"{name}.o"], check=True)
        compiled.append(directory / f"{name}.o")
    made: list[Path] = []
    (directory / "objects").mkdir()
    size = 0
    while size < total_bytes:
        original = compiled[len(made) % len(compiled)]
        target = directory / "objects" / f"{original.stem}{len(made)}.o"
        subprocess.run(["objcopy", f"--prefix-symbols=of_{len(made)}_", original, target], check=True)
        made.append(target)
        size += target.stat().st_size
    return made


def relinks(name: str, root: Path, source: str, rounds: int) -> float:
    """`python3 KIT relink` for the next CANN, without a former server; the seconds that are not the linker's."""
    settings, env = settings_in(root, source, "none")
    install_sample_cann(settings.build_root / "sample")
    build_serving(settings, Silent())
    kits, dist = root / "kits", root / "relinked"
    measured([INV, "package", "--format", "kit", "--output", str(kits)], ROOT, env)
    (kit,) = kits.glob("*.pyz")
    ascend = install_sample_cann(root / "next", (NEXT_RELEASE,), NEXT_RELEASE)
    times: list[tuple[float, float]] = []
    argv = [sys.executable, "-I", str(kit), "relink", "--json", "--no-proof", "--dist", str(dist)]
    argv += ["--cache", str(root / "cache"), "--cann-root", str(ascend)]
    first = json.loads(measured(argv, root, env)[1])
    for _ in range(rounds):
        shutil.rmtree(dist)
        seconds, printed = measured(argv, root, env)
        times.append((seconds, json.loads(printed)["link_seconds"]))
    shutil.rmtree(kits)
    shutil.rmtree(dist)
    whole, link = sorted(times, key=lambda each: each[0] - each[1])[len(times) // 2]
    print(
        f"{name}: relinked from a kit in {whole:.2f} s, {link:.2f} s of them the linker's: {whole - link:.2f} s more; "
        f"the first run unpacked for {first['unpacking_seconds']:.2f} s",
        flush=True,
    )
    return whole - link


def relinking(root: Path, rounds: int) -> float:
    """The same of both samples; the slower one."""
    slowest = relinks("sample", root, "sample", rounds)
    filled(root / "filled", root / "filling")
    return max(slowest, relinks(f"sample and {FILLED_MB} MB", root, str(root / "filled"), rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where to work: another disk, or a tmpfs")
    options = parser.parse_args()
    if shutil.which("zip") is None:
        raise SystemExit("zip is not installed: sudo apt-get install zip")
    with tempfile.TemporaryDirectory(prefix="bench-kit.", dir=options.directory) as name:
        directory = Path(name)
        objects = make_objects(directory, options.megabytes * 1_000_000)
        groups = {
            f"group{at}": [
                (str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in objects[at : at + GROUP]
            ]
            for at in range(0, len(objects), GROUP)
        }
        (directory / "groups.json").write_text(json.dumps(groups))
        commands = {
            "zip -1": ["zip", "-1", "-q", "-r", "made.zip", "objects"],
            "kit": [sys.executable, "-c", PACK],
        }
        best: dict[str, tuple[float, float]] = {}
        for _ in range(options.rounds):
            for title, argv in commands.items():  # in turn, so that a busy moment hits both
                (directory / "made.zip").unlink(missing_ok=True)
                best[title] = min(best.get(title, (1e9, 0.0)), timed(argv, directory))
        subprocess.run(commands["zip -1"], cwd=directory, check=True)
        sizes = {"zip -1": (directory / "made.zip").stat().st_size, "kit": (directory / "made.pyz").stat().st_size}
        total = sum(path.stat().st_size for path in objects)
    print(f"{len(objects)} objects, {total / 1e6:.0f} MB, best of {options.rounds}")
    for title, (seconds, memory_mb) in best.items():
        print(f"  {title:8} {seconds:6.2f} s  {sizes[title] / 1e6:6.0f} MB  {memory_mb:5.0f} MB of memory")
    ratio = best["kit"][0] / best["zip -1"][0]
    print(f"  {ratio:.2f} times the time of zip -1")
    with tempfile.TemporaryDirectory(prefix="bench-kit.", dir=options.directory) as name:
        slowest = relinking(Path(name), options.rounds)
    missed = ratio > LIMIT or best["kit"][1] > LIMIT_MB or slowest > LIMIT_OF_A_RELINK_S
    sys.exit(
        f"the ratio is above {LIMIT}, the memory above {LIMIT_MB} MB, or a relink takes {LIMIT_OF_A_RELINK_S} s more"
        if missed
        else 0
    )


if __name__ == "__main__":
    main()
