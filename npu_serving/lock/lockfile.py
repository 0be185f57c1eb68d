"""The lock: every archive a serving tree declares, with its digest, and who needs it. Types and file format.

A lock is JSON, sorted, one field a line, so that two locks differ where their trees do. workspace.py makes
one; the room fetch/ gets the files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from npu_serving import fsutil
from npu_serving.documents import JSON, DocumentRefusal, Rule, parse_document
from npu_serving.errors import LockFileError

FORMAT = 1
SHA256 = re.compile(r"[0-9a-f]{64}")
REPOSITORY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
PLATFORM_KEY = re.compile(r"[a-z0-9_]+(-[a-z0-9_]+)+")
SAFE_FILE_NAME = re.compile(r"[A-Za-z0-9_@%+=:,~][A-Za-z0-9_@%+=:,.~-]*")
URL_SCHEMES = ("http", "https", "ftp")


def _url_rule(url: str) -> str:
    problem = url_problem(url)
    return f"must be a URL to fetch from, not {url!r}, {problem}" if problem else ""


OneLine = Annotated[str, Rule(pattern=r"[^\x00-\x1f]*", expected="a single line of text")]
NonEmptyLine = Annotated[str, Rule(pattern=r"[^\x00-\x1f]+", expected="a single line of text that is not empty")]
Sha256 = Annotated[str, Rule(pattern=SHA256.pattern, expected="64 hexadecimal digits")]
Url = Annotated[str, Rule(pattern=r"[^\x00-\x1f]+", expected="a URL", check=_url_rule)]
Urls = Annotated[tuple[Url, ...], Rule(fewest=1)]
SizeBytes = Annotated[int, Rule(minimum=1, expected="a number of bytes")]
RepositoryName = Annotated[str, Rule(pattern=REPOSITORY_NAME.pattern, expected="a repository's name")]
PlatformKey = Annotated[str, Rule(pattern=PLATFORM_KEY.pattern, expected="a platform such as linux-x86_64-cpu")]


@dataclass(frozen=True)
class Archive:
    """One file that a repository rule downloads. `build_file` and `patch_files` are Bazel labels, as declared."""

    name: RepositoryName
    """The repository that it becomes, such as com_google_absl."""
    rule: OneLine
    """The rule that declares it, such as tf_http_archive."""
    urls: Urls
    sha256: Sha256 | None
    """None where the tree pins none: such a file is never used."""
    size_bytes: SizeBytes | None = None
    strip_prefix: OneLine = ""
    build_file: OneLine = ""
    patch_files: tuple[NonEmptyLine, ...] = ()
    needed_by: tuple[PlatformKey, ...] = ()
    """The platforms, such as linux-x86_64-cpu, whose build of the server asks for it; empty: merely declared."""
    only_with: OneLine = ""
    """The optional dependency of the server, such as xla_cpu_jit, without which nobody needs it."""
    shadowed: bool = False
    """Another declaration of the same name counts for Bazel 0.24.1, so it never asks for this one."""
    pinned_here: bool = False
    """The tree pins no sha256; this one is of the bytes that `lock-deps --pin` fetched first."""
    urls_left_out: Annotated[int, Rule(minimum=0)] = 0
    """How many further URLs the tree declares that a person took out of the lock, such as a package index's."""

    @property
    def file_name(self) -> str:
        """What Bazel before 0.29 looks for in each --distdir: the last part of the FIRST url's path.

        Where that can't be used as a file name here, it is the repository's: such a file comes from the repository
        cache only. The same holds for one of two archives with one name: Bazel takes no file whose sha256 differs.
        """
        name = file_name_of(self.urls[0])
        return name if is_safe_file_name(name) else self.name


@dataclass(frozen=True)
class OtherRepository:
    """A repository without an archive: made on the machine, or cloned with git, which no cache of files can hold."""

    name: RepositoryName
    rule: OneLine
    remote: OneLine = ""
    commit: OneLine = ""
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
    made_of: str = ""
    """The state of the tree that it was made from (see tree_state.py); empty in locks of earlier releases."""
    measured_on: str = ""
    """The state of the tree on which it was found what the server needs."""

    def needed(self, platform: str, *, without: str = "") -> tuple[Archive, ...]:
        """The archives that the server's build on `platform` asks for; all, where nobody has asked Bazel for it.

        `without` is an optional dependency that the server does not get: what is needed only with it is left out.
        """
        measured = platform in self.platform_sources
        return tuple(
            item
            for item in self.archives
            if not item.shadowed
            and (platform in item.needed_by or not measured)
            and not (item.only_with and item.only_with == without)
        )

    @property
    def digest(self) -> str:
        """The sha256 of the lock as it is written: two locks with the same one are equal."""
        return hashlib.sha256(render_lock(self).encode()).hexdigest()


@dataclass(frozen=True)
class _ArchiveEntry(Archive):
    """An archive as it stands in the file, where a person also finds the name that Bazel looks for."""

    written_name: str = field(default="", metadata={"key": "file_name"})

    @property
    def archive(self) -> Archive:
        return Archive(**{item.name: getattr(self, item.name) for item in dataclasses.fields(Archive)})

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.pinned_here and self.sha256 is None:
            yield "pinned_here", "is true, but there is no sha256"
        if self.written_name != self.file_name:
            found = f"for which Bazel looks (the end of the first URL), not {self.written_name!r}"
            yield "file_name", f"must be {self.file_name!r}, {found}"


