"""The one table of settings (each field of Settings has its flag, help, kind and choices), and how to load them.

From the table come the tasks' flags and their help (commands/flags.py), the conversion of what was given, and the
reference that invoke.yaml is (settings_reference.py). A flag overrides invoke.yaml, which overrides the default.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Callable, Optional, TypeVar

from npu_serving.errors import RequestError, SettingsError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
SECTION = "npu_serving"  # our key in invoke.yaml; its other keys belong to invoke itself
SETTINGS_FILE = "NPU_SERVING_SETTINGS"  # names another invoke.yaml: one checkout, several deployments
INVOKE_SECTIONS = ("run", "runners", "sudo", "tasks", "timeouts")  # invoke's own configuration, which we don't check
RUNNERS = ("auto", "host", "docker")
DISTRO, GUIDE_FLAVOUR = "distro", "guide"  # of the toolchain image
WITHOUT_ADAPTER = "none"  # of the setting `adapter`
XLA_OF_ADAPTER, XLA_FULL = XLA = ("adapter", "full")  # how much of XLA the server gets
LINKERS = ("auto", "bfd", "gold", "lld")

# What a text may be besides a word.
PATH = "path"
PATH_OR_WORD = "path or word"  # it is a path where it has a slash, begins with ~, or ends like an adapter's file
_ENDS_OF_ADAPTERS = (".so", ".whl")

# Settings that some tasks offer together, as flags; a setting without a group is offered by those that name it.
FETCHING, IMAGE, BUILDING = "fetching", "image", "building"

Value = TypeVar("Value")


def setting(
    default: Value, *, help: str, flag: str = "", group: str = "", choices: Sequence[str] = (), text_is: str = ""
) -> Value:
    """A field of a table of settings; `flag` is its name without dashes where that isn't the field's own."""
    metadata: dict[str, Any] = {"help": help, "flag": flag, "group": group}
    metadata |= {"choices": tuple(choices), "text_is": text_is}
    if type(default) is int:
        metadata["minimum"] = 0
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What a user may set. Relative paths in invoke.yaml are relative to that file, those of flags to the caller."""

    source: str = setting(
        "1.15.0",
        help="what is built: a version, the path of a serving tree or of its archive, or `sample`",
        text_is=PATH_OR_WORD,
    )
    adapter: str = setting(
        "auto",
        help="_tf_adapter.so: `auto` (that of the CANN installed here), its path or that of its wheel, `sample`, or "
        "`none` to build all but the final link, which the machine with CANN does",
        text_is=PATH_OR_WORD,
    )
    also_fits: tuple[str, ...] = setting(
        ("known",),
        help="an adapter that the server is to fit besides the one it is linked with: a release that is known, the "
        "path of a _tf_adapter.so or of its wheel, `known` for all that are known, or `none`",
        text_is=PATH_OR_WORD,
    )
    adapters: Path = setting(
        PROJECT_ROOT / "adapters",
        help="what adapters need of the server, of releases that you have added with `adapter-needs --add`",
    )
    runner: str = setting(
        "auto",
        help="where Bazel runs; auto is Docker where its engine answers, else the host",
        choices=RUNNERS,
    )
    docker_base_image: str = setting(
        "ubuntu:18.04",
        help="the image that the toolchain image is made from",
        flag="base-image",
        group=IMAGE,
    )
    docker_flavour: str = setting(
        DISTRO,
        help="what the toolchain image holds: the distribution's compiler and Python, or those of the guide, "
        "built from sources",
        flag="flavour",
        group=IMAGE,
        choices=(DISTRO, GUIDE_FLAVOUR),
    )
    apt_sources: tuple[str, ...] = setting(
        (),
        help="where the image's packages come from, in place of the base image's own sources: URL SUITE COMPONENT..., "
        "such as a snapshot of the package archive with its date in the URL",
        flag="apt-source",
    )
    cann_root: str = setting(
        "",
        help="the directory that contains cann/ (before CANN 8.5 ascend-toolkit/) and tfplugin/; empty to look in "
        "/usr/local/Ascend, ~/Ascend and the environment",
        text_is=PATH,
    )
    python_prefix: Path = setting(
        Path("/usr/local/python3.7.5"),
        help="the Python 3.7.5 whose shared libpython3.7m.so the adapter needs (guide 6.3, step 3.2)",
    )
    python_bin: str = setting(
        "",
        help="the interpreter that TensorFlow's build scripts run with; empty for python_prefix's, else this project's",
        text_is=PATH,
    )
    bazel: str = setting(
        "",
        help="the bazel program; empty for a suitable one on PATH, else the release that locks/toolchains.json pins",
        text_is=PATH,
    )
    mirrors: tuple[str, ...] = setting(
        (),
        help="tried before the pinned URLs: a base URL, or NEW=OLD to replace the beginning of a URL",
        flag="mirror",
        group=FETCHING,
    )
    offline: bool = setting(
        False,
        help="open no connection; take what the store has",
        group=FETCHING,
    )
    install_link: str = setting(
        "",
        help="where the link to the server goes, such as /usr/local/bin/tensorflow_model_server; empty for none",
        group=BUILDING,
        text_is=PATH,
    )
    disk_cache: str = setting(
        "",
        help="a directory in which results of actions are kept, for any tree and output root; empty for none",
        group=BUILDING,
        text_is=PATH,
    )
    remote_cache: str = setting(
        "",
        help="a cache that machines share: http(s)://HOST[:PORT][/PATH] or grpc(s)://HOST:PORT; empty for none",
        group=BUILDING,
    )
    remote_executor: str = setting(
        "",
        help="machines that run the actions: grpc(s)://HOST:PORT; empty to run them here",
        group=BUILDING,
    )
    bazel_args: tuple[str, ...] = setting(
        (),
        help="a further flag for `bazel build`, such as --copt=-march=native",
        flag="bazel-arg",
        group=BUILDING,
    )
    xla: str = setting(
        XLA_OF_ADAPTER,
        help="how much of XLA the server gets: what the adapter calls, or all of it, with LLVM, as the guide has it",
        group=BUILDING,
        choices=XLA,
    )
    linker: str = setting(
        "auto",
        help="what links the server; auto: what Bazel picks for a build (gold where it is installed), and for linking "
        "again after an upgrade lld where it is new enough",
        group=BUILDING,
        choices=LINKERS,
    )
    jobs: int = setting(
        0,
        help="how many actions Bazel runs at once; 0 for what the processors and the memory allow",
        group=BUILDING,
    )
    memory_mb: int = setting(
        0,
        help="the memory that Bazel may plan with, in MB; 0 for what is available",
    )
    build_root: Path = setting(
        PROJECT_ROOT / "build",
        help="everything that can be made again: fetched archives, trees, Bazel's output, logs",
    )
    dist_root: Path = setting(
        PROJECT_ROOT / "dist",
        help="the finished builds, and `current`",
    )

    @property
    def without_adapter(self) -> bool:
        """Whether all but the final link is built: the adapter, and with it CANN, comes in at the relink."""
        return self.adapter == WITHOUT_ADAPTER

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
        """One file for each run of a program that prints much."""
        return self.build_root / "logs"


