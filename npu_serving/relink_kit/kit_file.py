"""kit.json, the heart of a relink kit: what the final link reads, its command, and what becomes of the result.

A kit is a zip file. Its digest is that of kit.json, which names every other entry by its own digest.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from npu_serving import archives, fsutil
from npu_serving.builds.manifest import BuildManifest, NameWithin
from npu_serving.documents import JSON, DocumentRefusal, Rule, parse_document
from npu_serving.errors import KitError, PinMismatchError

FORMAT = 1
KIT_JSON = "kit.json"
KIT_START = "__main__.py"
KIT_PROGRAM = "program/"
"""What relinks: this package as far as it is needed (program_files.py)."""
KIT_GOLDEN = "golden/"
"""Golden requests as they are beside the builds; the platform config that one names lies beside it and is named so."""
KIT_BLOBS = "blobs/"
"""blobs/SHA256: a zlib stream, stored, that holds the bytes of that digest: each content once."""
KIT_BILL = "bom.cdx.json"
"""That of the build, or of what was compiled, with an adapter that the relink replaces by its own."""
LINKER, OUTPUT = "{linker}", "{output}"
"""The words of the command that stand for the linker's program and for what it writes."""


@dataclass(frozen=True)
class KitMember:
    """A file that the link reads: which blob it is, and how large."""

    sha256: Annotated[str, Rule(check=lambda text: "" if len(text) == 64 else "must be a sha256 in hexadecimal")]
    size_bytes: Annotated[int, Rule(minimum=0)]


@dataclass(frozen=True)
class AdapterFiles:
    """Where the command expects what each relink writes, relative to the unpacked members."""

    adapter: NameWithin
    needed_symbols: NameWithin
    exported_symbols: NameWithin


@dataclass(frozen=True)
class KitFile:
    """kit.json. Paths are relative to the directory that the members are unpacked into, where the linker runs."""

    machine: str
    """As `uname -m` says it: of the objects, and of the machine that links."""
    objects: str
    """The digest of all that decides the objects (the saved link's)."""
    soname: str
    """The adapter's, by which the server asks for it."""
    built_with_linker: Literal["bfd", "gold", "lld"]
    command: tuple[str, ...]
    """For the bare linker, not for gcc."""
    adapter_files: AdapterFiles
    libraries: Mapping[str, NameWithin]
    """What the build's lib/ gets beside the adapter, by SONAME: the stubs, libpython."""
    members: Mapping[NameWithin, KitMember]
    manifest: BuildManifest
    """Of what was compiled. A relink fills in the build's name and time, the adapter and the files."""
    linked_files: Annotated[int, Rule(minimum=0)] = 0
    """How many files of the build the members were made of: a group of objects is one archive. 0: not known."""
    fits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the server gives beside what its own adapter needs: the symbols that each other release needs of it."""
    entries: Mapping[str, str] = field(default_factory=dict)
    """The sha256 of every entry of the zip that is neither kit.json nor a blob."""

    def problems(self) -> Iterator[tuple[str | tuple[str, ...], str]]:
        """What the reader of documents asks: what the types of the fields don't tell."""
        if self.command[:1] != (LINKER,) or sum(word.count(OUTPUT) for word in self.command) != 1:
            yield "command", f"must begin with {LINKER} and have {OUTPUT} once"
        for soname, path in self.libraries.items():
            if path not in self.members:
                yield ("libraries", soname), "names no member"

    @property
    def size_bytes(self) -> int:
        """What the members take when they are unpacked."""
        return sum(member.size_bytes for member in self.members.values())

    @property
    def content_text(self) -> str:
        """How much the kit holds, in the words that its making prints too."""
        return content_text(self.linked_files, len(self.members))

    def to_bytes(self) -> bytes:
        """kit.json: the same bytes for the same kit."""
        document = {"format": FORMAT, **asdict(self)}
        return (json.dumps(document, indent=0, sort_keys=True, ensure_ascii=True) + "\n").encode()


