"""Finds the CANN that is installed here, and the adapter to build with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.cann.layout import (
    ADAPTER,
    DRIVER_LIBRARIES,
    RUNTIME_LIBRARIES,
    Component,
    Found,
    adapter_in,
    examine,
    is_directory,
    root_of,
    version_around,
)
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import AdapterError, ElfError, FileAccessError, MissingToolError, RequestError

SYSTEM_ROOT = Path("/usr/local/Ascend")
# What set_env.sh of toolkit and nnae exports; ASCEND_OPP_PATH is the directory opp of the same component.
_HOME_VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "ASCEND_AICPU_PATH")
_OPP_VARIABLE = "ASCEND_OPP_PATH"
_PLUGIN_VARIABLE = "TFPLUGIN_INSTALL_PATH"  # the name that CANN's documentation uses
_SITE_PACKAGES = (
    "python3.7*/lib/python3.7/site-packages",
    "lib/python3.7/site-packages",
    "lib/python3.7/dist-packages",
)


@dataclass(frozen=True)
class CannInstallation:
    """What of CANN is installed: the directory that holds it, its version ("" if it tells none), its components.

    `library_directories` are those that the set_env.sh scripts, and the guide's 6.4 for the adapter, put into
    LD_LIBRARY_PATH, as far as they exist, in that order. `problems` are sentences for a person.
    """

    root: Path
    version: str
    toolkit: Component | None
    nnae: Component | None
    tfplugin: Component | None
    adapter: Path | None
    library_directories: tuple[Path, ...]
    problems: tuple[str, ...]

    @property
    def components(self) -> tuple[Component, ...]:
        """Those that are there."""
        return tuple(item for item in (self.toolkit, self.nnae, self.tfplugin) if item is not None)

    def to_json(self) -> dict[str, object]:
        """The installation as `--json` shows it."""
        return {
            "root": str(self.root),
            "version": self.version,
            "components": [component.to_json() for component in self.components],
            "adapter": str(self.adapter) if self.adapter is not None else None,
            "library_directories": [str(path) for path in self.library_directories],
            "problems": list(self.problems),
        }

    def text(self) -> str:
        """A line for each component, then the problems."""
        lines = [f"CANN {self.version or 'of unknown version'} in {self.root}"]
        lines += [f"  {item.name} {item.version or '(version unknown)'}: {item.path}" for item in self.components]
        lines.append(f"  adapter: {self.adapter if self.adapter is not None else 'none'}")
        return "\n".join([*lines, *(f"  problem: {problem}" for problem in self.problems)])


@dataclass(frozen=True)
class Adapter:
    """The adapter library to build with; `cann_version` is "" where nothing around the file tells it."""

    path: Path
    sha256: str
    cann_version: str
    machine: str

    def describe(self) -> dict[str, str]:
        """What a build's manifest keeps of it."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "cann_version": self.cann_version,
            "machine": self.machine,
        }


def find_installation(root: str = "", environ: Mapping[str, str] | None = None) -> CannInstallation | None:
    """The CANN below `root`, or, where that is empty, the one that the environment or the usual places lead to.

    The environment (what a sourced set_env.sh leaves) comes first, then the user's own ~/Ascend, which is root's
    /usr/local/Ascend, then the other of the two; each component is taken from the first place that has it.
    None where no place has any. Raises RequestError for a `root` that isn't there or holds nothing of CANN.
    """
    environment = os.environ if environ is None else environ
    if root:
        return _explicit(Path(_expanded(root, environment)))
    found = [(place, examine(place)) for place in _places(environment)]
    return _installation(found, _loose_adapters(environment))


def find_adapter(setting: str, cann_root: str) -> Adapter:
    """The adapter that `setting` names: the path of a _tf_adapter.so, or "auto" for that of the CANN installed here.

    Raises AdapterError when it is missing, unreadable, no shared library, or for another machine than this one, and
    MissingToolError when "auto" finds none.
    """
    if setting != "auto":
        return _adapter_at(Path(_expanded(setting, os.environ)), "")
    installation = find_installation(cann_root)
    if installation is None or installation.adapter is None:
        places = [Path(cann_root)] if cann_root else _places(os.environ)
        raise MissingToolError(
            "No CANN installation here has an adapter (_tf_adapter.so).",
            cause=" ".join(installation.problems)
            if installation is not None and installation.problems
            else f"no tfplugin in {', '.join(map(str, places))}",
            cure="install Ascend-cann-tfplugin, name the directory that holds tfplugin/ with cann_root, "
            "or give --adapter PATH",
        )
    return _adapter_at(installation.adapter, installation.tfplugin.version if installation.tfplugin else "")


def _explicit(root: Path) -> CannInstallation:
    if not is_directory(root):
        raise RequestError(
            f"{root} is not a directory that can be read, so no CANN is there.",
            cure="set cann_root to the directory that holds tfplugin/ and ascend-toolkit/",
        )
    # The path of a component is understood as well: …/Ascend/ascend-toolkit/latest.
    places = [(place, examine(place)) for place in (root_of(root), root)]
    installation = _installation([max(places, key=lambda item: len(item[1].components))], ())
    if installation is None:
        raise RequestError(
            f"{root} holds nothing of CANN.",
            cause=" ".join(places[-1][1].problems) or "there is no ascend-toolkit, nnae or tfplugin in it",
            cure="set cann_root to the directory that holds tfplugin/ and ascend-toolkit/",
        )
    return installation


