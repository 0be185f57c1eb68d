"""The compile caches of a deployment: whether its server uses any, where they are, what is in them.

The operators' cache is the process's, on unless op_compiler_cache_mode says otherwise; whole graphs are kept only where
graph_compiler_cache_dir names a directory, for each model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import amount_text
from npu_serving.deploy.deployed_presets import options_of
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.errors import RequestError
from npu_serving.options.auxiliary_files import WRITTEN_FILES
from npu_serving.options.session_options import OptionValue
from npu_serving.writers.shell import command_line

MODE, OPERATORS, GRAPHS = "op_compiler_cache_mode", "op_compiler_cache_dir", "graph_compiler_cache_dir"
_DEBUGGING = ("op_debug_level", "op_debug_config")
"""Options with which the operators' cache is not used."""
_BY_VARIABLE, _BY_DEFAULT = "ASCEND_CACHE_PATH", "atc_data"


@dataclass(frozen=True)
class CacheContent:
    """What is in a directory."""

    files: int = 0
    size_bytes: int = 0

    def text(self) -> str:
        """Such as `12 files, 3.4 MB`."""
        if not self.files:
            return "nothing"
        return f"{self.files} {'file' if self.files == 1 else 'files'}, {amount_text(self.size_bytes, 'bytes')}"

    def to_json(self) -> dict[str, int]:
        """Both numbers."""
        return {"files": self.files, "bytes": self.size_bytes}


@dataclass(frozen=True)
class CompileCache:
    """A cache: the option that says where it is ("" for CANN's own place), and whether its path has the release."""

    option: str
    directory: Path
    is_keyed: bool
    before: CacheContent
    after: CacheContent | None = None

    def to_json(self) -> dict[str, object]:
        """Where it is, and what is in it."""
        return {
            "option": self.option,
            "directory": str(self.directory),
            "keyed_by_release": self.is_keyed,
            "before": self.before.to_json(),
            "after": self.after.to_json() if self.after is not None else None,
        }

    def text(self, release: str) -> str:
        """What is in it, was in it, and for which release."""
        now = self.before.text() if self.after is None else f"{self.after.text()} (before: {self.before.text()})"
        said = f"{self.option or 'operators'} {self.directory}: {now}."
        if self.is_keyed:
            return f"{said} It is for CANN {release} alone."
        cure = command_line(["--set", "presets=[compile-cache]"])
        return (
            f"{said} Each release of CANN uses this directory, and what another one has compiled may do harm: "
            f"the preset compile-cache keeps one for each ({cure})."
        )


def check_cache_is_used(deployment: DeploymentFile) -> None:
    """RequestError where a server of the deployment would keep nothing that it compiles."""
    of_models = list(_options(deployment))
    if not of_models:
        raise RequestError(
            "No model of the deployment is meant for the NPU, so nothing is compiled.",
            cause="it has neither npu options nor presets",
            cure="write npu: {} into the deployment for the defaults, or add a preset such as compile-cache",
        )
    options = of_models[0]
    mode = str(options.get(MODE, "enable"))
    if mode == "force":
        raise RequestError(
            f"{MODE} is force, so each start of the server empties the cache before it uses it.",
            cause="force is for a single start, after the compiler or its libraries have changed",
            cure=f"set it back to enable, here with --set npu.{MODE}=enable",
        )
    if any(own.get(GRAPHS) for own in of_models):
        return
    if mode != "enable":
        where = next((name for name in deployment.presets if MODE in options_of((name,))), "")
        raise RequestError(
            f"The deployment uses no compile cache: {MODE} is {mode}.",
            cause=f"the preset {where} sets it"
            if where and MODE not in (deployment.npu or {})
            else "it says so itself",
            cure=f"set it to enable, here with --set npu.{MODE}=enable, or use the preset compile-cache in its place",
        )
    debugging = _debugging(options)
    if debugging:
        raise RequestError(
            f"The compile cache is not used while {debugging} is set.",
            cause="CANN compiles every operator again then, to debug it",
            cure=f"take {debugging} out of the deployment",
        )


def compile_caches(deployment: DeploymentFile, env: Mapping[str, str], release: str) -> tuple[CompileCache, ...]:
    """The caches of a server with that environment, as they are now.

    RequestError where graph_compiler_cache_dir names a directory that does not exist: the graph engine wants it there.
    """
    of_models = list(_options(deployment))
    found: dict[Path, str] = {}
    options = of_models[0]
    if str(options.get(MODE, "enable")) == "enable" and not _debugging(options):
        named = str(options.get(OPERATORS, ""))
        found[Path(named) if named else _own_place(env)] = OPERATORS if named else ""
    for own in of_models:
        if own.get(GRAPHS):
            directory = Path(str(own[GRAPHS]))
            if not directory.is_dir():
                raise RequestError(
                    f"{GRAPHS} is {directory}, and there is no such directory.",
                    cause="the graph engine does not make it",
                    cure=command_line(["mkdir", "-p", directory]),
                )
            found[directory] = GRAPHS
    return tuple(
        CompileCache(option, directory, any(release in part for part in directory.parts), content_of(directory))
        for directory, option in found.items()
    )


def content_of(directory: Path) -> CacheContent:
    """What was compiled and is below a directory now; nothing where there is none. The file with limits is not that."""
    files = size_bytes = 0
    for top, _, names in fsutil.walk(directory) if directory.is_dir() else ():
        for name in names:
            if name == WRITTEN_FILES[OPERATORS].name:
                continue
            try:
                size_bytes += (Path(top) / name).lstat().st_size
                files += 1
            except OSError:  # removed meanwhile
                continue
    return CacheContent(files, size_bytes)


def _options(deployment: DeploymentFile) -> Iterator[Mapping[str, OptionValue]]:
    """The session options of each model on the NPU."""
    for model in deployment.models:
        own = deployment.npu_of(model)
        if own is not None:
            yield own


def _debugging(options: Mapping[str, OptionValue]) -> str:
    """The option for which the operators' cache is not used; "" where there is none."""
    return next((name for name in _DEBUGGING if str(options.get(name, 0)) not in ("0", "")), "")


def _own_place(env: Mapping[str, str]) -> Path:
    """Where CANN keeps compiled operators by itself: below ASCEND_CACHE_PATH (9.0), else $HOME/atc_data."""
    if env.get(_BY_VARIABLE):
        return Path(env[_BY_VARIABLE]) / "kernel_cache"
    return Path(env.get("HOME", "/root")) / _BY_DEFAULT
