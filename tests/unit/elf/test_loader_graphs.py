"""Random sets of small libraries, judged by the real loader, with everything bound at the start, and by ours.

Each run makes new ones. A graph that is judged differently is shown with its seed: NPU_SERVING_GRAPH=SEED makes the
same one again, and nothing else.
"""

from __future__ import annotations

import functools
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from elf_samples import needs_gcc
from tiers import examples

from npu_serving.elf.binding import Binding
from npu_serving.elf.compat import check_server
from npu_serving.elf.loader import plan_loading
from npu_serving.elf.report import ADAPTER_NOT_LINKED, SIZE_CHANGED, SYMBOLS_OF_OTHERS, UNDEFINED_SYMBOL
from npu_serving.elf.subject import ServerCase
from npu_serving.elf.symbols import read_elf
from npu_serving.findings import PROBLEM

pytestmark = [needs_gcc, pytest.mark.skipif(shutil.which("ld") is None, reason="needs ld")]

LIBRARIES = ("_tf_adapter.so", "libb.so", "libc1.so", "libd.so", "libe.so")  # each may need those that stand before it
DIRECTORIES = ("one", "two", "three")
LEVELS = ("glibc-hwcaps/x86-64-v4", "glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v2", "tls", "haswell", "x86_64")
FUNCTIONS, VARIABLES, THREADS = ("f0", "f1", "f2"), ("v0", "v1"), ("t0",)
SYMBOLS = FUNCTIONS + VARIABLES + THREADS
GRAPHS = examples(30, 1_500)

SOURCES = {
    "empty": "",
    "start": """
#if defined(__x86_64__)
__asm__(".globl _start\\n_start: mov $60, %eax\\n xor %edi, %edi\\n syscall\\n");
#else
__asm__(".globl _start\\n_start: mov x8, #93\\n mov x0, #0\\n svc #0\\n");
#endif
""",
    "libc": "int puts(const char *); int say(void) { return puts(0); }",
}
WEAK = "__attribute__((weak))"
for name in FUNCTIONS:
    SOURCES |= {
        f"define-{name}": f"int {name}(void) {{ return 1; }}",
        f"weakly-define-{name}": f"{WEAK} int {name}(void) {{ return 1; }}",
        f"call-{name}": f"int {name}(void); int call_{name}(void) {{ return {name}() + 1; }}",
        f"take-{name}": f"int {name}(void); void *take_{name} = {name};",
        f"weakly-call-{name}": f"{WEAK} int {name}(void); int wcall_{name}(void) {{ return {name}() + 1; }}",
        f"weakly-take-{name}": f"{WEAK} int {name}(void); void *wtake_{name} = {name};",
    }
for name in VARIABLES:
    SOURCES |= {
        f"define-{name}": f"int {name}[4] = {{1}};",
        f"weakly-define-{name}": f"{WEAK} int {name}[8] = {{1}};",
        f"call-{name}": f"extern int {name}[4]; int call_{name}(void) {{ return {name}[1]; }}",
        f"take-{name}": f"extern int {name}[4]; void *take_{name} = {name};",
        f"weakly-call-{name}": f"{WEAK} extern int {name}[4]; int wcall_{name}(void) {{ return {name}[1]; }}",
        f"weakly-take-{name}": f"{WEAK} extern int {name}[4]; void *wtake_{name} = {name};",
    }
for name in THREADS:
    SOURCES |= {
        f"define-{name}": f"__thread int {name} = 1;",
        f"weakly-define-{name}": f"{WEAK} __thread int {name} = 1;",
        f"call-{name}": f"extern __thread int {name}; int call_{name}(void) {{ return {name}; }}",
        f"take-{name}": f"extern __thread int {name}; int *take_{name}(void) {{ return &{name}; }}",
        f"weakly-call-{name}": f"{WEAK} extern __thread int {name}; int wcall_{name}(void) {{ return {name}; }}",
        f"weakly-take-{name}": f"{WEAK} extern __thread int {name}; int *wtake_{name}(void) {{ return &{name}; }}",
    }
