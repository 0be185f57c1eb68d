"""The best setting written into the deployment file, with the table that it was chosen by in a comment above it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from npu_serving import fsutil
from npu_serving.documents.yaml_edit import UneditableError, edited
from npu_serving.errors import RequestError
from npu_serving.tuning.knobs import TunedSetting

MARK = "# tune: "
_MOST_ROWS = 20


def tuned_text(text: str, setting: TunedSetting, table: Sequence[str], *, mark: str = MARK) -> str:
    """The text of the file with the setting, and with these lines as a comment in place of those that begin so already.

    Raises UneditableError.
    """
    beginning = "\ufeff" if text.startswith("\ufeff") else ""  # as some editors write it; it counts there alone
    text = text[len(beginning) :]
    newline = "\r\n" if "\r\n" in text else "\n"
    comment = "".join(f"{mark}{line}".rstrip() + newline for line in table[: _MOST_ROWS + 2])
    former = re.compile(rf"(?m)^{re.escape(mark)}.*\n?")
    return beginning + comment + edited(former.sub("", text), dict(setting.values))


def write_tuned(file: Path, text_before: str, setting: TunedSetting, table: Sequence[str], *, mark: str = MARK) -> None:
    """Puts the setting into the file. RequestError, with what to write, where it has changed or can't be edited."""
    try:
        if fsutil.read_text(file) != text_before:
            raise UneditableError("it was changed in the meantime")
        fsutil.write_file(file, tuned_text(text_before, setting, table, mark=mark))
    except UneditableError as error:
        raise RequestError(
            f"{file} is as it was: {error}.",
            cause="only single values are written into it, and nothing else of it may change",
            cure=f"write it yourself: {'; '.join(setting.flags)}",
        ) from error