def _places(environ: Mapping[str, str]) -> list[Path]:
    """The directories that may hold a CANN, the most telling first."""
    named = [environ.get(name, "") for name in (*_HOME_VARIABLES, _PLUGIN_VARIABLE)]
    named += [str(Path(environ[_OPP_VARIABLE]).parent)] if environ.get(_OPP_VARIABLE) else []
    named += [entry for entry in environ.get("PYTHONPATH", "").split(":") if "tfplugin" in Path(entry).parts]
    usual = [Path(environ["HOME"], "Ascend")] if environ.get("HOME") else []
    usual = [SYSTEM_ROOT, *usual] if os.geteuid() == 0 else [*usual, SYSTEM_ROOT]
    roots = [root_of(Path(text)) for text in named if text.startswith("/") and "\0" not in text]
    return list(dict.fromkeys([*roots, *usual]))


def _loose_adapters(environ: Mapping[str, str]) -> list[Path]:
    """Adapters outside of a CANN directory: where npu_bridge was installed with pip."""
    directories = [environ.get(_PLUGIN_VARIABLE, ""), *environ.get("PYTHONPATH", "").split(":")]
    candidates = [Path(text) for text in directories if text.startswith("/") and "\0" not in text]
    prefixes = [Path("/usr/local"), *([Path(environ["HOME"], ".local")] if environ.get("HOME") else [])]
    for prefix in prefixes:
        if is_directory(prefix):
            candidates += [path for pattern in _SITE_PACKAGES for path in sorted(prefix.glob(pattern))]
    return [path / ADAPTER for path in candidates if os.path.lexists(path / ADAPTER)]


def _installation(found: Iterable[tuple[Path, Found]], loose: Iterable[Path]) -> CannInstallation | None:
    components: dict[str, Component] = {}
    roots: dict[str, Path] = {}
    problems: list[str] = []
    for place, look in found:
        problems += look.problems
        for name, component in look.components.items():
            components.setdefault(name, component)
            roots.setdefault(name, place)
    driver = components.pop("driver", None)
    plugin, runtime = components.get("tfplugin"), components.get("toolkit") or components.get("nnae")
    adapter = adapter_in(plugin.path) if plugin is not None else next(iter(loose), None)
    if not components and adapter is None:
        return None
    leading = plugin or runtime
    root = roots[leading.name] if leading is not None else adapter.parent if adapter is not None else Path("/")
    return CannInstallation(
        root=root,
        version=next((item.version for item in (plugin, runtime) if item is not None and item.version), ""),
        toolkit=components.get("toolkit"),
        nnae=components.get("nnae"),
        tfplugin=plugin,
        adapter=adapter,
        library_directories=_library_directories(adapter, runtime, driver),
        problems=(*problems, *_contradictions(plugin, runtime, adapter)),
    )


def _contradictions(plugin: Component | None, runtime: Component | None, adapter: Path | None) -> list[str]:
    problems = []
    if plugin is not None and adapter is None:
        problems.append(f"{plugin.path} holds no {ADAPTER}.")
    versions = [(item.name, item.version) for item in (plugin, runtime) if item is not None and item.version]
    if len({version for _, version in versions}) > 1:
        problems.append(" and ".join(f"{name} is of CANN {version}" for name, version in versions) + ".")
    return problems


def _library_directories(adapter: Path | None, runtime: Component | None, driver: Component | None) -> tuple[Path, ...]:
    machine = platform.machine()
    candidates = [adapter.parent] if adapter is not None else []
    candidates += [runtime.path / name.format(machine=machine) for name in RUNTIME_LIBRARIES] if runtime else []
    candidates += [driver.path / name for name in DRIVER_LIBRARIES] if driver else []
    # Newer releases link lib64 to the one below the machine's name: one of the two is enough.
    return tuple({os.path.realpath(path): path for path in reversed(candidates) if is_directory(path)}.values())[::-1]


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    """The path, with ~ as the user's home (`environ` may be another's) and made absolute."""
    home = environ.get("HOME")
    if home and (text == "~" or text.startswith("~/")):
        text = home + text[1:]
    return os.path.abspath(text)


def _adapter_at(path: Path, cann_version: str) -> Adapter:
    if "\0" in str(path):
        raise AdapterError(
            f"The adapter's path {str(path)!r} holds a NUL byte.", cause="no path can", cure="check the path"
        )
    try:
        if path.is_dir():
            raise AdapterError(
                f"{path} is a directory, not an adapter.",
                cure=f"name the file in it: --adapter {path / '_tf_adapter.so'}",
            )
        if not path.exists():
            raise AdapterError(f"There is no adapter at {path}.", cure="check the path, or use --adapter auto")
        elf = read_elf(path)
        sha256 = fsutil.sha256_of(path)
    except (ElfError, FileAccessError) as error:
        raise AdapterError(error.what, cause=error.cause, cure="give --adapter the path of a _tf_adapter.so") from error
    except OSError as error:  # a closed directory, a name that is too long
        raise AdapterError(f"{path!s:.200} can't be looked at: {error}.", cure="check the path") from error
    if elf.type != "DYN":
        raise AdapterError(f"{path} is not a shared library.", cure="give --adapter the path of a _tf_adapter.so")
    if elf.machine != platform.machine():
        raise AdapterError(
            f"{path} is built for {elf.machine}; this machine is {platform.machine()}.",
            cause="it was taken from a CANN package for the other architecture",
            cure=f"install Ascend-cann-tfplugin_…_linux-{platform.machine()}.run and use its adapter",
        )
    return Adapter(path, sha256, cann_version or version_around(path), elf.machine)