DAMAGES = ((6, 2), (7, 3), (7, 9), (8, 1), (11, 1), (20, 2), (4, 1), (18, 8), (16, 1))
"""A byte of a header, and what it is made: versions, system, padding, class, machine, type."""
VERBS = ("call", "take", "weakly-call", "weakly-take")


@dataclass(frozen=True)
class Content:
    """What one file is linked from."""

    defines: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    version: str | None = None
    search: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    with_libc: bool = False
    damage: tuple[int, int] | None = None
    """A byte of the header, and what it is made."""


def some(rng: random.Random, items: Sequence[str], most: int) -> tuple[str, ...]:
    return tuple(rng.sample(items, rng.randint(0, min(most, len(items)))))


def content(rng: random.Random, names: Sequence[str]) -> Content:
    flags = [rng.choice(["--enable-new-dtags", "--disable-new-dtags"]), rng.choice(["-zlazy", "-zlazy", "-znow"])]
    flags += [f"--hash-style={rng.choice(['gnu', 'sysv', 'both'])}"]
    if names and rng.random() < 0.25:
        flags.append(f"{rng.choice(['--filter', '--auxiliary'])}={rng.choice(names)}")
    if rng.random() < 0.06:
        flags.append(f"-z{rng.choice(['x86-64-v2', 'x86-64-v3', 'x86-64-v4'])}")
    if rng.random() < 0.06:
        size = rng.choice(["0x400", "0x1000", "0x10000"])
        flags += [f"-zmax-page-size={size}", f"-zcommon-page-size={size}"]
    if rng.random() < 0.1:
        flags.append(rng.choice(["-Bsymbolic", "-znodefaultlib"]))
    return Content(
        defines=tuple(f"{rng.choice(['define', 'define', 'weakly-define'])}-{name}" for name in some(rng, SYMBOLS, 5)),
        uses=tuple(f"{rng.choice(VERBS)}-{name}" for name in some(rng, SYMBOLS, 2)),
        needs=some(rng, names, 3),
        version=rng.choice([None, None, "V_1", "V_2"]),
        search=some(rng, DIRECTORIES, 2),
        flags=tuple(flags),
        with_libc=rng.random() < 0.3,
    )


def changed(rng: random.Random, now: Content) -> Content:
    """What a library may become between the link and the start."""
    kind = rng.choice(["lose", "lose", "weaken", "version", "header", "same"])
    if kind == "lose":
        return replace(now, defines=tuple(item for item in now.defines if rng.random() < 0.6))
    if kind == "weaken":
        return replace(now, defines=tuple(f"weakly-define-{item.rpartition('-')[2]}" for item in now.defines))
    if kind == "version":
        return replace(now, version=rng.choice([None, "V_1", "V_2"]))
    if kind == "header":
        return replace(
            now, damage=rng.choice([(6, 2), (7, 3), (7, 9), (8, 1), (11, 1), (20, 2), (4, 1), (18, 8), (16, 1)])
        )
    return now


@functools.cache
def objects() -> Path:
    """Object files of which all others are linked: one for each thing that can be done with a symbol, and for a program
    at a fixed address also as -fno-pic makes it, which copies variables and has entries for functions.
    """
    directory = Path(tempfile.mkdtemp(prefix="npu-serving-objects-"))
    for place, flag in (("pic", "-fPIC"), ("fixed", "-fno-pic")):
        (directory / place).mkdir()
        wanted = {name: text for name, text in SOURCES.items() if place == "pic" or name.startswith(VERBS)}
        for name, text in wanted.items():
            (directory / place / f"{name}.c").write_text(text)
        command = ["gcc", "-w", "-O1", flag, "-fvisibility=default", "-c", *(f"{name}.c" for name in wanted)]
        subprocess.run(command, cwd=directory / place, check=True)
    return directory


@pytest.fixture(scope="module", autouse=True)
def _objects_are_removed() -> object:
    yield
    shutil.rmtree(objects())
    objects.cache_clear()


