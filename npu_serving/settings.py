"""Settings: every knob of the project, typed and validated. Defaults < invoke.yaml < flags.

invoke.yaml keeps them under the key `npu_serving`; its other keys belong to invoke itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npu_serving import fsutil
from npu_serving.errors import RequestError, SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SECTION = "npu_serving"
SETTINGS_FILE = "NPU_SERVING_SETTINGS"  # names another invoke.yaml: one checkout, several deployments
INVOKE_SECTIONS = ("run", "runners", "sudo", "tasks", "timeouts")  # invoke's own configuration, not ours to judge
PATHS_OR_WORDS = ("source", "adapter", "install_link", "cann_root", "python_bin", "bazel", "disk_cache")
RUNNERS = ("auto", "host", "docker")
DISTRO, GUIDE_FLAVOUR = "distro", "guide"  # of the toolchain image
CHOICES = {"runner": RUNNERS, "docker_flavour": (DISTRO, GUIDE_FLAVOUR)}


@dataclass(frozen=True)
class Settings:
    """What a user may set. Relative paths in invoke.yaml are relative to the project, those of flags to the caller."""

    source: str = "1.15.0"
    """A version, the path of a serving tree or of its archive, or `sample`."""
    adapter: str = "auto"
    """The path of _tf_adapter.so, `auto` for the one of the CANN installed here, or `sample`."""
    runner: str = "auto"
    """Where Bazel runs: `host`, `docker`, or `auto` (Docker where its engine answers)."""
    build_root: Path = PROJECT_ROOT / "build"
    """Everything that can be made again: fetched archives, trees, Bazel's output, logs."""
    dist_root: Path = PROJECT_ROOT / "dist"
    """The finished builds, and `current`."""
    install_link: str = ""
    """Where the guide's link to the server goes, such as /usr/local/bin/tensorflow_model_server; empty for none."""
    cann_root: str = ""
    """The directory that holds tfplugin/ and ascend-toolkit/; empty to look in the usual places."""
    python_prefix: Path = Path("/usr/local/python3.7.5")
    """The Python 3.7.5 whose libpython3.7m.so the adapter needs (guide 6.3, step 3.2)."""
    python_bin: str = ""
    """The interpreter that TensorFlow's build scripts run with; empty for python_prefix's, else this project's."""
    bazel: str = ""
    """The bazel program; empty for a fitting one on PATH, else the pinned one is fetched."""
    docker_base_image: str = "ubuntu:18.04"
    """The image that the toolchain image is made from."""
    docker_flavour: str = DISTRO
    """What the toolchain image holds: `distro` (the distribution's own tools) or `guide` (those of the guide)."""
    apt_sources: tuple[str, ...] = ()
    """Where its packages come from, `URL SUITE COMPONENT...` each; empty for the sources that the base image names."""
    mirrors: tuple[str, ...] = ()
    """Mirrors that are tried first: a base URL, or `NEW=OLD` to replace the beginning of a URL."""
    offline: bool = False
    """Open no connection; take what the store has."""
    jobs: int = 0
    """How many actions Bazel runs at once; 0 for what the processors and the memory allow."""
    memory_mb: int = 0
    """The memory that Bazel may plan with, in MB; 0 for what is available."""
    disk_cache: str = ""
    """A directory in which Bazel keeps the results of actions; empty for none."""
    remote_cache: str = ""
    """http(s)://HOST[:PORT][/PATH] for Bazel's HTTP cache protocol, grpc(s)://HOST:PORT for REAPI; empty for none."""
    remote_executor: str = ""
    """grpc(s)://HOST:PORT of machines that run the actions; empty to run them here."""
    bazel_args: tuple[str, ...] = field(default=())
    """Further flags for `bazel build`, such as --copt=-march=native."""

    @property
    def store_root(self) -> Path:
        """The content store, in the layout of Bazel's repository cache."""
        return self.build_root / "store"

    @property
    def distdir(self) -> Path:
        """Hard links to the store under the names that Bazel looks for."""
        return self.build_root / "distdir"

    @property
    def logs(self) -> Path:
        """One file for each run of a program that says much."""
        return self.build_root / "logs"


