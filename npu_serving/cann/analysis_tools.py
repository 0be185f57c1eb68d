"""CANN's programs for profiles, dumps, graphs and models, in the toolkit that is installed."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.cann.install import CannInstallation
from npu_serving.cann.layout import is_there, packages
from npu_serving.documents import read_document
from npu_serving.writers.shell import Word, command_line

TABLE = Path(__file__).with_name("analysis_tools.yaml")
TOOLKIT = "toolkit"


@dataclass(frozen=True)
class AnalysisTool:
    """A row of analysis_tools.yaml, whose head says what the columns mean."""

    title: str
    files: tuple[str, ...]
    interpreters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _AnalysisToolTable:
    tools: Mapping[str, AnalysisTool]


@functools.cache
def analysis_tools() -> Mapping[str, AnalysisTool]:
    """The rows of the table, by the program's name."""
    return read_document(TABLE, _AnalysisToolTable).tools


def tool_command(name: str, arguments: Sequence[Word], installation: CannInstallation | None) -> str:
    """The installed program's command with these arguments, for a shell; "" where that CANN has no such program."""
    found = tool_path(name, installation)
    if found is None:
        return ""
    interpreter = analysis_tools()[name].interpreters.get(found.suffix)
    return command_line([*([interpreter] if interpreter else []), found, *arguments])


def tool_path(name: str, installation: CannInstallation | None) -> Path | None:
    """The file of an installed program; None where that CANN has no such program."""
    toolkit = installation.component(TOOLKIT) if installation is not None else None
    places = [toolkit.path / file for file in analysis_tools()[name].files] if toolkit is not None else []
    return next((place for place in places if is_there(place)), None)


def how_to_get(name: str, installation: CannInstallation | None) -> str:
    """What to do where a program is not installed."""
    runtime = installation.runtime if installation is not None else None
    release = runtime.version if runtime is not None else ""
    return (
        f"{name}, {analysis_tools()[name].title}, is part of CANN's toolkit, and is not installed here: "
        f"{packages()[TOOLKIT].install_command(release)}; or copy the files to a machine that has the toolkit"
    )