@dataclass(frozen=True)
class _LockEntry:
    """A lock as it stands in the file."""

    serving_version: OneLine
    source: _ArchiveEntry
    tensorflow_commit: OneLine = ""
    archives: tuple[_ArchiveEntry, ...] = ()
    others: tuple[OtherRepository, ...] = ()
    platform_sources: Mapping[str, OneLine] = field(default_factory=dict)
    made_of: Sha256 | None = None
    measured_on: Sha256 | None = None


_REFUSAL = DocumentRefusal(
    error=LockFileError, cure="restore the file from version control, or make it again with: ./inv lock-deps"
)


def file_name_of(url: str) -> str:
    """The last part of a URL's path, the query left out: the name Bazel 0.24.1 gives the file in a distdir."""
    try:
        return urlsplit(url).path.rsplit("/", 1)[-1]
    except ValueError:  # not a URL, which url_problem() tells
        return ""


def read_lock(path: Path) -> Lock:
    """The lock in the file at `path`; LockFileError names the line and the field at fault."""
    if not path.is_file():
        raise LockFileError(
            f"The lock file {path} does not exist.",
            cause="no lock has been made for this version of TensorFlow Serving",
            cure="make one with: ./inv lock-deps --source PATH-OF-THE-TREE",
        )
    return parse_lock(fsutil.read_bytes(path), str(path))


def parse_lock(text: str | bytes, where: str = "the lock") -> Lock:
    """The lock that `text` holds; `where` is its name in messages. Raises LockFileError."""
    read = parse_document(text, _LockEntry, where=where, syntax=JSON, format=FORMAT, refusal=_REFUSAL)
    return Lock(
        serving_version=read.serving_version,
        tensorflow_commit=read.tensorflow_commit,
        source=read.source.archive,
        archives=tuple(entry.archive for entry in read.archives),
        others=read.others,
        platform_sources=read.platform_sources,
        made_of=read.made_of or "",
        measured_on=read.measured_on or "",
    )


def render_lock(lock: Lock) -> str:
    """The text of the lock file: sorted, two blanks a level, a line break at the end."""
    document = {
        "format": FORMAT,
        "serving_version": lock.serving_version,
        "tensorflow_commit": lock.tensorflow_commit,
        **{name: state for name in ("made_of", "measured_on") if (state := getattr(lock, name))},
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


def with_known_facts(lock: Lock, known: Lock, *, loaded: Container[str] = ()) -> Lock:
    """`lock` with what its tree doesn't say taken from `known`: sizes by digest, and who needs what.

    A need is taken over with the archive that it was found out for: the same bytes, unpacked in the same way. An
    archive that `known` doesn't have like that counts as needed everywhere, for nobody has asked Bazel for it, and so
    does one whose name is among the `loaded`: Bazel needs it before it knows any target. URLs that `known` leaves out
    stay out as long as the tree declares what `known` was made from.
    """
    sizes = {archive.sha256: archive.size_bytes for archive in (*known.archives, known.source) if archive.sha256}
    needs = {_content(archive): archive for archive in known.archives if not archive.shadowed}
    everywhere = tuple(sorted(known.platform_sources))
    shortened = [archive for archive in (*known.archives, known.source) if archive.urls_left_out]

    def urls_of(archive: Archive) -> Archive:
        """The archive as it is listed that was declared with these URLs; `archive` itself where none was."""
        return next((item for item in shortened if is_shortened(item, archive)), archive)

    def with_facts(archive: Archive) -> Archive:
        need = needs.get(_content(archive))
        unknown = need is None or archive.name in loaded
        return dataclasses.replace(
            archive,
            size_bytes=archive.size_bytes if archive.size_bytes is not None else sizes.get(archive.sha256 or ""),
            needed_by=() if archive.shadowed else everywhere if need is None or unknown else need.needed_by,
            only_with="" if archive.shadowed or need is None or unknown else need.only_with,
            urls=urls_of(archive).urls,
            urls_left_out=urls_of(archive).urls_left_out,
        )

    return dataclasses.replace(
        lock,
        source=dataclasses.replace(with_facts(lock.source), needed_by=()),
        archives=tuple(with_facts(archive) for archive in lock.archives),
        platform_sources=known.platform_sources,
        measured_on=known.measured_on,
    )


def _content(archive: Archive) -> tuple[object, ...]:
    """What makes a repository: the bytes (the first URL where no digest is known), and what is done to them."""
    bytes_of = archive.sha256 or archive.urls[0]
    return (archive.name, bytes_of, archive.strip_prefix, archive.build_file, archive.patch_files)


def is_shortened(listed: Archive, declared: Archive) -> bool:
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


def url_problem(url: str) -> str:
    """Why this project can't fetch from `url`; empty if it can."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        return "which is not a URL"
    if parts.scheme not in URL_SCHEMES:
        return f"whose scheme is not one of {', '.join(URL_SCHEMES)}"
    if not host:
        return "which has no host"
    return ""


def is_safe_file_name(name: str) -> bool:
    """Whether a file may get that name in the distdir: one part, nothing hidden, nothing a shell would trip over."""
    return len(name) <= 200 and SAFE_FILE_NAME.fullmatch(name) is not None
