"""The answers of two servers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, check_timeout, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    kinds={"directory": Path, "timeout": int},
    help={
        "first": "the server whose answers count: http://HOST:8501, or grpc://HOST:8500",
        "second": "the server that is compared with it",
        "golden": "the golden request to ask, by its name (repeatable); all by default",
        "directory": "where the golden requests are; golden/ beside the builds by default",
        "update_tolerances": "write what was measured, with a margin, into the golden requests",
        "timeout": "for how many seconds an answer is waited for; 600 by default",
    },
)
def compare_answers(
    call: Call,
    first: str,
    second: str,
    golden: tuple[str, ...] = (),
    directory: Path | None = None,
    update_tolerances: bool = False,
    timeout: int = 600,
) -> Result:
    """Ask two servers the same golden requests, and show how far their answers agree."""
    from npu_serving.asking.compare_answers import compare_answers as compared
    from npu_serving.asking.golden_files import read_golden_requests
    from npu_serving.serving.golden_request import golden_requests

    check_timeout(timeout)
    found = read_golden_requests(directory) if directory is not None else golden_requests(call.settings)
    return compared(found, golden, first, second, timeout_s=timeout, reporter=call.console, update=update_tolerances)
