"""The lock: every archive a serving tree declares, with its digest, and who needs it. Types and file format.

A lock is JSON, sorted, one field a line, so that two locks differ where their trees do. How one is made is told in
workspace.py, how the files come in, in fetch.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from npu_serving import fsutil
from npu_serving.errors import LockFileError

FORMAT = 1
SHA256 = re.compile(r"[0-9a-f]{64}")
REPOSITORY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
PLATFORM_KEY = re.compile(r"[a-z0-9_]+(-[a-z0-9_]+)+")
SAFE_FILE_NAME = re.compile(r"[A-Za-z0-9_@%+=:,~][A-Za-z0-9_@%+=:,.~-]*")
URL_SCHEMES = ("http", "https", "ftp")


@dataclass(frozen=True)
class Archive:
    """One file that a repository rule downloads. `build_file` and `patch_files` are Bazel labels, as declared."""

    name: str
    """The repository that it becomes, such as com_google_absl."""
    rule: str
    """The rule that declares it, such as tf_http_archive."""
    urls: tuple[str, ...]
    sha256: str | None
    """None where the tree pins none: such a file is never used."""
    size_bytes: int | None = None
    strip_prefix: str = ""
    build_file: str = ""
    patch_files: tuple[str, ...] = ()
    needed_by: tuple[str, ...] = ()
    """The platforms, such as linux-x86_64-cpu, whose build of the server asks for it; empty: merely declared."""
    only_with: str = ""
    """The optional dependency of the server, such as xla_cpu_jit, without which nobody needs it."""
    shadowed: bool = False
    """Another declaration of the same name counts for Bazel 0.24.1, so it never asks for this one."""
    pinned_here: bool = False
    """The tree pins no sha256; this one is of the bytes that `lock-deps --pin` fetched first."""
    urls_left_out: int = 0
    """How many further URLs the tree declares that a person took out of the lock, such as a package index's."""

    @property
    def file_name(self) -> str:
        """What Bazel before 0.29 looks for in each --distdir: the last part of the FIRST url's path.

        Where that is no name that a file may get here, it is the repository's: such a file comes from the repository
        cache only. The same holds for one of two archives with one name: Bazel takes no file whose sha256 differs.
        """
        name = file_name_of(self.urls[0])
        return name if is_safe_file_name(name) else self.name


@dataclass(frozen=True)
class OtherRepository:
    """A repository without an archive: made on the machine, or cloned with git, which no cache of files can serve."""

    name: str
    rule: str
    remote: str = ""
    commit: str = ""
    shadowed: bool = False

    @property
    def is_git(self) -> bool:
        """Whether Bazel would run git to get it."""
        return bool(self.remote)


@dataclass(frozen=True)
class Lock:
    """All that one version of TensorFlow Serving declares, and the archive of its own source."""

    serving_version: str
    tensorflow_commit: str
    source: Archive
    archives: tuple[Archive, ...]
    others: tuple[OtherRepository, ...] = ()
    platform_sources: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """For each platform, a sentence on how it was found what the server needs there."""

    def needed(self, platform: str) -> tuple[Archive, ...]:
        """The archives that the server's build on `platform` asks for."""
        return tuple(archive for archive in self.archives if platform in archive.needed_by and not archive.shadowed)

    @property
    def digest(self) -> str:
        """The sha256 of the lock as it is written: two locks with the same one are equal."""
        return hashlib.sha256(render_lock(self).encode()).hexdigest()


def file_name_of(url: str) -> str:
    """The last part of a URL's path, the query left out: the name Bazel 0.24.1 gives the file in a distdir."""
    return urlsplit(url).path.rsplit("/", 1)[-1]


def read_lock(path: Path) -> Lock:
    """The lock in the file at `path`; LockFileError names the line and the field at fault."""
    if not path.is_file():
        raise LockFileError(
            f"There is no lock file {path}.",
            cause="no lock has been made for this version of TensorFlow Serving",
            cure="make one with: ./inv lock-deps --source PATH-OF-THE-TREE",
        )
    return parse_lock(fsutil.read_text(path), str(path))


