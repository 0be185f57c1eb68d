"""The adapter's lists of the operators that run on the NPU: what of them it would read, and what is wrong with them.

Without a list no operator is given to the NPU: each model silently runs on the CPU, while the adapter is loaded and
the answers are right. So they are read here as the adapter reads them, before it does.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import file_access, fsutil
from npu_serving.cann.info_files import text_of
from npu_serving.cann.layout import Component, closed_directory, has_essentials, is_directory, is_there, packages
from npu_serving.documents import read_document
from npu_serving.errors import RequestError
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.shown_text import in_a_line

TABLE = Path(__file__).with_name("operator_list.yaml")
KIND = "operator-list"
OPP = "opp"
"""The directory of the operator packages within a toolkit or nnae."""
EFFECT = "the adapter would give no operator to the NPU, and every model would be silently served by the CPU"
COMPUTES_NOTHING = frozenset(
    (
        "Const",
        "Placeholder",
        "PlaceholderV2",
        "PlaceholderWithDefault",
        "NoOp",
        "Identity",
        "IdentityN",
        "PartitionedCall",
        "StatefulPartitionedCall",
    )
)
"""Operators that run where those beside them do."""
_OPERATOR = re.compile(r"[A-Za-z_][A-Za-z0-9_.>]*", re.ASCII)
_LONGEST = 64 << 20  # bytes; the real ones have some hundred thousand


@dataclass(frozen=True)
class OperatorListTable:
    """operator_list.yaml, whose comments say what each key means."""

    variable: str
    default_directory: str
    marker: str
    current: str
    older: str
    custom_variable: str
    custom: str
    custom_without_vendors: str
    vendors: str
    vendors_config: str
    shipped_apart: str


@dataclass(frozen=True)
class OperatorLists:
    """The list of CANN's own operators, how many there are in it and in the lists of custom ones.

    `trouble` says what is wrong with the first, "" where nothing is; `is_closed`, that this user may not read it.
    """

    path: Path
    operators: int
    custom_operators: int
    trouble: str
    is_closed: bool = False
    names: frozenset[str] = field(default=frozenset(), repr=False)
    """All of them, custom ones included."""
    gray: frozenset[str] = field(default=frozenset(), repr=False)
    """Those of `names` that mixed computing leaves to the CPU."""
    heavy: frozenset[str] = field(default=frozenset(), repr=False)
    """Those of `names` that CANN marks as the ones that decide about the speed."""
    custom: tuple[OperatorLists, ...] = field(default=(), repr=False)
    """The lists of custom operators, whose names are among those above."""

    @staticmethod
    def never_taken(operator: str) -> bool:
        """Whether the adapter leaves such an operator to the CPU whatever its lists say."""
        return operator.endswith(("Dataset", "DatasetV2")) or operator in ("_Arg", "_Retval", "StringJoin")

    def taken(self, operator: str, *, mixed: bool) -> bool:
        """Whether the adapter gives such an operator to the NPU; `mixed` is whether mix_compile_mode is on.

        As IsWhiteListSupport() in the adapter's om_partition_subgraphs_pass.cc answers.
        """
        if self.never_taken(operator):
            return False
        return operator in self.names and not (mixed and operator in self.gray)

    @property
    def are_empty(self) -> bool:
        """Whether nothing at all would go to the NPU."""
        return not self.operators and not self.custom_operators


@functools.cache
def operator_list_table() -> OperatorListTable:
    """operator_list.yaml."""
    return read_document(TABLE, OperatorListTable)


def operator_lists(environ: Mapping[str, str]) -> OperatorLists:
    """What the adapter of a server with that environment finds."""
    names = operator_list_table()
    opp = Path(environ.get(names.variable, names.default_directory) or "/")
    if is_directory(opp / names.marker):
        own = [Path(entry) for entry in environ.get(names.custom_variable, "").split(":") if entry]
        custom = [_read(directory / names.custom) for directory in (*own, *_vendors(opp))]
    else:
        custom = [_read(opp / names.custom_without_vendors)]
    of_cann = _read(list_in(opp))
    return replace(
        of_cann,
        custom_operators=sum(each.operators for each in custom),
        names=of_cann.names.union(*(each.names for each in custom)),
        gray=of_cann.gray.union(*(each.gray for each in custom)),
        heavy=of_cann.heavy.union(*(each.heavy for each in custom)),
        custom=tuple(each for each in custom if each.operators),
    )


def list_of(runtime: Component) -> OperatorLists:
    """CANN's own list in a toolkit or nnae, without those of custom operators."""
    return _read(list_in(runtime.path / OPP))


