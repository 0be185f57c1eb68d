"""A CANN install for machines that have none: the directories and files of a real one around a tiny adapter library.

The adapter is compiled from examples/sample/adapter; each of its releases needs one symbol more than that before it.
What the first two need is known to this project (known_adapters.json); the third is one that nobody has told it of.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.documents import read_document
from npu_serving.errors import RequestError
from npu_serving.facts import ADAPTER_SONAME, LIBPYTHON
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.sample.sample_settings import PYTHON, STAMP
from npu_serving.writers.shell import shell_word

ADAPTER_SOURCES = SAMPLE_DIRECTORY / "adapter"
TENSORFLOW_HEADERS = SAMPLE_DIRECTORY / "archives" / "org_tensorflow"
FIRST_RELEASE = "6.3.RC2"
NEXT_RELEASE = "7.0.RC1"
UNKNOWN_RELEASE = "7.0.0"

GE_RUNNER = "libge_runner.so"
OPERATOR_LIST = Path("opp", "built-in", "framework", "tensorflow", "npu_supported_ops.json")
FRAMEWORK_STUBS = ("libtensorflow_framework.so.1", "_pywrap_tensorflow_internal.so")

CXX_FLAGS = ("-std=c++14", "-O2", "-Wall", "-D_GLIBCXX_USE_CXX11_ABI=0", "-ffp-contract=off")
COMPONENTS = ("runtime", "compiler", "hccl", "opp", "toolkit", "aoe")


@dataclass(frozen=True)
class Release:
    """One CANN release of the sample."""

    inner: str
    component: str
    traces: bool
    checks_numbers: bool
    version: str = ""
    """The key under which it stands."""


@dataclass(frozen=True)
class _ReleaseList:
    """releases.json."""

    note: str
    releases: Mapping[str, Release]


def releases() -> dict[str, Release]:
    """The releases there are, by version."""
    rows = read_document(ADAPTER_SOURCES / "releases.json", _ReleaseList).releases
    return {version: dataclasses.replace(release, version=version) for version, release in rows.items()}


def install_sample_cann(
    root: Path, versions: Sequence[str] = (FIRST_RELEASE,), latest: str = FIRST_RELEASE, compiler: str = "g++"
) -> Path:
    """Installs those releases side by side below `root`/Ascend and points `latest` to one; returns `root`/Ascend.

    What is installed already, from the same sources, is kept. Raises RequestError for a release that does not
    exist, MissingToolError without the compiler.
    """
    known = releases()
    for version in (*versions, latest):
        if version not in known:
            raise RequestError(
                f"The sample has no CANN {version}.",
                cure=f"choose one of {', '.join(known)} (examples/sample/adapter)",
            )
    if latest not in versions:
        raise RequestError(
            f"CANN {latest} can't be the latest release: only {', '.join(versions)} would be installed.",
            cure=f"choose one of {', '.join(versions)} as the latest",
        )
    ascend = root / "Ascend"
    for version in versions:
        _install_release(ascend, known[version], compiler)
    _point_latest(ascend, latest)
    return ascend


def upgrade_sample_cann(root: Path, version: str = NEXT_RELEASE, compiler: str = "g++") -> Path:
    """Installs a release beside those that are there, and makes it the latest; returns `root`/Ascend."""
    return install_sample_cann(root, (version,), version, compiler)


def build_sample_libpython(root: Path, compiler: str = "gcc") -> Path:
    """Makes `root`/python3.7.5/lib/libpython3.7m.so.1.0, and the name without a version beside it; returns its path."""
    path = root / PYTHON / "lib" / LIBPYTHON
    with tempfile.TemporaryDirectory() as scratch:
        _compile_libpython(Path(scratch), compiler)
        fsutil.copy_file(Path(scratch) / LIBPYTHON, path, mode=0o755)
    fsutil.point_link(path.with_name(LIBPYTHON.partition(".so")[0] + ".so"), LIBPYTHON)
    return path


def build_framework_stubs(directory: Path, compiler: str = "gcc") -> tuple[Path, ...]:
    """Makes the empty libraries that the adapter names and that the server replaces; returns their paths."""
    fsutil.make_directory(directory)
    for name in FRAMEWORK_STUBS:
        _shared_library(directory / name, ADAPTER_SOURCES / "empty.c", compiler)
    return tuple(directory / name for name in FRAMEWORK_STUBS)


def _install_release(ascend: Path, release: Release, compiler: str) -> None:
    plugin, toolkit = ascend / "tfplugin" / release.version, ascend / "ascend-toolkit" / release.version
    inputs = _digest_of_inputs(release, compiler, ascend)
    for directory, fill in ((toolkit, _fill_toolkit), (plugin, _fill_plugin)):
        stamp = directory / STAMP
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs:
            continue
        with fsutil.new_directory(directory) as temporary:
            fill(temporary, directory, release, compiler)
            fsutil.write_file(temporary / STAMP, inputs)


def _digest_of_inputs(release: Release, compiler: str, ascend: Path) -> str:
    digest = hashlib.sha256(f"{release}\n{compiler}\n{ascend}\n{CXX_FLAGS}\n".encode())
    for path in sorted([*ADAPTER_SOURCES.iterdir(), *TENSORFLOW_HEADERS.rglob("*.h"), Path(__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _fill_toolkit(directory: Path, final: Path, release: Release, compiler: str) -> None:
    target = f"{platform.machine()}-linux"
    libraries = fsutil.make_directory(directory / target / "lib64")
    _compile_ge_runner(libraries, compiler)
    fsutil.point_link(directory / "lib64", f"{target}/lib64")
    info = _install_info("Ascend-cann-toolkit", release, final / target)
    fsutil.write_file(directory / target / "ascend_toolkit_install.info", info)
    fsutil.write_file(directory / "version.cfg", _version_cfg(release))
    fsutil.copy_file(ADAPTER_SOURCES / OPERATOR_LIST.name, directory / OPERATOR_LIST)
    for component in COMPONENTS:
        fsutil.write_file(directory / component / "version.info", _version_info(component, release))


def _fill_plugin(directory: Path, final: Path, release: Release, compiler: str) -> None:
    bridge = fsutil.make_directory(directory / "python" / "site-packages" / "npu_bridge")
    fsutil.write_file(bridge / "__init__.py", '"""The sample\'s npu_bridge: there is nothing to import in it."""\n')
    _compile_adapter(bridge, release, compiler)
    fsutil.write_file(directory / "ascend_tfplugin_install.info", _install_info("Ascend-cann-tfplugin", release, final))
    fsutil.write_file(directory / "version.info", _version_info("tfplugin", release))