@dataclass(frozen=True)
class Setting:
    """One row of the table; `kind` is str, int, bool, Path, or tuple for several texts."""

    name: str
    kind: type
    default: object
    help: str
    flag: str
    group: str
    choices: tuple[str, ...]
    text_is: str

    @property
    def parameter(self) -> str:
        """The flag as the name of a function's parameter."""
        return self.flag.replace("-", "_")

    @property
    def flag_help(self) -> str:
        """The help of the flag, with what it takes."""
        takes = f" ({', '.join(self.choices)})" if self.choices else " (repeatable)" if self.kind is tuple else ""
        return self.help + takes


_TABLES: dict[type, Mapping[str, Setting]] = {}  # each task asks for it, and type hints take their time


def table_of(table: type[Any] = Settings) -> Mapping[str, Setting]:
    """The rows of a table of settings by name, in its order."""
    if table not in _TABLES:
        kinds = typing.get_type_hints(table)
        _TABLES[table] = {
            item.name: Setting(
                name=item.name,
                kind=typing.get_origin(kinds[item.name]) or kinds[item.name],
                default=item.default,
                help=item.metadata["help"],
                flag=item.metadata["flag"] or item.name.replace("_", "-"),
                group=item.metadata["group"],
                choices=item.metadata["choices"],
                text_is=item.metadata["text_is"],
            )
            for item in dataclasses.fields(table)
        }
    return _TABLES[table]


def load_settings(path: Path | None = None, **flags: object) -> Settings:
    """The settings of invoke.yaml at `path` (the project's own by default) overridden by the flags.

    A flag that is None, "", () or False was not given. Raises SettingsError for unknown keys, with the nearest known
    one, and for values of the wrong kind.
    """
    return load_table(Settings, flags, path)


def load_table(table: type[Value], flags: Mapping[str, object], path: Path | None = None) -> Value:
    """The same for any table of settings."""
    rows = table_of(table)
    values = stated_in_file(path if path is not None else settings_file(), table)
    for key, value in flags.items():
        if was_given(value):
            values[key] = _converted(rows[key], value, f"--{rows[key].flag}", Path.cwd())
    return table(**values)


def was_given(value: object) -> bool:
    """Whether a flag with that value stood on the command line: an empty one says as much as none."""
    return value not in (None, "", (), [], False)