def list_in(opp: Path) -> Path:
    """The list of CANN's own operators in its directory of operator packages."""
    names = operator_list_table()
    is_older = is_there(opp / names.older) and not is_directory(opp / names.marker)
    return opp / (names.older if is_older else names.current)


def findings_on(runtime: Component) -> Iterator[Finding]:
    """What is wrong with the list of the toolkit or nnae at hand; what else it lacks is found elsewhere."""
    package = packages()[runtime.name]
    if not has_essentials(package, runtime.path) or closed_directory(package, runtime.path) is not None:
        return
    lists = list_of(runtime)
    if lists.trouble:
        yield Finding(f"{lists.trouble}: {EFFECT}.", cure_for(lists, runtime), kind=KIND, where=str(lists.path))


def finding_for(lists: OperatorLists, runtime: Component) -> Finding | None:
    """What is wrong with the lists that the adapter of a server would read; None if nothing is."""
    if not lists.trouble:
        return None
    what = (
        f"{lists.trouble}: {EFFECT}." if lists.are_empty else f"{lists.trouble}: only custom operators go to the NPU."
    )
    severity = PROBLEM if lists.are_empty else WARNING
    return Finding(what, cure_for(lists, runtime), severity=severity, kind=KIND, where=str(lists.path))


def cure_for(lists: OperatorLists, runtime: Component | None) -> str:
    """What to type where that list is of no use; `runtime` is the toolkit or nnae that was found."""
    names = operator_list_table()
    own = list_of(runtime) if runtime is not None else None
    if runtime is not None and own is not None and own.path != lists.path and not own.trouble:
        return f"unset {names.variable}, then run the same command again: {runtime.path / OPP} has CANN's list"
    if lists.is_closed:
        return file_access.cure_for(file_access.refused_at(lists.path) or lists.path)
    package = packages()[runtime.name if runtime is not None else "toolkit"]
    command = package.install_command(runtime.version if runtime is not None else "")
    return f"{command} (since CANN 8.5 its operators are a package of their own, {names.shipped_apart})"


def _vendors(opp: Path) -> list[Path]:
    names = operator_list_table()
    try:
        first = text_of(opp / names.vendors_config).partition("\n")[0]
    except OSError:
        first = ""
    key, equals, listed = first.partition("=")
    if not key or not equals:
        return []
    return [opp / names.vendors / vendor.strip() for vendor in listed.split(",") if vendor.strip()]


def _read(path: Path) -> OperatorLists:
    """One list, read as the adapter does: an object whose values are objects, one for each operator."""
    try:
        if not path.is_file():
            return OperatorLists(path, 0, 0, f"{path} is {'not a file' if is_there(path) else 'missing'}")
        with path.open("rb") as file:
            data = file.read(_LONGEST + 1)
    except OSError as error:
        return OperatorLists(path, 0, 0, f"{path} can't be read ({error.strerror})", is_closed=True)
    if len(data) > _LONGEST:
        return OperatorLists(path, 0, 0, f"{path} is larger than any list of operators")
    try:
        document = json.loads(data.decode("utf-8-sig"), parse_constant=_no_json)
    except (ValueError, RecursionError):
        return OperatorLists(path, 0, 0, f"{path} is not valid JSON")
    if not isinstance(document, dict):
        return OperatorLists(path, 0, 0, f"{path} is not a list of operators: it holds no object")
    names = frozenset(name for name, entry in document.items() if isinstance(entry, dict))
    gray, heavy = (
        frozenset(name for name in names if document[name].get(key) is True) for key in ("isGray", "isHeavy")
    )
    trouble = "" if names else f"{path} lists no operator"
    return OperatorLists(path, len(names), 0, trouble, names=names, gray=gray, heavy=heavy)


def list_from(path: Path) -> OperatorLists:
    """A list that a person gives: npu_supported_ops.json, or the name of an operator on each line.

    RequestError for another file, FileAccessError.
    """
    text = fsutil.read_text(path)
    if text.lstrip("\ufeff \t\r\n").startswith(("{", "[")):
        lists = _read(path)
    else:
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        names = frozenset(line for line in lines if line)
        wrong = next((name for name in sorted(names) if not _OPERATOR.fullmatch(name)), "")
        trouble = f"{path} names {in_a_line(repr(wrong))}, which no operator can be called" if wrong else ""
        lists = OperatorLists(path, len(names), 0, trouble or ("" if names else f"{path} is empty"), names=names)
    if lists.trouble:
        raise RequestError(
            f"The list of operators can't be used: {lists.trouble}.",
            cause="a list of operators is CANN's npu_supported_ops.json, or has the name of one operator on each line",
            cure="name another file with --supported; without it the lists of the installed CANN count",
        )
    return lists


def _no_json(name: str) -> object:
    raise ValueError(name)
