"""Which models a running server has by now: a list may have taken the place of the one that it was started with."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.serving.server_record import ServerRecord, keep, read_kept

_POLLS = re.compile(r"--model_config_file_poll_wait_seconds=0*[1-9][0-9]*")


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
    keep(_path_of(build_root, record), note)


def reload_of(build_root: Path, record: ServerRecord) -> ReloadNote | None:
    """The last list that this very process got; None where it has the one that it was started with."""
    note = read_kept(_path_of(build_root, record), ReloadNote)
    is_its = note is not None and (note.pid, note.process_begin) == (record.pid, record.process_begin)
    return note if is_its else None


def model_names(record: ServerRecord, build_root: Path) -> tuple[str, ...]:
    """What a running server's models are called by now: one that has read its list again may have others."""
    if polls_its_list(record.argv):
        from npu_serving.serving.asked_models import asked_models  # a probe has no time for it otherwise

        return tuple(model.name for model in asked_models(record.argv)) or record.models
    note = reload_of(build_root, record)
    return note.models if note is not None else record.models


def polls_its_list(argv: Sequence[str]) -> bool:
    """Whether a server with that command line looks at its list of models again by itself."""
    return any(_POLLS.fullmatch(word) for word in argv)


def _path_of(build_root: Path, record: ServerRecord) -> Path:
    return build_root / "servers" / f"{record.name}.reloaded.json"