@functools.cache
def _libc() -> Path:
    asked = ["gcc", "-print-file-name=libc.so.6"]
    return Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())


@functools.cache
def _interpreter() -> str:
    found = read_elf(Path(shutil.which("true") or "/bin/true")).interpreter
    assert found is not None
    return found


def link(path: Path, now: Content, root: Path, kind: str = "library") -> None:
    """Links a library, a program, or a program at a fixed address."""
    place = "fixed" if kind == "fixed" else "pic"
    flags = ["--no-as-needed", "--unresolved-symbols=ignore-all", "--build-id=none", *now.flags]
    files = [objects() / "pic" / "empty.o", *(objects() / "pic" / f"{item}.o" for item in now.defines)]
    files += [objects() / place / f"{item}.o" for item in now.uses]
    if now.search:
        up = "" if path.parent == root else "/".join([".."] * len(path.parent.relative_to(root).parts)) + "/"
        flags += ["-rpath", ":".join(f"$ORIGIN/{up}{name}" for name in now.search)]
    if kind == "library":
        flags += ["-shared", "-soname", path.name]
        if now.version is not None and now.defines:
            script = path.with_name(f"{path.name}.map")
            names = sorted(item.rpartition("-")[2] for item in now.defines)
            script.write_text(f"{now.version} {{ global: {' '.join(f'{item};' for item in names)} }};")
            flags += ["--version-script", str(script)]
    else:
        flags += ["-dynamic-linker", _interpreter(), "--export-dynamic", *(["-pie"] if kind == "program" else [])]
        files.append(objects() / "pic" / "start.o")
    against = [next((root / d / name for d in DIRECTORIES if (root / d / name).exists()), None) for name in now.needs]
    libc = [objects() / "pic" / "libc.o", _libc()] if now.with_libc else []
    command: list[str | Path] = [
        "ld",
        "-o",
        path,
        *flags,
        *files,
        *libc,
        *(item for item in against if item is not None),
    ]
    linked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert linked.returncode == 0, linked.stderr


def build(rng: random.Random, root: Path) -> tuple[Path, list[Path]]:
    """A program, its libraries as they have become since it was linked, and LD_LIBRARY_PATH."""
    files: dict[tuple[str, str], Content] = {}
    for name in DIRECTORIES:
        (root / name).mkdir()
    for number, name in enumerate(LIBRARIES):
        for directory in some(rng, DIRECTORIES, 2) or (("one",) if rng.random() < 0.8 else ()):
            files[directory, name] = content(rng, LIBRARIES[:number])
            link(root / directory / name, files[directory, name], root)
    main = root / "main"
    kind = rng.choice(["program", "fixed", "fixed"])
    wanted = content(rng, list(dict.fromkeys(name for _, name in files)))
    flags = [
        flag
        for flag in wanted.flags
        if not flag.startswith(("-Bsymbolic", "-zmax", "-zcommon", "--filter", "--auxiliary"))
    ]
    flags += ["-soname", rng.choice(LIBRARIES)] if rng.random() < 0.1 else []
    uses = tuple(f"{rng.choice(VERBS)}-{name}" for name in some(rng, SYMBOLS, 4))
    link(main, replace(wanted, uses=uses, flags=tuple(flags)), root, kind)
    become: list[tuple[Path, Content | None]] = []
    for (directory, name), now in files.items():
        chance = rng.random()
        path = root / directory / name
        if chance < 0.3:
            become.append((path, changed(rng, now)))
        elif chance < 0.35:
            become.append((path, None))
        elif chance < 0.5:
            inner = root / directory / rng.choice(LEVELS)
            inner.mkdir(parents=True, exist_ok=True)
            become.append((inner / name, changed(rng, now)))
            if rng.random() < 0.5:
                become.append((path, None))
    for path, then in become:
        if then is not None:
            link(path, then, root)
    for path, then in become:
        if then is None:
            path.unlink()
        elif then.damage is not None:
            with path.open("r+b") as file:
                file.seek(then.damage[0])
                file.write(bytes(then.damage[1:]))
    searched = rng.sample(DIRECTORIES, 3) if rng.random() < 0.7 else some(rng, DIRECTORIES, 2)
    return main, [root / name for name in searched]


