"""Building on somebody else's machine, after each change."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    kinds={"output": Path},
    help={
        "system": "gitlab, github or jenkins",
        "output": "the directory for the file, the project's by default; or the file itself (.yml, Jenkinsfile)",
    },
)
def init_ci(_call: Call, system: str, output: Path | None = None, dry_run: bool = False) -> Result:
    """Write the file with which a CI system builds the server without CANN, keeping its caches."""
    from npu_serving import ci_files

    return ci_files.init_ci(system, output, dry_run=dry_run)
