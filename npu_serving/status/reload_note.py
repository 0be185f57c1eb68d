"""What is kept of a list of models that a running server was given in place of the one that it was started with."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents import DocumentRefusal, read_document
from npu_serving.errors import NpuServingError, ServerError
from npu_serving.serving.server_record import FORMAT, ServerRecord

_REFUSAL = DocumentRefusal("not a note of a reload:", ServerError, "", "")


@dataclass(frozen=True)
class ReloadNote:
    """Which process got it, when (in seconds since the epoch), its models, and the digest of all files by then."""

    pid: int
    process_begin: int
    at: float
    models: tuple[str, ...]
    digest: str = ""


def note_reload(build_root: Path, record: ServerRecord, models: Sequence[str], digest: str = "") -> None:
    """Keeps that this server has these models now."""
    note = ReloadNote(record.pid, record.process_begin, time.time(), tuple(models), digest)
    with contextlib.suppress(OSError, NpuServingError):
        fsutil.write_file(_path_of(build_root, record), json.dumps({"format": FORMAT, **asdict(note)}, indent=2) + "\n")


def reload_of(build_root: Path, record: ServerRecord) -> ReloadNote | None:
    """The last list that this very process got; None where it has the one that it was started with."""
    path = _path_of(build_root, record)
    if not path.is_file():
        return None
    try:
        note = read_document(path, ReloadNote, format=FORMAT, ignore_unknown=True, refusal=_REFUSAL)
    except NpuServingError:
        return None
    return note if (note.pid, note.process_begin) == (record.pid, record.process_begin) else None


def _path_of(build_root: Path, record: ServerRecord) -> Path:
    return build_root / "servers" / f"{record.name}.reloaded.json"