def settings_file() -> Path:
    """The invoke.yaml that holds here: the project's, or the one that the environment names."""
    return Path(os.environ.get(SETTINGS_FILE) or PROJECT_ROOT / "invoke.yaml")


def stated_in_file(file: Path, table: type[Any] = Settings) -> dict[str, Any]:
    """The settings that the file states, converted; SettingsError with all mistakes of the file."""
    if not file.exists():
        return {}
    from npu_serving.documents import DocumentRefusal, read_document

    whole = read_document(file, file_type(table), refusal=DocumentRefusal(error=SettingsError))
    base = file.absolute().parent
    rows = table_of(table)
    return {
        key: _converted(rows[key], value, f"{file}: {SECTION}.{key}", base)
        for key, value in (getattr(whole, SECTION) or {}).items()
    }


def file_type(table: type[Any]) -> type[Any]:
    """invoke.yaml as a class for the reader of documents: our section, and those of invoke."""
    from npu_serving.documents import FieldsOf

    ours = (SECTION, Optional[Annotated[dict[str, Any], FieldsOf(table)]], None)
    invokes = [(name, Any, None) for name in INVOKE_SECTIONS]
    return dataclasses.make_dataclass("InvokeFile", [ours, *invokes], namespace={"__doc__": "invoke.yaml"})


def user_path(text: str, where: str) -> Path:
    """A path as a person types it, its ~ filled in; RequestError for an empty one, a URL, and for an unknown ~user."""
    from npu_serving.fsutil import is_remote  # here, so that --list costs no more than the table

    if not text:
        raise RequestError(
            f"{where} is empty.", cause="it comes from a shell variable that is not set", cure="name a path"
        )
    if is_remote(text):
        raise RequestError(
            f"{where} can't be {text!r}: it is read on this machine.",
            cause="only what the server itself reads may be a URL: a model, and the files that its own flags name",
            cure="copy it to this machine, and name the copy",
        )
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{where} can't be {text!r} ({error}).", cure="write the whole path") from error


LONGEST_NUMBER = 18  # digits: what 64 bits hold


def whole_number(value: object, where: str) -> int:
    """The whole number, 0 or more, that was given at `where`."""
    text = str(value)
    if isinstance(value, bool) or not (text.isdecimal() and text.isascii() and len(text) <= LONGEST_NUMBER):
        raise _unfit(where, "a whole number", value, "use a whole number, 0 or more")
    return int(text)


def _path(row: Setting, value: object, where: str, base: Path) -> Path:
    if not isinstance(value, (str, Path)):
        raise _unfit(where, "a path", value, "use the path of a file or directory")
    if not str(value):
        raise SettingsError(
            f"{where} is empty.", cause="it comes from a shell variable that is not set", cure="name a path"
        )
    return base / user_path(_without_nul(str(value), where), where)


def _text(row: Setting, value: object, where: str, base: Path) -> str:
    if not isinstance(value, (str, Path)):
        raise _unfit(where, "a string", value, f'write it in quotes: "{value}"')
    text = _without_nul(str(value), where)
    if row.choices and text not in row.choices:
        near = difflib.get_close_matches(text, row.choices, n=1)
        cure = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(row.choices)}"
        raise _unfit(where, f"{', '.join(row.choices[:-1])} or {row.choices[-1]}", text, cure)
    looks_like_path = row.text_is == PATH or "/" in text or text.startswith("~") or text.endswith(_ENDS_OF_ADAPTERS)
    return str(base / user_path(text, where)) if text and row.text_is and looks_like_path else text


def _yes_or_no(row: Setting, value: object, where: str, base: Path) -> bool:
    if not isinstance(value, bool):
        raise _unfit(where, "true or false", value, "write true or false, without quotes")
    return value


def _whole_number(row: Setting, value: object, where: str, base: Path) -> int:
    return whole_number(value, where)


def _texts(row: Setting, value: object, where: str, base: Path) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise _unfit(where, "a list of strings", value, "write it like [a, b]")
    return tuple(_text(row, item, where, base) if row.text_is else item for item in value)


_CONVERTERS: Mapping[type, Callable[[Setting, object, str, Path], Any]] = {
    str: _text,
    Path: _path,
    bool: _yes_or_no,
    int: _whole_number,
    tuple: _texts,
}


def _converted(row: Setting, value: object, where: str, base: Path) -> Any:
    """The value as the row's kind, or SettingsError; `base` is what a relative path starts from."""
    return _CONVERTERS[row.kind](row, value, where, base)


def _unfit(where: str, needed: str, value: object, cure: str) -> SettingsError:
    return SettingsError(f"{where} must be {needed}, not {value!r:.80}.", cure=cure)


def _without_nul(text: str, where: str) -> str:
    if "\0" in text:
        raise SettingsError(f"{where} contains a NUL byte, which no path or name can.", cure="use another value")
    return text