def content_text(linked_files: int, members: int) -> str:
    """How many files of the build a kit was made of, where that is known, and how many it holds."""
    held = f"{members} members"
    return f"{linked_files} files that the link reads, in {held}" if linked_files else held


@dataclass(frozen=True)
class Kit:
    """A kit that was opened: its file, its digest, and what its kit.json says."""

    path: Path
    digest: str
    file: KitFile


def read_kit(path: Path) -> Kit:
    """The kit in that file, whose entries are not looked at yet.

    Raises KitError for a file that is cut short, damaged, or something else, and NoSuchFileError for none.
    """
    fsutil.refuse_endless(path)
    with reading(path), zipfile.ZipFile(path) as packed, packed.open(KIT_JSON) as entry:
        data = fsutil.read_whole(entry, f"{KIT_JSON} in {path}")
    refusal = DocumentRefusal(f"{path} can't be used: its {KIT_JSON} is not that of a kit:", KitError, cure=_CURE)
    file = parse_document(data, KitFile, where=f"{path}/{KIT_JSON}", syntax=JSON, format=FORMAT, refusal=refusal)
    return Kit(path, hashlib.sha256(data).hexdigest(), file)


def checksum_file(kit: Path) -> Path:
    """Where the kit's sha256 lies beside it. Python can't say what is wrong with a kit that was cut short: it takes
    that for a script, and an empty one for a script that does nothing.
    """
    return kit.with_name(f"{kit.name}.sha256")


def write_checksum(kit: Path, sha256: str) -> None:
    """Writes it as sha256sum does, for `sha256sum -c` in the directory of both; FileAccessError, DiskFullError."""
    escaped = kit.name.replace("\\", "\\\\").replace("\n", "\\n")
    mark = "\\" if escaped != kit.name else ""
    fsutil.write_file(checksum_file(kit), f"{mark}{sha256}  {escaped}\n")


def check_checksum(kit: Path) -> None:
    """PinMismatchError where the file beside a kit names a sha256 that the kit does not have, or none; nothing where
    there is no such file.

    Taken is what sha256sum writes, and a bare digest, in small letters or capitals.
    """
    path = checksum_file(kit)
    if not path.is_file():
        return
    named = _SHA256.search(fsutil.read_text(path))
    if named is None or named.group().lower() != fsutil.sha256_of(kit):
        raise PinMismatchError(
            f"The relink kit {kit} is not the file that {path.name} was written for.",
            cause="it was copied in part, or only one of the two was replaced",
            cure="copy both again, or have them made again: ./inv package --format kit",
        )


def remove_checksum(kit: Path) -> None:
    """Removes it, before another kit gets the name: an interrupted run leaves none that is of another file."""
    with fsutil.explained(checksum_file(kit)):
        checksum_file(kit).unlink(missing_ok=True)


_SHA256 = re.compile(r"\b[0-9a-fA-F]{64}\b")
_CURE = "copy the kit from where it was made once more, and compare the sha256 of both files"


class reading:  # noqa: N801 - used like a function
    """Turns whatever Python raises for a damaged zip into a KitError, and other failures to read into theirs."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (*archives.UNREADABLE, KeyError, RuntimeError)) or is_bad_offset(error):
            raise damaged(self._path, str(error).strip("'\"")) from error
        if isinstance(error, OSError):
            raise fsutil.as_error(error, self._path, doing="read") from error


def is_bad_offset(error: BaseException | None) -> bool:
    """Whether a damaged zip led to a place that no file has."""
    return isinstance(error, OSError) and error.errno == 22


def damaged(path: Path, why: str) -> KitError:
    """The error for a kit that is not what it was when it was made."""
    return KitError(
        f"{path} is not a whole relink kit ({why}).",
        cause="it was cut short or changed in transfer, or it is another file",
        cure=_CURE,
    )
