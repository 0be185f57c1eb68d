"""Files in CANN's library of operators that its packages do not contain, or that somebody changed since.

The guide's 5.1 has people make such a file writable and change it in place, which counts for every model of the
machine; and whatever .json is kept beside it is loaded too. No package has checksums of these files: its filelist.csv
has NA for them. So what is compared is what an installer leaves alike: the write permission, and when it was written.
"""

from __future__ import annotations

import csv
import os
import re
import stat
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.cann.operator_library import CONFIG, MODES, library_files
from npu_serving.cann.operator_list import list_in
from npu_serving.findings import WARNING, Finding
from npu_serving.writers.shell import command_line

KIND = "operator-library"
_NAME = re.compile(r"aic-[\w.]+-ops-info(?:-[\w.]+)?\.json", re.ASCII)
_AN_INSTALLATION_S = 3600.0
"""As long as an installation takes at the most: what is written within it belongs to it."""


@dataclass(frozen=True)
class _Written:
    """When a file was written, in seconds since the epoch, and whether its owner may write to it."""

    at: float
    is_writable: bool


def library_findings(opp: Path) -> Iterator[Finding]:
    """A warning for each file that is additional or was changed, in that directory of operator packages."""
    files = [file for _, file in library_files(opp)]
    listed = _listed(opp)
    beside = {path: found for path in (*files, opp / MODES, list_in(opp)) if (found := _written(path)) is not None}
    for file in files:
        if _is_additional(file, listed, opp):
            what = f"{file} did not come with CANN, and every .json file in that directory is loaded"
            aside = opp.parent / f"{file.name}.kept"
            yield Finding(what, f"move it out of there: {command_line(['mv', file, aside])}", WARNING, KIND, str(file))
        elif file in beside:
            why = _why_changed(file, beside, opp)
            if why:
                what = f"{file} was changed after CANN was installed ({why}); that counts for every model"
                cure = "install CANN's operators again, and write the change under npu (./inv explain modify_mixlist)"
                yield Finding(what, cure, WARNING, KIND, str(file))


def _is_additional(file: Path, listed: frozenset[str], opp: Path) -> bool:
    """Whether CANN's lists of its own files lack it; where these name none in that directory, its name tells."""
    place = file.relative_to(opp).as_posix()
    directory = place.rpartition("/")[0] + "/"
    if any(each.startswith(directory) and each.endswith(".json") for each in listed):
        return place not in listed
    return _NAME.fullmatch(file.name) is None


def _why_changed(file: Path, beside: dict[Path, _Written], opp: Path) -> str:
    """By what the file differs from those that were installed with it; "" where it doesn't."""
    others = [found for path, found in beside.items() if path != file]
    written = beside[file]
    if written.is_writable and others and 2 * sum(each.is_writable for each in others) < len(others):
        return "its owner may write to it, unlike the files beside it"
    records = [found.at for path in _records(opp) if (found := _written(path)) is not None]
    usual = statistics.median(each.at for each in beside.values())
    if records and len(beside) > 2 and written.at > max(*records, usual) + _AN_INSTALLATION_S:
        return "it is newer than the files beside it and CANN's own records"
    return ""


def _records(opp: Path) -> list[Path]:
    """What an installer writes, and nobody else."""
    home = opp.parent
    infos = [
        path for pattern in ("ascend_*_install.info", "*-linux/ascend_*_install.info") for path in home.glob(pattern)
    ]
    return [opp / "version.info", home / "version.cfg", *_lists(opp), *infos]


def _lists(opp: Path) -> list[Path]:
    return [opp / "script/filelist.csv", *opp.parent.glob("share/info/*/script/filelist.csv")]


def _written(path: Path) -> _Written | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return _Written(found.st_mtime, bool(found.st_mode & stat.S_IWUSR)) if stat.S_ISREG(found.st_mode) else None


def _listed(opp: Path) -> frozenset[str]:
    """The files of the library that CANN's packages say that they contain, relative to the directory of operators."""
    found: set[str] = set()
    for path in _lists(opp):
        try:
            with path.open(encoding="utf-8", errors="replace", newline="") as opened:
                for row in csv.DictReader(opened):
                    _, config, place = os.path.normpath(row.get("relative_install_path") or "").partition(f"{CONFIG}/")
                    found |= {config + place} if config else set()
        except (OSError, csv.Error):
            continue
    return frozenset(found)
