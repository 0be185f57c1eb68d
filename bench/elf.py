"""verify-serving beside `nm -D` with comm, and beside pyelftools, on files of TensorFlow's size.

    .venv/bin/python bench/elf.py

A library of 1 GB with 130,000 dynamic symbols and a server of 300 MB, both made here by gcc, below TMPDIR (3 GB for the
time of the run). Each row is a whole process, from its start to its end; the rivals only compare the names, ours also
walks the libraries and looks at the versions. The last of the rivals with nm has nm leave out what isn't compared.
Needs gcc and binutils.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 7
SYMBOLS, NEEDED, EXPORTED = 130_000, 3_000, 20_000
ADAPTER_BYTES, SERVER_BYTES = 1_000_000_000, 300_000_000
WORDS = ("Tensor", "Kernel", "Shape", "Inference", "Context", "OpDef", "Builder", "Optimizer", "Session", "Variant")

NM = """
export LC_ALL=C
nm -D "$1" | awk '$1 == "U" {print $2}' | sort > "$3/needed"
nm -D "$2" | awk 'NF == 3 {print $3}' | sort > "$3/defined"
comm -23 "$3/needed" "$3/defined"
"""
NM_FILTERED = NM.replace('nm -D "$1"', 'nm -D --undefined-only "$1"').replace('nm -D "$2"', 'nm -D --defined-only "$2"')

PYELFTOOLS = """
import sys
from elftools.elf.elffile import ELFFile
def names(path, undefined):
    with open(path, "rb") as file:
        table = ELFFile(file).get_section_by_name(".dynsym")
        return {item.name for item in table.iter_symbols() if (item["st_shndx"] == "SHN_UNDEF") == undefined}
print(len(names(sys.argv[1], True) - names(sys.argv[2], False)))
"""

CHECK = """
import sys
from pathlib import Path
from npu_serving.elf.compat import check_server
from npu_serving.elf.subject import ServerCase
report = check_server(ServerCase(Path(sys.argv[2]), Path(sys.argv[1])))
assert report.ok, report.text()
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="npu-serving-bench-") as temporary:
        directory = Path(temporary)
        # In a process of its own: what it takes in memory would count as that of the processes measured.
        subprocess.run([sys.executable, __file__, directory], check=True)
        adapter, server = directory / "_tf_adapter.so", directory / "server"
        inv = [str(ROOT / "inv"), "verify-serving", "--server", str(server), "--adapter", str(adapter)]
        python = [sys.executable, "-c"]
        files = [str(adapter), str(server)]
        rows = {
            "./inv verify-serving": inv,
            "check_server() alone": [*python, CHECK, *files],
            "nm -D twice, awk, sort, comm": ["sh", "-c", NM, "sh", *files, str(directory)],
            "the same, with --undefined-only and --defined-only": [
                "sh",
                "-c",
                NM_FILTERED,
                "sh",
                *files,
                str(directory),
            ],
            "pyelftools": [*python, PYELFTOOLS, *files],
        }
        measured = measure(rows)
    ours = measured["check_server() alone"]
    for name, run in measured.items():
        times = f"{run.seconds:.2f} s | {run.cpu_seconds:.2f} s | {run.megabytes:.0f} MB"
        print(f"| {name} | {times} | {run.seconds / ours.seconds:.2f} | {run.cpu_seconds / ours.cpu_seconds:.2f} |")


class Run(NamedTuple):
    """One process: what it took."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def measure(rows: dict[str, list[str]]) -> dict[str, Run]:
    """The medians of time and processor time and the peak of memory of each, run in turn; the first round warms up."""
    kept: dict[str, list[Run]] = {name: [] for name in rows}
    for _ in range(ROUNDS + 1):
        for name, argv in rows.items():
            kept[name].append(one_run(argv))
    return {
        name: Run(
            statistics.median(run.seconds for run in runs[1:]),
            statistics.median(run.cpu_seconds for run in runs[1:]),
            max(run.megabytes for run in runs[1:]),
        )
        for name, runs in kept.items()
    }


def one_run(argv: list[str]) -> Run:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{argv[0]} ended with {process.returncode}")
    # Memory is that of the largest of its processes.
    return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def make_files(directory: Path) -> None:
    """The adapter and a server that is linked with it."""
    names = symbol_names(SYMBOLS + EXPORTED)
    defined, exported = names[: SYMBOLS - NEEDED], names[SYMBOLS - NEEDED : SYMBOLS - NEEDED + EXPORTED]
    calls = "".join(f"call {name}@PLT\n" for name in exported[:NEEDED])
    library = directory / "_tf_adapter.so"
    shared = ["-shared", f"-Wl,-soname,{library.name}", "-Wl,--allow-shlib-undefined"]
    link(library, functions(defined, calls) + filling(ADAPTER_BYTES), *shared)
    server = directory / "server"
    main = ".globl main\nmain: xor %eax, %eax\nret\n"
    needed = ["-rdynamic", "-Wl,--no-as-needed", str(library)]
    link(server, functions(exported, main) + filling(SERVER_BYTES), *needed)


def symbol_names(count: int) -> list[str]:
    """Mangled names as long as TensorFlow's: about 80 characters."""
    chosen = random.Random(15)
    parts = ["".join(f"{len(word)}{word}" for word in chosen.choices(WORDS, k=7)) for _ in range(count)]
    return [f"_ZN10tensorflow{part}{len(str(number)) + 1}f{number}ERKS0_" for number, part in enumerate(parts)]


def functions(names: list[str], last: str) -> str:
    lines = [f".globl {name}\n.type {name}, @function\n{name}: ret\n.size {name}, 1\n" for name in names]
    return ".text\n" + "".join(lines) + last


def filling(size: int) -> str:
    return f'.section .rodata\n.skip {size}\n.section .note.GNU-stack,"",@progbits\n'


def link(path: Path, source: str, *flags: str) -> None:
    text = path.with_name(path.name + ".s")
    text.write_text(source)
    subprocess.run(["gcc", "-o", path, text, "-lstdc++", *flags], check=True)
    text.unlink()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make_files(Path(sys.argv[1]))
    else:
        main()