def _point_latest(ascend: Path, version: str) -> None:
    toolkit, plugin = ascend / "ascend-toolkit", ascend / "tfplugin"
    home = shell_word(toolkit / "latest")
    site_packages = shell_word(plugin / "latest" / "python" / "site-packages")
    fsutil.write_file(
        toolkit / "set_env.sh",
        f"export ASCEND_TOOLKIT_HOME={home}\n"
        "export LD_LIBRARY_PATH=${ASCEND_TOOLKIT_HOME}/lib64:${LD_LIBRARY_PATH}\n"
        "export PATH=${ASCEND_TOOLKIT_HOME}/bin:${PATH}\n"
        "export ASCEND_AICPU_PATH=${ASCEND_TOOLKIT_HOME}\n"
        "export ASCEND_OPP_PATH=${ASCEND_TOOLKIT_HOME}/opp\n"
        "export TOOLCHAIN_HOME=${ASCEND_TOOLKIT_HOME}/toolkit\n"
        "export ASCEND_HOME_PATH=${ASCEND_TOOLKIT_HOME}\n",
    )
    fsutil.write_file(plugin / "set_env.sh", f"export PYTHONPATH={site_packages}:${{PYTHONPATH}}\n")
    fsutil.point_link(toolkit / "latest", version)
    fsutil.point_link(plugin / "latest", version)


def _install_info(package: str, release: Release, path: Path) -> str:
    return (
        f"package_name={package}\n"
        f"version={release.version}\n"
        f"innerversion={release.inner}\n"
        f"compatible_version=[{release.inner[:11]}]\n"
        f"arch={platform.machine()}\n"
        "os=linux\n"
        f"path={path}\n"
    )


def _version_info(component: str, release: Release) -> str:
    return f"Version={release.component}\nversion_dir={release.version}\n{component}_version=1.0\n"


def _version_cfg(release: Release) -> str:
    lines = ["# version: 1.0"]
    for state in ("running", "upgrade", "installed"):
        lines += [f"{part}_{state}_version=[{release.component}:{release.version}]" for part in COMPONENTS]
    return "\n".join(lines) + "\n"


def _compile_adapter(directory: Path, release: Release, compiler: str) -> None:
    """Links _tf_adapter.so against stand-ins, which leave it with the names of the real ones and no path to them."""
    with tempfile.TemporaryDirectory() as scratch:
        stand_ins = Path(scratch)
        build_framework_stubs(stand_ins, compiler)
        _compile_libpython(stand_ins, compiler)
        _compile_ge_runner(stand_ins, compiler)
        _shared_library(
            directory / ADAPTER_SONAME,
            ADAPTER_SOURCES / "npu_optimizer.cc",
            compiler,
            *CXX_FLAGS,
            f'-DSAMPLE_CANN_VERSION="{release.version}"',
            f"-DSAMPLE_TRACES={int(release.traces)}",
            f"-DSAMPLE_CHECKS_NUMBERS={int(release.checks_numbers)}",
            f"-I{TENSORFLOW_HEADERS}",
            f"-ffile-prefix-map={SAMPLE_DIRECTORY}=sample",
            "-Wl,--allow-shlib-undefined",
            "-Wl,-z,now",  # a missing symbol shows at the start, not with the first prediction
            "-Wl,--no-as-needed",
            f"-L{stand_ins}",
            *(f"-l:{name}" for name in (*FRAMEWORK_STUBS, LIBPYTHON, GE_RUNNER)),
        )


def _compile_ge_runner(directory: Path, compiler: str) -> None:
    _shared_library(directory / GE_RUNNER, ADAPTER_SOURCES / "ge_runner.cc", compiler, *CXX_FLAGS)


def _compile_libpython(directory: Path, compiler: str) -> None:
    _shared_library(directory / LIBPYTHON, ADAPTER_SOURCES / "libpython.c", compiler)


def _shared_library(path: Path, source: Path, compiler: str, *flags: str) -> None:
    """Compiles a shared library whose soname is its file name. Libraries among the flags come after the source."""
    language = "-xc" if source.suffix == ".c" else "-xc++"  # g++ takes .c for C++ otherwise
    process.run(
        [compiler, "-shared", "-fPIC", f"-Wl,-soname,{path.name}", "-o", path, language, source, "-xnone", *flags],
        cure="correct what the compiler's message above says; use g++ 8 or later",
    )