def parse_lock(text: str, where: str = "the lock") -> Lock:
    """The lock that `text` holds; `where` is its name in messages. Raises LockFileError."""
    document = _load_json(text, where)
    reader = _LockReader(text, where)
    root = reader.entry(document, "the file", ("format", *(item.name for item in dataclasses.fields(Lock))))
    if root.get("format") != FORMAT:
        raise reader.error("format", f"is {root.get('format')!r}, and this program reads {FORMAT}")
    return Lock(
        serving_version=reader.text(root, "serving_version", "the file"),
        tensorflow_commit=reader.text(root, "tensorflow_commit", "the file", default=""),
        source=reader.archive(root.get("source"), "source"),
        archives=tuple(
            reader.archive(item, f"archives[{index}]") for index, item in enumerate(reader.items(root, "archives"))
        ),
        others=tuple(reader.other(item, f"others[{index}]") for index, item in enumerate(reader.items(root, "others"))),
        platform_sources=reader.platform_sources(root),
    )


def render_lock(lock: Lock) -> str:
    """The text of the lock file: sorted, two blanks a level, a line break at the end."""
    document = {
        "format": FORMAT,
        "serving_version": lock.serving_version,
        "tensorflow_commit": lock.tensorflow_commit,
        "platform_sources": dict(sorted(lock.platform_sources.items())),
        "source": _archive_fields(lock.source),
        "archives": [_archive_fields(archive) for archive in sorted(lock.archives, key=_archive_order)],
        "others": [_set_fields(other) for other in sorted(lock.others, key=lambda item: (item.name, item.shadowed))],
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def write_lock(path: Path, lock: Lock) -> bool:
    """Writes the lock to `path`; True if that changed the file. Raises LockFileError for a lock that can't be read."""
    text = render_lock(lock)
    parse_lock(text, str(path))
    return fsutil.write_file(path, text)


def carry_over(lock: Lock, known: Lock) -> Lock:
    """`lock` with what its tree can't tell taken from `known`: sizes by digest, who needs what by repository.

    The name decides on the need because a build asks for a repository, whatever archive is declared for it. URLs that
    `known` leaves out stay out as long as the tree declares what `known` was made from.
    """
    sizes = {archive.sha256: archive.size_bytes for archive in (*known.archives, known.source) if archive.sha256}
    needs = {archive.name: archive for archive in known.archives if not archive.shadowed}
    shortened = [archive for archive in known.archives if archive.urls_left_out]

    def urls_of(archive: Archive) -> Archive:
        """The archive as it is listed that was declared with these URLs; `archive` itself where none was."""
        return next((item for item in shortened if _is_shortened(item, archive)), archive)

    def with_facts(archive: Archive) -> Archive:
        need = None if archive.shadowed or archive.needed_by else needs.get(archive.name)
        return dataclasses.replace(
            archive,
            size_bytes=archive.size_bytes if archive.size_bytes is not None else sizes.get(archive.sha256 or ""),
            needed_by=need.needed_by if need is not None else archive.needed_by,
            only_with=need.only_with if need is not None else archive.only_with,
            urls=urls_of(archive).urls,
            urls_left_out=urls_of(archive).urls_left_out,
        )

    return dataclasses.replace(
        lock,
        source=with_facts(lock.source),
        archives=tuple(with_facts(archive) for archive in lock.archives),
        platform_sources=lock.platform_sources or known.platform_sources,
    )


def _is_shortened(listed: Archive, declared: Archive) -> bool:
    """Whether `listed` is `declared` without some of its URLs; the first, which gives the file's name, is kept."""
    left = iter(declared.urls)
    return (
        (listed.name, listed.sha256, listed.urls[0]) == (declared.name, declared.sha256, declared.urls[0])
        and len(listed.urls) + listed.urls_left_out == len(declared.urls)
        and all(url in left for url in listed.urls)
    )


def _archive_order(archive: Archive) -> tuple[str, bool, tuple[str, ...]]:
    return (archive.name, not archive.shadowed, archive.urls)


def _archive_fields(archive: Archive) -> dict[str, object]:
    fields = _set_fields(archive)
    return {"name": fields.pop("name"), "file_name": archive.file_name, "sha256": archive.sha256, **fields}


def _set_fields(item: Archive | OtherRepository) -> dict[str, Any]:
    """The fields that differ from their defaults, in the order of the class."""
    return {
        field.name: list(value) if isinstance(value, tuple) else value
        for field in dataclasses.fields(item)
        if (value := getattr(item, field.name)) != field.default
    }


def _load_json(text: str, where: str) -> object:
    def without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise LockFileError(f"{where} has the field {key!r} twice in one entry.", cure=_CURE)
            found[key] = value
        return found

    try:
        return json.loads(text, object_pairs_hook=without_duplicates)
    except json.JSONDecodeError as error:
        raise LockFileError(
            f"{where}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}.",
            cause="it was edited by hand, or a merge left its marks in it",
            cure=_CURE,
        ) from error
    except RecursionError as error:
        raise LockFileError(f"{where} is nested too deeply for a lock.", cure=_CURE) from error


_CURE = "take the file from version control again, or make it anew with: ./inv lock-deps"


class _LockReader:
    """Turns JSON values into the lock's types, and says which line is at fault when one doesn't fit."""

    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where

    def error(self, field: str, problem: str, *, near: object = None) -> LockFileError:
        line = self._line_of(near)
        at = f"{self._where}, line {line}" if line else self._where
        return LockFileError(f"{at}: {field} {problem}.", cure=_CURE)

    def _line_of(self, name: object) -> int:
        """The line where the entry of that name begins, 0 where it can't be told."""
        if not isinstance(name, str):
            return 0
        found = re.search(r'"name"\s*:\s*' + re.escape(json.dumps(name)), self._text)
        return self._text.count("\n", 0, found.start()) + 1 if found else 0

    def entry(self, value: object, field: str, known: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self.error(field, "is not an object")
        for key in value:
            if key not in known:
                raise self.error(f"{field}.{key}", "is not a field of a lock", near=value.get("name"))
        return value

    def items(self, entry: Mapping[str, Any], field: str) -> list[Any]:
        value = entry.get(field, [])
        if not isinstance(value, list):
            raise self.error(field, "is not a list", near=entry.get("name"))
        return value

    def text(self, entry: Mapping[str, Any], field: str, place: str, *, default: str | None = None) -> str:
        value = entry.get(field, default)
        if not isinstance(value, str) or any(ord(letter) < 32 for letter in value):
            raise self.error(f"{place}.{field}", "is not a text of one line", near=entry.get("name"))
        return value

    def texts(self, entry: Mapping[str, Any], field: str, place: str) -> tuple[str, ...]:
        values = self.items(entry, field)
        if not all(isinstance(value, str) and value and all(ord(letter) >= 32 for letter in value) for value in values):
            raise self.error(f"{place}.{field}", "is not a list of texts", near=entry.get("name"))
        return tuple(values)

    def archive(self, value: object, place: str) -> Archive:
        entry = self.entry(value, place, ("file_name", *(item.name for item in dataclasses.fields(Archive))))
        near = entry.get("name")
        archive = Archive(
            name=self._repository_name(entry, place),
            rule=self.text(entry, "rule", place),
            urls=self.texts(entry, "urls", place),
            sha256=self._digest(entry, place),
            size_bytes=self._size(entry, place),
            strip_prefix=self.text(entry, "strip_prefix", place, default=""),
            build_file=self.text(entry, "build_file", place, default=""),
            patch_files=self.texts(entry, "patch_files", place),
            needed_by=self.texts(entry, "needed_by", place),
            only_with=self.text(entry, "only_with", place, default=""),
            shadowed=self._flag(entry, "shadowed", place),
            pinned_here=self._flag(entry, "pinned_here", place),
            urls_left_out=self._count(entry, "urls_left_out", place),
        )
        if archive.pinned_here and archive.sha256 is None:
            raise self.error(f"{place}.pinned_here", "is true without a sha256", near=near)
        self._check_urls(archive, place)
        if entry.get("file_name") != archive.file_name:
            raise self.error(
                f"{place}.file_name",
                f"is {entry.get('file_name')!r}, not {archive.file_name!r}, for which Bazel looks (see the first URL)",
                near=near,
            )
        for key in archive.needed_by:
            if not PLATFORM_KEY.fullmatch(key):
                raise self.error(f"{place}.needed_by", f"has {key!r}, which names no platform", near=near)
        return archive

    def other(self, value: object, place: str) -> OtherRepository:
        entry = self.entry(value, place, tuple(item.name for item in dataclasses.fields(OtherRepository)))
        return OtherRepository(
            name=self._repository_name(entry, place),
            rule=self.text(entry, "rule", place),
            remote=self.text(entry, "remote", place, default=""),
            commit=self.text(entry, "commit", place, default=""),
            shadowed=self._flag(entry, "shadowed", place),
        )

    def platform_sources(self, root: Mapping[str, Any]) -> dict[str, str]:
        entry = root.get("platform_sources", {})
        if not isinstance(entry, dict):
            raise self.error("platform_sources", "is not an object")
        return {key: self.text(entry, key, "platform_sources") for key in entry}

    def _repository_name(self, entry: Mapping[str, Any], place: str) -> str:
        name = self.text(entry, "name", place)
        if not REPOSITORY_NAME.fullmatch(name):
            raise self.error(f"{place}.name", f"is {name!r}, which is no repository's name", near=name)
        return name

    def _digest(self, entry: Mapping[str, Any], place: str) -> str | None:
        value = entry.get("sha256")
        if value is not None and not (isinstance(value, str) and SHA256.fullmatch(value)):
            raise self.error(f"{place}.sha256", f"is {value!r}, not 64 hexadecimal digits", near=entry.get("name"))
        return value

    def _size(self, entry: Mapping[str, Any], place: str) -> int | None:
        value = entry.get("size_bytes")
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
            raise self.error(f"{place}.size_bytes", f"is {value!r}, not a number of bytes", near=entry.get("name"))
        return value

    def _count(self, entry: Mapping[str, Any], field: str, place: str) -> int:
        value = entry.get(field, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(f"{place}.{field}", f"is {value!r}, not a number of URLs", near=entry.get("name"))
        return value

    def _flag(self, entry: Mapping[str, Any], field: str, place: str) -> bool:
        value = entry.get(field, False)
        if not isinstance(value, bool):
            raise self.error(f"{place}.{field}", f"is {value!r}, not true or false", near=entry.get("name"))
        return value

    def _check_urls(self, archive: Archive, place: str) -> None:
        if not archive.urls:
            raise self.error(f"{place}.urls", "is empty", near=archive.name)
        for url in archive.urls:
            problem = url_problem(url)
            if problem:
                raise self.error(f"{place}.urls", f"has {url!r}, {problem}", near=archive.name)


def url_problem(url: str) -> str:
    """Why `url` is none that this project fetches from; empty if it is one."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "which is not a URL"
    if parts.scheme not in URL_SCHEMES:
        return f"whose scheme is none of {', '.join(URL_SCHEMES)}"
    if not host:
        return "which names no host"
    return ""


def is_safe_file_name(name: str) -> bool:
    """Whether a file may get that name in the distdir: one part, nothing hidden, nothing a shell would trip over."""
    return len(name) <= 200 and SAFE_FILE_NAME.fullmatch(name) is not None
