"""An upgrade on aarch64 as far as a machine of another kind shows it: the sample made by the cross toolchain, linked
by the words of the saved link, read by the same code, and started by QEMU.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from states import adapter_of

from npu_serving.building.pipeline import BuildResult
from npu_serving.building.saved_links import links_directory
from npu_serving.elf.compat import check_server, undefined_needs
from npu_serving.elf.loader import Host
from npu_serving.elf.processor import processor_of
from npu_serving.elf.report import CompatReport
from npu_serving.elf.subject import ServerCase
from npu_serving.elf.symbols import read_elf
from npu_serving.facts import ADAPTER_SONAME, LIBPYTHON
from npu_serving.linking.link_command import parameter_file
from npu_serving.linking.linkers import BFD, GOLD, LLD
from npu_serving.linking.saved_link import SavedLink, read_saved_link
from npu_serving.resources import usable_processors
from npu_serving.sample.cann import (
    FIRST_RELEASE,
    NEXT_RELEASE,
    build_framework_stubs,
    build_sample_libpython,
    install_sample_cann,
)
from npu_serving.settings import Settings
from npu_serving.writers.linker_script import extern_script

MACHINE = "aarch64"
CROSS = "aarch64-linux-gnu-"
SYSTEM = Path("/usr/aarch64-linux-gnu")
QEMU = "qemu-aarch64-static"
TOOLS = (f"{CROSS}g++", f"{CROSS}ld.gold", "ld.lld", QEMU)
FLAGS = ("-O0", "-g0", "-w", "-std=c++14", "-D_GLIBCXX_USE_CXX11_ABI=0", "-ffunction-sections", "-fdata-sections")
INCLUDED = ("-include", "limits", "-include", "cstdint", "-include", "string", "-fno-canonical-system-headers")
SCRIPT, EXPORTS = "third_party/tf_adapter/needed_symbols.lds", "--dynamic-list="

pytestmark = [
    pytest.mark.bazel,
    pytest.mark.skipif(platform.machine() == MACHINE, reason="it is this machine"),
    pytest.mark.skipif(
        any(shutil.which(tool) is None for tool in TOOLS),
        reason=f"needs {', '.join(TOOLS)} (apt-get install g++-aarch64-linux-gnu lld qemu-user-static)",
    ),
]


@dataclass(frozen=True)
class Arm:
    """The saved link, and a directory like its execroot with everything that it reads, for aarch64."""

    root: Path
    saved: SavedLink
    ascend: Path
    stubs: tuple[Path, ...]
    libpython: Path

    def adapter(self, version: str) -> Path:
        """The adapter of that release."""
        return next((self.ascend / "tfplugin" / version).rglob(ADAPTER_SONAME))

    def toolkit(self, version: str) -> Path:
        """Where its libraries of CANN are."""
        return self.ascend / "ascend-toolkit" / version / "lib64"


@pytest.fixture(scope="module")
def arm(built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Arm:
    newest = max(links_directory(sample_settings).glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    saved = read_saved_link(newest)
    assert saved is not None and built.build.server.exists()
    root = tmp_path_factory.mktemp("aarch64")
    objects = [line for line in saved.parameters if line.endswith(".o")]
    with ThreadPoolExecutor(usable_processors()) as pool:
        list(pool.map(lambda name: compile_again(Path(saved.directory), name, root / name), objects))
    ascend = install_sample_cann(root, (FIRST_RELEASE, NEXT_RELEASE), FIRST_RELEASE, f"{CROSS}g++")
    stubs = build_framework_stubs(root / "stubs", f"{CROSS}gcc")
    made = Arm(root, saved, ascend, stubs, build_sample_libpython(root, f"{CROSS}gcc"))
    sources = {
        "lib_tf_adapter.so": made.adapter(FIRST_RELEASE),
        "libtensorflow_framework.so": stubs[0],
        "lib_pywrap_tensorflow_internal.so": stubs[1],
        f"{LIBPYTHON.partition('.so')[0]}.so": made.libpython,
    }
    for name in saved.replaced:  # the libraries, as -L and -l find them; and the texts for the linker
        source = next((path for end, path in sources.items() if name.endswith(f"/{end}")), Path(saved.directory, name))
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, root / name)
    return made


def compile_again(execroot: Path, name: str, target: Path) -> None:
    """Compiles what Bazel made `name` of, by the list of files that it was made of, which the compiler wrote."""
    dependencies = execroot / Path(name).with_suffix(".d")
    if dependencies.exists():
        source = dependencies.read_text().replace("\\\n", " ").split(": ", 1)[1].split()[0]
    else:
        source = f"{name.partition('/_objs/')[2].partition('/')[2][:-2]}.cc"  # the stamp of the link
    packages = [".", *(f"external/{path.name}" for path in sorted((execroot / "external").iterdir()))]
    generated = [f"{name.partition('/bin/')[0]}/genfiles", f"{name.partition('/bin/')[0]}/bin"]
    searched = [*packages, *generated, *(f"{path}/{each}" for path in generated for each in packages if each != ".")]
    within = [f"{package}/{each}" for package in packages for each in ("include", "src")]
    stamps = [f"{name.partition('/')[0]}/k8-opt/include/build-info-{kind}volatile.h" for kind in ("non", "")]
    stamped = [] if dependencies.exists() else [word for file in stamps for word in ("-include", file)]
    defined = [] if dependencies.exists() else ['-DG3_BUILD_TARGET="server"', '-DGPLATFORM="local"', "-I."]
    defined += [] if dependencies.exists() else ['-DG3_TARGET_NAME="server"', "-DBUILD_COVERAGE_ENABLED=0"]
    target.parent.mkdir(parents=True, exist_ok=True)
    words = [f"{CROSS}g++", *FLAGS, *INCLUDED, *defined, *stamped]
    words += [word for path in searched for word in ("-iquote", path)]
    words += [word for path in within for word in ("-isystem", path) if (execroot / path).is_dir()]
    run_here([*words, "-c", source, "-o", str(target)], execroot)


def run_here(words: list[str], directory: Path) -> str:
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def command_for(arm: Arm, linker: str, output: Path) -> list[str]:
    """The words of the saved link for the cross compiler; the parameter file is written, for bfd with archives."""
    beside = {LLD: [f"-B{Path(shutil.which('ld.lld') or '').parent}"]}.get(linker, [])
    words = [word for word in arm.saved.command[1:] if not word.startswith(("-B", "-fuse-ld="))]
    words[words.index("-o") + 1] = str(output)
    name = parameter_file(arm.saved.command)
    (arm.root / name).parent.mkdir(parents=True, exist_ok=True)
    lines = list(arm.saved.parameters) if linker != BFD else list(as_archives(arm))
    (arm.root / name).write_text("".join(f"{line}\n" for line in lines))
    return [f"{CROSS}gcc", f"-fuse-ld={linker}", *beside, *words]


def as_archives(arm: Arm) -> list[str]:
    """bfd knows no --start-lib: each group is an archive."""
    lines: list[str] = []
    group: list[str] | None = None
    for line in arm.saved.parameters:
        if line == "--start-lib":
            group = []
        elif line == "--end-lib" and group is not None:
            archive = f"group{len(lines)}.a"
            run_here([f"{CROSS}ar", "rcsD", archive, *group], arm.root)
            lines, group = [*lines, archive], None
        else:
            (lines if group is None else group).append(line)
    return lines


def link(arm: Arm, linker: str, place: Path, *, fits: tuple[str, ...]) -> Path:
    """A build of the server for the first release, with what the adapters of `fits` need asked for and exported."""
    needs = sorted({name for version in fits for name in undefined_needs(read_elf(arm.adapter(version)))})
    (arm.root / SCRIPT).write_text(extern_script(needs, "what the adapters need"))
    exports = arm.root / "exports.list"
    exports.write_text("{\n" + "".join(f'"{name}";\n' for name in needs) + "};\n")
    server = place / "bin" / "server"
    server.parent.mkdir(parents=True)
    words = [word for word in command_for(arm, linker, server) if not word.startswith(f"-Wl,{EXPORTS}")]
    # By its place here: then what verifies finds the loader, and QEMU does.
    loader = f"-Wl,-dynamic-linker,{SYSTEM / 'lib/ld-linux-aarch64.so.1'}"
    run_here([*words, f"-Wl,{EXPORTS}{exports}", loader], arm.root)
    (place / "lib").mkdir()
    for library in (*arm.stubs, arm.libpython, arm.adapter(FIRST_RELEASE)):
        shutil.copyfile(library, place / "lib" / library.name)
    return server


def swap(arm: Arm, server: Path, version: str) -> None:
    shutil.copyfile(arm.adapter(version), server.parent.parent / "lib" / ADAPTER_SONAME)


def started(arm: Arm, server: Path, version: str) -> subprocess.CompletedProcess[str]:
    """What the server says of itself, on an aarch64 that QEMU plays, with every symbol looked up at the start."""
    given = ["-E", f"LD_LIBRARY_PATH={arm.toolkit(version)}", "-E", "LD_BIND_NOW=1"]
    words = [QEMU, "-L", str(SYSTEM), *given, str(server), "--version"]
    return subprocess.run(words, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]})


def verified(
    arm: Arm, server: Path, version: str, monkeypatch: pytest.MonkeyPatch, adapter: Path | None = None
) -> CompatReport:
    """What verify-serving would find on an aarch64 machine."""
    monkeypatch.setattr("platform.machine", lambda: MACHINE)
    host = Host(None, (SYSTEM / "lib",), processor_of("", MACHINE, 4096))
    return check_server(ServerCase(server, adapter, library_path=[arm.toolkit(version)], host=host))


@pytest.mark.parametrize("linker", [GOLD, BFD, LLD])
def test_one_server_for_aarch64_verifies_and_starts_with_two_releases_by_each_linker(
    arm: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linker: str
) -> None:
    server = link(arm, linker, tmp_path, fits=(FIRST_RELEASE, NEXT_RELEASE))
    elf = read_elf(server)
    assert (elf.machine, ADAPTER_SONAME in elf.needed) == (MACHINE, True)
    for version in (FIRST_RELEASE, NEXT_RELEASE):
        swap(arm, server, version)
        done = started(arm, server, version)
        assert done.returncode == 0 and "TensorFlow ModelServer" in done.stdout, done.stderr
        with monkeypatch.context() as patch:
            assert verified(arm, server, version, patch).findings == ()


def test_what_a_server_for_aarch64_lacks_is_named_as_its_own_loader_does(
    arm: Arm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = link(arm, LLD, tmp_path, fits=(FIRST_RELEASE,))
    assert started(arm, server, FIRST_RELEASE).returncode == 0
    report = verified(arm, server, NEXT_RELEASE, monkeypatch, arm.adapter(NEXT_RELEASE))
    needs = undefined_needs(read_elf(arm.adapter(NEXT_RELEASE)))
    named = {symbol for finding in report.findings for symbol in needs if symbol in str(finding)}
    swap(arm, server, NEXT_RELEASE)
    done = started(arm, server, NEXT_RELEASE)
    assert done.returncode == 127 and len(named) == 1
    assert f"undefined symbol: {named.pop()}" in done.stderr


def test_an_adapter_for_aarch64_needs_what_the_one_of_the_same_source_needs_here(
    arm: Arm, sample_settings: Settings
) -> None:
    here = undefined_needs(read_elf(adapter_of(sample_settings)))
    assert undefined_needs(read_elf(arm.adapter(FIRST_RELEASE))) == here
