"""Random sets of small libraries, judged by the real loader (as `ldd -r` calls it) and by ours."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from elf_samples import needs_gcc
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tiers import examples

from npu_serving.elf.binding import Binding, lacks_version
from npu_serving.elf.loader import plan_loading

pytestmark = [needs_gcc, pytest.mark.skipif(shutil.which("ld") is None, reason="needs ld")]

LIBRARIES = ("liba.so", "libb.so", "libc1.so", "libd.so")  # each may need those that stand before it
DIRECTORIES = ("one", "two", "three")
SYMBOLS = ("s0", "s1", "s2")


@dataclass(frozen=True)
class Content:
    """What one file is linked from."""

    defines: frozenset[str]
    calls: frozenset[str]
    reads: frozenset[str]
    needs: tuple[str, ...]
    version: str | None
    search: tuple[str, ...]
    tag: str
    with_libc: bool


@dataclass(frozen=True)
class World:
    """A program, files of libraries in directories, and LD_LIBRARY_PATH."""

    program: Content
    files: dict[tuple[str, str], Content]
    library_path: tuple[str, ...]


def contents(names: tuple[str, ...]) -> st.SearchStrategy[Content]:
    symbols = st.frozensets(st.sampled_from(SYMBOLS))
    return st.builds(
        Content,
        defines=symbols,
        calls=st.frozensets(st.sampled_from(SYMBOLS), max_size=1),
        reads=st.frozensets(st.sampled_from(SYMBOLS), max_size=1),
        needs=st.lists(st.sampled_from(names), unique=True, max_size=3).map(tuple) if names else st.just(()),
        version=st.sampled_from([None, None, "V_1", "V_2"]),
        search=st.lists(st.sampled_from(DIRECTORIES), unique=True, max_size=2).map(tuple),
        tag=st.sampled_from(["--enable-new-dtags", "--disable-new-dtags"]),
        with_libc=st.booleans(),
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    files = {}
    for number, name in enumerate(LIBRARIES):
        for directory in draw(st.lists(st.sampled_from(DIRECTORIES), unique=True, max_size=2)):
            files[directory, name] = draw(contents(LIBRARIES[:number]))
    program = draw(contents(tuple(dict.fromkeys(name for _, name in files))))
    return World(program, files, tuple(draw(st.lists(st.sampled_from(DIRECTORIES), unique=True, max_size=2))))


@functools.cache
def objects() -> Path:
    """Object files of which all others are linked: one for each thing that can be done with a symbol."""
    directory = Path(tempfile.mkdtemp(prefix="npu-serving-objects-"))
    sources = {
        "empty": "",
        "main": "int main(void) { return 0; }",
        "libc": "int puts(const char *); int say(void) { return puts(0); }",
    }
    for symbol in SYMBOLS:
        sources[f"define-{symbol}"] = f"int {symbol}(void) {{ return 1; }}"
        sources[f"call-{symbol}"] = f"int {symbol}(void); int call_{symbol}(void) {{ return {symbol}() + 1; }}"
        sources[f"read-{symbol}"] = f"int {symbol}(void); int (*read_{symbol}(void))(void) {{ return {symbol}; }}"
    for name, source in sources.items():
        (directory / f"{name}.c").write_text(source)
        command = ["gcc", "-w", "-O1", "-fPIC", "-fvisibility=default", "-c", f"{name}.c"]
        subprocess.run(command, cwd=directory, check=True)
    return directory


@pytest.fixture(scope="module", autouse=True)
def _objects_are_removed() -> object:
    yield
    shutil.rmtree(objects())
    objects.cache_clear()


def link(path: Path, content: Content, world: World, root: Path) -> None:
    """A program is linked by gcc, a library by ld itself, which is faster and leaves libc out."""
    is_program = path.name == "main"
    used = [objects() / "empty.o", *(objects() / f"define-{symbol}.o" for symbol in sorted(content.defines))]
    used += [objects() / f"call-{symbol}.o" for symbol in sorted(content.calls)]
    used += [objects() / f"read-{symbol}.o" for symbol in sorted(content.reads)]
    flags = ["-z", "lazy", "--no-as-needed", "--unresolved-symbols=ignore-all", content.tag]
    if content.search:
        flags += ["-rpath", ":".join(f"$ORIGIN/{'' if is_program else '../'}{name}" for name in content.search)]
    if content.version is not None and not is_program and content.defines:
        script = path.with_name(f"{path.name}.map")
        script.write_text(
            f"{content.version} {{ global: {' '.join(f'{item};' for item in sorted(content.defines))} }};"
        )
        flags += ["--version-script", str(script)]
    against = [
        next((root / d / name for d in DIRECTORIES if (root / d / name).exists()), None) for name in content.needs
    ]
    found = [str(item) for item in against if item is not None]
    if is_program:
        command: list[str | Path] = ["gcc", "-o", path, objects() / "main.o", *used, f"-Wl,{','.join(flags)}", *found]
    else:
        libc: list[str | Path] = [objects() / "libc.o", *_libc()] if content.with_libc else []
        command = ["ld", "-shared", "-soname", path.name, "-o", path, *flags, *used, *libc, *found]
    subprocess.run(command, check=True)


@functools.cache
def _libc() -> tuple[str, ...]:
    asked = ["gcc", "-print-file-name=libc.so.6"]
    return (subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip(),)


def by_ld_so(
    main: Path, library_path: str
) -> tuple[int, bool, set[tuple[str, str]], set[tuple[str, str]], set[tuple[str, str]]]:
    """Exit status when everything is bound at the start; name -> file; undefined symbols and missing versions."""
    environment = {"LD_BIND_NOW": "1", "LC_ALL": "C"} | ({"LD_LIBRARY_PATH": library_path} if library_path else {})
    status = subprocess.run([main], env=environment, capture_output=True, check=False).returncode
    traced = {**environment, "LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes"}
    said = subprocess.run([main], env=traced, capture_output=True, text=True, check=False)
    text = said.stdout + said.stderr
    files = set(re.findall(r"^\t(lib[a-d]1?\.so) => (.*?)(?: \(0x[0-9a-f]+\))?$", text, re.M))
    undefined = set(re.findall(r"undefined symbol: (\w+)(?:, version \w+)?\t\((.*)\)", text))
    undefined |= set(
        re.findall(r"symbol (\w+), version \w+ not defined in file \S+ with link time reference\t\((.*)\)", text)
    )
    versions = set(re.findall(r"version `(\w+)' not found \(required by (.*)\)", text))
    return status, "Inconsistency detected" in text, files, undefined, versions


@settings(max_examples=examples(12, 1_000), suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(worlds())
def test_what_is_loaded_and_what_is_missing_is_what_the_real_loader_says(world: World) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        for name in DIRECTORIES:
            (root / name).mkdir()
        for name in LIBRARIES:
            for (directory, file), content in world.files.items():
                if file == name:
                    link(root / directory / name, content, world, root)
        main = root / "main"
        link(main, world.program, world, root)
        searched = [root / name for name in world.library_path]
        status, gave_up, files, undefined, versions = by_ld_so(main, ":".join(map(str, searched)))

        plan = plan_loading(main, library_path=searched)
        binding = Binding(plan)
        found = {(name, str(item.path)) for name, item in plan.by_name.items() if name in LIBRARIES}
        missing_versions = {
            (item.name, str(library.path))
            for library in plan.libraries
            for need in library.elf.version_needs
            for item in need.versions
            if lacks_version(plan.named(need.library), item.name)
        }
        unresolved = {
            (symbol.name, str(library.path))
            for library in plan.libraries
            for symbol in library.elf.undefined
            if not symbol.is_weak
            and symbol.name in SYMBOLS
            and binding.definer(symbol) is None
            and symbol.number in library.elf.references.at_start | library.elf.references.when_called
        }
        starts = not plan.missing and not missing_versions and not unresolved
        assert starts == (status == 0)
        if gave_up:  # it says no more when it finds an inconsistency
            return
        assert found | {(item.name, "not found") for item in plan.missing} == files
        if not plan.missing:  # where a library is missing, it may look no further
            assert missing_versions == versions
            assert unresolved == undefined