@dataclass(frozen=True)
class Judgement:
    """What is loaded from where, in the order of lookup, what isn't defined, and whether the program starts."""

    starts: bool
    loaded: tuple[str, ...] | None = None
    undefined: frozenset[tuple[str, str]] | None = None
    warns_of_size: bool = False


def by_ld_so(main: Path, path: Sequence[Path]) -> tuple[Judgement, str]:
    environment = {"LD_BIND_NOW": "1", "LC_ALL": "C", "LD_LIBRARY_PATH": ":".join(map(str, path))}
    run = subprocess.run([main], env={**environment, "LD_DEBUG": "scopes"}, capture_output=True, text=True, check=False)
    said = run.stderr
    scope = re.search(r"^\s*\d+:\s+scope 0: (.*)$", said, re.M)
    loaded = tuple(os.path.realpath(item) for item in scope.group(1).split()[1:]) if scope else None
    said = "\n".join(line for line in said.splitlines() if not re.match(r"\s*\d+:", line))
    undefined = None
    if run.returncode != 0 and loaded is not None and "symbol" in said:
        traced = {**environment, "LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes"}
        text = subprocess.run([main], env=traced, capture_output=True, text=True, check=False)
        lines = text.stdout + text.stderr
        found = re.findall(r"undefined symbol: (\w+)(?:, version \w+)?\t\((.*)\)", lines)
        found += re.findall(
            r"symbol (\w+), version \w+ not defined in file \S+ with link time reference\t\((.*)\)", lines
        )
        undefined = frozenset(found) if "Inconsistency detected" not in lines + said else None
    return Judgement(run.returncode == 0, loaded, undefined, "has different size" in said), said


def by_us(main: Path, path: Sequence[Path]) -> tuple[Judgement, str]:
    report = check_server(ServerCase(main, library_path=path))
    at_call = (UNDEFINED_SYMBOL, *SYMBOLS_OF_OTHERS)  # a warning where it is bound late: here nothing is
    refused = [
        item
        for item in report.findings
        if (item.severity == PROBLEM and item.kind != ADAPTER_NOT_LINKED) or item.kind in at_call
    ]
    plan = plan_loading(main, library_path=path)
    binding = Binding(plan)
    undefined = {
        (item.symbol.name, str(library.path)) for library in plan.libraries for item in binding.unresolved(library)
    }
    undefined |= {(symbol.name, str(main)) for symbol in binding.lost_copies()}
    grown = any(item.kind == SIZE_CHANGED and "only warns" in item.what for item in report.findings)
    loaded = tuple(os.path.realpath(item.path) for item in plan.libraries[1:])
    return Judgement(not refused, loaded, frozenset(undefined), grown), report.text()


def seeds(config: pytest.Config) -> list[int]:
    again = os.environ.get("NPU_SERVING_GRAPH")
    if again:
        return [int(again)]
    seed = getattr(config.option, "randomly_seed", None)
    rng = random.Random(seed) if isinstance(seed, int) else random.SystemRandom()
    return [rng.getrandbits(48) for _ in range(GRAPHS)]


def test_what_is_loaded_and_what_is_missing_is_what_the_real_loader_says(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    for seed in seeds(request.config):
        root = Path(tempfile.mkdtemp(dir=tmp_path))
        main, path = build(random.Random(seed), root)
        theirs, said = by_ld_so(main, path)
        ours, told = by_us(main, path)
        shown = f"NPU_SERVING_GRAPH={seed} makes it again. LD_LIBRARY_PATH={path}\nld.so: {said}\nours: {told}"
        assert ours.starts == theirs.starts, shown
        if theirs.loaded is not None:
            assert ours.loaded == theirs.loaded, shown
        if theirs.undefined is not None:
            assert ours.undefined == theirs.undefined, shown
        if theirs.starts:
            assert ours.warns_of_size == theirs.warns_of_size, shown
        shutil.rmtree(root)