def load_settings(path: Path | None = None, **flags: object) -> Settings:
    """The settings of invoke.yaml at `path` (the project's own by default) with the flags laid over them.

    A flag that is None, "", () or False was not given. Raises SettingsError for unknown keys, with the nearest known
    one, and for values of the wrong kind.
    """
    file = path if path is not None else Path(os.environ.get(SETTINGS_FILE) or PROJECT_ROOT / "invoke.yaml")
    from_file = _read_section(file)
    values = {
        key: _converted(key, value, f"{file}: {SECTION}.{key}", file.absolute().parent)
        for key, value in from_file.items()
    }
    for key, value in flags.items():
        if value not in (None, "", (), [], False):
            values[key] = _converted(key, value, f"--{key.replace('_', '-')}", Path.cwd())
    settings = dataclasses.replace(Settings(), **values)
    for key, choices in CHOICES.items():
        if getattr(settings, key) not in choices:
            raise SettingsError(f"{key} is {getattr(settings, key)!r}.", cure=f"use one of {', '.join(choices)}")
    return settings


def _read_section(file: Path) -> Mapping[str, object]:
    if not file.exists():
        return {}
    import yaml

    try:
        document = yaml.safe_load(fsutil.read_text(file))
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is not valid YAML: {error}", cure=f"correct {file}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise SettingsError(f"{file} is not a mapping of keys to values.", cure=f"correct {file}")
    for key in document:
        if key != SECTION and key not in INVOKE_SECTIONS:
            raise _unknown(str(key), f"{file}:", (SECTION, *INVOKE_SECTIONS))
    section = document.get(SECTION) or {}
    if not isinstance(section, dict):
        raise SettingsError(f"{file}: {SECTION} is not a mapping of keys to values.", cure=f"correct {file}")
    for key in section:
        if key not in _fields():
            raise _unknown(str(key), f"{file}: {SECTION}.", tuple(_fields()))
    return section


def _unknown(key: str, where: str, known: tuple[str, ...]) -> SettingsError:
    near = difflib.get_close_matches(key, known, n=1)
    return SettingsError(
        f"{where}{key} is not a setting of this project." if where.endswith(".") else f"{where} unknown key {key!r}.",
        cure=f"did you mean {near[0]!r}?" if near else f"the settings are: {', '.join(known)}",
    )


def user_path(text: str, where: str) -> Path:
    """A path as a person types it, its ~ filled in; RequestError for none and for a ~user that nobody is here."""
    if not text:
        raise RequestError(f"{where} is empty.", cause="a variable of the shell that is not set", cure="name a path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{where} is {text!r}: {error}", cure="write the whole path") from error


def _fields() -> dict[str, str]:
    return {item.name: str(item.type) for item in dataclasses.fields(Settings)}


def _converted(key: str, value: object, where: str, base: Path) -> Any:
    """The value as the field's type, or SettingsError."""
    kind = _fields()[key]
    if kind == "Path" and isinstance(value, (str, Path)) and str(value):
        return _without_nul(base / user_path(str(value), where), where)
    if kind == "str" and isinstance(value, (str, Path)):
        return _without_nul(_placed(key, str(value), base, where), where)
    if kind == "bool" and isinstance(value, bool):
        return value
    if kind == "int" and isinstance(value, (int, str)) and not isinstance(value, bool):
        text = str(value)
        if text.isdecimal() and text.isascii():
            return int(text)
        raise SettingsError(f"{where} is {text!r}.", cure="give a whole number, 0 or more")
    if kind.startswith("tuple") and isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    kinds = {"Path": "a path", "str": "a text", "bool": "true or false", "int": "a whole number"}
    raise SettingsError(f"{where} is {value!r}.", cure=f"give {kinds.get(kind, 'a list of texts')}")


def _placed(key: str, value: str, base: Path, where: str) -> str:
    """A setting that may be a path or a word: what looks like a path is made absolute."""
    if key not in PATHS_OR_WORDS or not value:
        return value
    is_path = "/" in value or value.startswith("~") or key not in ("source", "adapter")
    return str(base / user_path(value, where)) if is_path else value


def _without_nul(value: Any, where: str) -> Any:
    if "\0" in str(value):
        raise SettingsError(f"{where} holds a NUL byte, which no path or name can.", cure="give another value")
    return value
