"""support-bundle: one file with what somebody who helps has to see, without secrets; what is missing is named."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter, amount_text, table
from npu_serving.settings import Settings
from npu_serving.shown_text import in_a_line
from npu_serving.support.parts import MOST_BYTES, BundlePart, all_parts, learn_secrets, left_out
from npu_serving.support.redaction import Redactor
from npu_serving.tar_writer import PAX, TarWriter, compressed
from npu_serving.writers.shell import command_line

README = "README.txt"
_HEAD = """What is in this file, and why. ./inv support-bundle has made it.

Secrets were taken out: passwords, tokens, keys, logins in URLs, and the values of environment variables that are not
known to be harmless. Look through it all the same before you send it.
"""


@dataclass(frozen=True)
class SupportBundle:
    """The file, what is in it with the reason for each, and what is not with why. A dry run has made none."""

    path: Path
    parts: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    size_bytes: int = 0
    dry_run: bool = False

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "file": str(self.path),
            "parts": dict(self.parts),
            "missing": dict(self.missing),
            "size_bytes": self.size_bytes,
            "dry_run": self.dry_run,
        }

    def text(self) -> str:
        """The parts, then what is missing, then the file."""
        head = f"Would write {self.path}:" if self.dry_run else f"{self.path}: {amount_text(self.size_bytes, 'bytes')}"
        lines = [head, table([(f"  {in_a_line(name)}", why) for name, why in self.parts])]
        if self.missing:
            lines += ["Not in it:", *(f"  {in_a_line(name)}: {in_a_line(why)}" for name, why in self.missing)]
        if not self.dry_run:
            lines.append(f"Next: look through it before you send it: {command_line(['tar', '-xzf', self.path])}")
        return "\n".join(lines)


def support_bundle(
    settings: Settings,
    output: Path | None,
    deployment: Path | None,
    offered: Mapping[str, tuple[str, ...]],
    reporter: Reporter,
    *,
    dry_run: bool,
) -> SupportBundle:
    """Writes the bundle; a dry run says what would go in.

    A part that fails is listed with its error. Raises FileAccessError and RequestError where the file can't be written,
    NoSuchFileError for a deployment that isn't there.
    """
    path = output if output is not None else Path(time.strftime("support-bundle-%Y%m%d-%H%M%S.tar.gz"))
    path = path.expanduser().absolute()
    fsutil.refuse_other_than_file(path)
    fsutil.refuse_unwritable(path.parent)
    if deployment is not None:
        fsutil.read_bytes(deployment)
    redactor = Redactor()
    learn_secrets(settings, deployment, redactor)
    parts = list(all_parts(settings, deployment, offered, redactor))
    missing = list(left_out(settings))
    if dry_run:
        return SupportBundle(path, tuple((part.name, part.why) for part in parts), tuple(missing), dry_run=True)
    made = _made(parts, missing, redactor, reporter)
    included = [(part.name, part.why) for part, _ in made]
    with fsutil.new_file(path, 0o600) as file, compressed(file) as stream, TarWriter(stream, PAX) as archive:
        top = path.name.partition(".")[0]
        archive.add_bytes(f"{top}/{README}", _readme(included, missing, redactor))
        for part, data in made:
            archive.add_bytes(f"{top}/{part.name}", data)
    return SupportBundle(path, tuple(included), tuple(missing), path.stat().st_size)


def _made(
    parts: list[BundlePart], missing: list[tuple[str, str]], redactor: Redactor, reporter: Reporter
) -> list[tuple[BundlePart, bytes]]:
    made: list[tuple[BundlePart, bytes]] = []
    left = MOST_BYTES
    with reporter.progress("Collecting", total=len(parts), unit="parts") as progress:
        for done, part in enumerate(parts):
            progress.update(done, detail=part.name)
            try:
                data = part.make().encode("utf-8", "backslashreplace")
            except Exception as error:
                missing.append((part.name, redactor.text(f"{type(error).__name__}: {error}")))
                continue
            if len(data) > left:
                missing.append((part.name, f"the bundle would have more than {amount_text(MOST_BYTES, 'bytes')}"))
                continue
            left -= len(data)
            made.append((part, data))
    return made


def _readme(included: list[tuple[str, str]], missing: list[tuple[str, str]], redactor: Redactor) -> bytes:
    lines = [_HEAD, *(f"{name}\n    {redactor.text(why)}" for name, why in included)]
    if missing:
        lines += ["", "Not in it:", *(f"{name}\n    {why}" for name, why in missing)]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")
