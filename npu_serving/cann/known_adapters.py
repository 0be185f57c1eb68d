"""What the adapters of known releases need of the server: data of this project, of the sample, and of the user's own.

A symbol is needed of the server where its name says so (elf/owners.py); the names are mangled, as the loader has them.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from npu_serving import fsutil
from npu_serving.cann.adapter import Adapter, adapter_at
from npu_serving.documents import DocumentRefusal, Rule, read_document
from npu_serving.elf.compat import undefined_needs
from npu_serving.elf.owners import SERVER, owner_by_name
from npu_serving.elf.symbols import ElfFile
from npu_serving.errors import AdapterError, RequestError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.sample import SAMPLE_DIRECTORY

OF_THE_PROJECT = Path(__file__).with_name("known_adapters.json")
OF_THE_SAMPLE = SAMPLE_DIRECTORY / "known_adapters.json"
OF_SAMPLE = "sample"
"""What stands for the version of Serving where the tree is the sample's."""
FORMAT = 1
KNOWN, NONE = "known", "none"
_LIKE = 0.9  # how like another name a mistyped one is: 6.3.RC2 and 6.3.RC1 are two releases
_RELEASE = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z._+-]*[0-9A-Za-z])?\Z")


def _no_release(name: str) -> str:
    return "" if is_release(name) else "is not the name of a release, such as 8.0.0"


def is_release(name: str) -> bool:
    """Whether a release can have that name, which is the name of its file as well."""
    return bool(_RELEASE.match(name)) and name not in (KNOWN, NONE)


