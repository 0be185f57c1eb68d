"""render-deployment: the files of one server, compared with those that are there, and written."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.deploy.deployed_options import judged_options
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.rendering import (
    FILES,
    MARK,
    PLATFORM_CONFIG,
    SERVE_OF_THE_PACKAGE,
    START,
    UNIT,
    RenderedFile,
    files_beside,
    rendered_files,
)
from npu_serving.documents.reader import path_text
from npu_serving.errors import EXIT_ACTION_NEEDED, RequestError
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import command_line

NEW, CHANGED, REMOVED, UNCHANGED = "new", "changed", "removed", "unchanged"
HEAD_LINES = 2  # in which the mark stands, below a script's first line


@dataclass(frozen=True)
class DeploymentFiles:
    """A deployment's files, and what each of them is against what is there: new, changed, removed, unchanged."""

    directory: Path
    files: Mapping[str, RenderedFile]
    states: Mapping[str, str]
    differences: str
    warnings: tuple[str, ...] = ()
    written: bool = False
    presets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What became of the options of each preset."""
    is_check: bool = False
    """Whether only the difference was asked for."""

    @property
    def is_current(self) -> bool:
        """Whether nothing had to be done."""
        return all(state == UNCHANGED for state in self.states.values())

    @property
    def exit_code(self) -> int:
        """3 where the difference was asked for and there is one."""
        return EXIT_ACTION_NEEDED if self.is_check and not self.is_current else 0

    def to_json(self) -> dict[str, object]:
        """The directory, each file's state, and the difference."""
        return {
            "directory": str(self.directory),
            "files": dict(self.states),
            "diff": self.differences,
            "presets": {name: list(options) for name, options in self.presets.items()},
            "warnings": list(self.warnings),
            "written": self.written,
        }

    def text(self) -> str:
        """What was done, or would be; the difference where it was asked for."""
        presets = [f"preset {name}: {in_a_line('; '.join(options))}" for name, options in self.presets.items()]
        warnings = [*presets, *(f"warning: {warning}" for warning in self.warnings)]
        if self.is_current:
            return "\n".join([*warnings, f"{self.directory} is up to date."])
        if self.is_check:
            return "\n".join([*warnings, self.differences.rstrip("\n")])
        lines = [f"{self.directory / name}  ({state})" for name, state in self.states.items()]
        if not self.written:
            return "\n".join([*warnings, f"Would write into {self.directory}:", *lines])
        start = command_line([self.directory / START])
        return "\n".join(
            [
                *warnings,
                *lines,
                f"Next: {start}   (needs {SERVE_OF_THE_PACKAGE}, of ./inv package)",
                f"      or, as a service: sudo systemctl enable --now {command_line([self.directory / UNIT])}",
            ]
        )


def plan_files(
    deployment: DeploymentFile, output: Path, *, at: str = "", is_check: bool = False, note: str = ""
) -> DeploymentFiles:
    """The files of the deployment for the directory `output`, compared with those that are there; writes nothing.

    `at` is where the server will find them, `output` itself by default; `note` is one more warning. RequestError where
    a file of the same name is there that somebody else wrote.
    """
    directory = output.expanduser().absolute()
    if os.path.lexists(directory) and not directory.is_dir():
        raise RequestError(
            f"{directory} is not a directory, and a server's files are several.",
            cause="it is a file, or a link to nothing",
            cure="name a directory with --output",
        )
    files = rendered_files(deployment, _place(at) if at else directory)
    states: dict[str, str] = {}
    differences = []
    beside = files_beside(_text_of(directory / PLATFORM_CONFIG) or "")
    for name in dict.fromkeys((*beside, *files, *FILES)):
        path, wanted = directory / name, files.get(name)
        there = _text_of(path)
        is_ours = name in beside or there is None or _is_ours(there)
        if not is_ours and not (wanted is not None and wanted.text == there):
            if wanted is None:
                continue
            raise RequestError(
                f"{path} is already there, and was not written by render-deployment; nothing was changed.",
                cause="it was written by hand or by another program",
                cure=f"choose another --output, or move it away: {command_line(['mv', path, f'{path}.old'])}",
            )
        if wanted is None and there is None:
            continue
        states[name] = _state(path, there, wanted)
        if states[name] != UNCHANGED:
            differences.append(_difference(path, there, wanted))
    return DeploymentFiles(
        directory,
        files,
        states,
        "".join(differences),
        (*_warnings(deployment), *([note] if note else [])),
        presets=deployment.expanded_presets(),
        is_check=is_check,
    )


def write_files(plan: DeploymentFiles) -> DeploymentFiles:
    """Writes what is new or changed, and removes what the deployment no longer has."""
    fsutil.make_directory(plan.directory)
    for name, state in plan.states.items():
        if state == REMOVED:
            fsutil.remove(plan.directory / name)
        elif state != UNCHANGED:
            fsutil.write_file(plan.directory / name, plan.files[name].text, mode=plan.files[name].mode)
    return replace(plan, written=True)


def _place(at: str) -> Path:
    if not at.startswith("/"):
        raise RequestError(
            f"--at must be an absolute path, not {at!r}.",
            cause="the server's flags name its files by it",
            cure="write the whole path, such as --at /etc/npu-serving",
        )
    return Path(at)


def _text_of(path: Path) -> str | None:
    """The text of a file that is there; "" for anything else of that name, such as a directory."""
    if path.is_file():
        return fsutil.read_text(path)
    return "" if path.exists() or path.is_symlink() else None


def _is_ours(text: str) -> bool:
    return any(line == f"# {MARK}" for line in text.split("\n", HEAD_LINES)[:HEAD_LINES])


def _state(path: Path, there: str | None, wanted: RenderedFile | None) -> str:
    if wanted is None:
        return REMOVED
    if there is None:
        return NEW
    same_mode = stat.S_IMODE(path.stat().st_mode) == wanted.mode and not path.is_symlink()
    return UNCHANGED if there == wanted.text and same_mode else CHANGED


def _difference(path: Path, there: str | None, wanted: RenderedFile | None) -> str:
    """A unified diff; of a file that holds or held secrets only that it differs."""
    before = path.name if there is not None else "/dev/null"
    after = path.name if wanted is not None else "/dev/null"
    was_confidential = there is not None and not stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH
    if was_confidential or (wanted is not None and wanted.confidential):
        return f"--- {before}\n+++ {after}\n@@ only its owner may read it: its lines are not shown @@\n"
    new = wanted.text if wanted is not None else ""
    lines = difflib.unified_diff((there or "").splitlines(True), new.splitlines(True), before, after)
    text = "".join(lines)
    if not text and wanted is not None:
        return f"--- {before}\n+++ {after}\n@@ its mode is to be {wanted.mode:o} @@\n"
    return text


def _warnings(deployment: DeploymentFile) -> tuple[str, ...]:
    if not deployment.uses_npu():
        return ("there is no npu section, so the CPU serves every model",)
    found = (finding for finding in judged_options(deployment) if not finding.is_mistake)
    return tuple(f"{path_text(finding.place)}: {finding.message}" for finding in found)