@dataclass(frozen=True)
class KnownAdapter:
    """What the adapter of one release needs of the server, sorted."""

    release: Annotated[str, Rule(check=_no_release)]
    serving: str
    """The version of TensorFlow Serving that it is for, or OF_SAMPLE."""
    source: str
    """Where the symbols were read."""
    symbols: tuple[str, ...]
    sha256: str = ""
    """The adapter's, where it was read from a file on this machine."""

    def to_json(self) -> dict[str, object]:
        """As it is in a file."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class AdapterList:
    """A file of them."""

    adapters: tuple[KnownAdapter, ...]
    format: int = field(default=FORMAT)


def needed_of_server(adapter: ElfFile) -> tuple[str, ...]:
    """The symbols that an adapter needs of the server, sorted."""
    return tuple(name for name in undefined_needs(adapter) if owner_by_name(name).kind == SERVER)


def needed_by(adapter: Adapter) -> tuple[str, ...]:
    """The same of an adapter that somebody has named. AdapterError for another library, or a program.

    A server asks for the adapter by its SONAME; one that was linked without it is known by what it needs.
    """
    named, soname, symbols = adapter.wheel or adapter.path, adapter.elf.soname, needed_of_server(adapter.elf)
    why = "" if symbols else "it needs nothing of the server"
    if soname and soname not in (ADAPTER_SONAME, f"lib{ADAPTER_SONAME}"):
        why = f"its SONAME is {soname}, and a server asks for {ADAPTER_SONAME}"
    if why:
        raise AdapterError(
            f"{named} is not the TF Adapter: {why}.",
            cause="it is another file, or a stub in its place",
            cure="name the _tf_adapter.so that CANN's package or the wheel npu_bridge holds",
        )
    return symbols


def known_adapters(serving: str, own: Path) -> tuple[KnownAdapter, ...]:
    """Those that are known for that version of Serving; `own` is the directory of the user's.

    A release that the user has read counts as it was read, also once this project knows it: it is the adapter that is
    there. Raises RequestError for a file of the user's that is damaged, and for two that differ about one release.
    """
    found, errors = readable_adapters(serving, own)
    if errors:
        raise errors[0]
    return found


def readable_adapters(serving: str, own: Path) -> tuple[tuple[KnownAdapter, ...], tuple[RequestError, ...]]:
    """The same, of what can be read, and the errors: for whoever only compares with what is known."""
    found = {item.release: item for item in _read(OF_THE_SAMPLE if serving == OF_SAMPLE else OF_THE_PROJECT)}
    of_user, errors = _of_user(own, serving)
    found |= {release: item for release, (_, item) in of_user.items()}
    return tuple(item for item in found.values() if item.serving == serving), errors


def own_adapters(own: Path, serving: str) -> dict[str, tuple[Path, KnownAdapter]]:
    """Those that the user has read for that version of Serving, with their files, by release; errors as above."""
    found, errors = _of_user(own, serving)
    if errors:
        raise errors[0]
    return found


def _of_user(own: Path, serving: str) -> tuple[dict[str, tuple[Path, KnownAdapter]], tuple[RequestError, ...]]:
    """Of two that differ about one release the first counts."""
    found: dict[str, tuple[Path, KnownAdapter]] = {}
    errors: list[RequestError] = []
    for path in sorted(own.glob("*.json")):
        try:
            items = _read(path)
        except RequestError as error:
            errors.append(error)
            continue
        for item in items:
            first, same = found.setdefault(item.release, (path, item)) if item.serving == serving else (path, item)
            if same.symbols != item.symbols:
                what = f"{path}: the adapter of {item.release} is known already, and needs something else there."
                cause = f"{first} is about the same release"
                cure = "remove one of the two, or give the release in it another name"
                errors.append(RequestError(what, cause=cause, cure=cure))
    return found, tuple(errors)


def wanted_adapters(
    words: Sequence[str], known: Sequence[KnownAdapter], wheels: Path, recorded: Sequence[KnownAdapter] = ()
) -> tuple[KnownAdapter, ...]:
    """What the setting `also_fits` means: of the known ones, and of files; wheels are unpacked below `wheels`.

    A file that is among the `recorded` ones is not read: it counts as what it was when it was recorded.
    Raises RequestError for a release that is not known, AdapterError for a file that isn't an adapter for this machine.
    """
    if NONE in words and set(words) != {NONE}:
        raise RequestError("also_fits has `none` beside others.", cure=f"leave --also-fits {NONE} out, or the others")
    wanted: dict[str, KnownAdapter] = {}
    for word in words:
        wanted |= {item.release: item for item in _meant(word, known, wheels, recorded)}
    return tuple(wanted.values())


def _meant(
    word: str, known: Sequence[KnownAdapter], wheels: Path, recorded: Sequence[KnownAdapter]
) -> Iterable[KnownAdapter]:
    if word in (KNOWN, NONE):
        return known if word == KNOWN else ()
    named = [item for item in (*known, *recorded) if item.release == word]
    if named:
        return named
    if "/" in word:  # the settings have made a path of every word that looks like a file's
        try:
            adapter = adapter_at(Path(word), "", wheels)
            symbols = needed_by(adapter)
        except AdapterError as error:  # whose cure is about the adapter that is linked with
            raise AdapterError(
                f"also_fits: {error.what}",
                cause=error.cause,
                cure=f"name a _tf_adapter.so for this machine, or its wheel, or leave {word} out of also_fits",
            ) from error
        return [KnownAdapter(word, "", f"read from {word}", symbols, adapter.sha256)]
    near = difflib.get_close_matches(word.upper(), [item.release.upper() for item in known], n=1, cutoff=_LIKE)
    meant = next((item.release for item in known if item.release.upper() in near), "")
    releases = ", ".join(item.release for item in known) or "none yet"
    raise RequestError(
        f"The adapter of {word!r} is not known.",
        cause=f"for this version of TensorFlow Serving these are known: {releases}",
        cure=(f"did you mean {meant}? Else: " if meant else "")
        + f"./inv adapter-needs FILE --add {word if is_release(word) else 'RELEASE'}, with its _tf_adapter.so or "
        "wheel; or name the file itself, by a path with a / in it",
    )


def write_known(path: Path, adapter: KnownAdapter) -> None:
    """Puts it into a file of the user's, in the place of what it said of that release; what else it says stays.

    RequestError for a file that is damaged.
    """
    others = _read(path) if path.is_file() else ()
    kept = (item for item in others if (item.release, item.serving) != (adapter.release, adapter.serving))
    document = {"format": FORMAT, "adapters": [item.to_json() for item in (*kept, adapter)]}
    fsutil.write_file(path, json.dumps(document, indent=1) + "\n")


def _read(path: Path) -> tuple[KnownAdapter, ...]:
    refusal = DocumentRefusal(
        f"{path} is not a list of what adapters need:",
        RequestError,
        cause="it was written by hand, or damaged",
        cure=f"remove it, then ./inv adapter-needs FILE --add {path.stem}",
    )
    return read_document(path, AdapterList, format=FORMAT, refusal=refusal).adapters
