"""All rules on one version directory of a model, whoever asks: check-model, check-deployment or publish-model."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from npu_serving.errors import NpuServingError
from npu_serving.findings import Finding
from npu_serving.fsutil import explained
from npu_serving.model_checks.naming import MODEL_DIRECTORY, Naming, task_naming
from npu_serving.model_checks.security import check_dangerous_operators
from npu_serving.model_checks.signatures import check_signatures
from npu_serving.model_checks.version_files import check_warm_up, read_version
from npu_serving.models.saved_model import MetaGraph


@dataclass(frozen=True)
class VersionCheck:
    """What was found in a version directory, and its graph of the tags that are asked for; None without such a one."""

    graph: MetaGraph | None
    findings: tuple[Finding, ...]


def check_version(
    directory: Path, tags: Collection[str] = ("serve",), *, naming: Naming | None = None, warm_up: bool = True
) -> VersionCheck:
    """What a server would fail at, or do unasked; `warm_up` is whether it reads the requests recorded for that.

    `naming` is how the cures name the model; without it as a task's argument.

    Nothing is raised for a directory that is not as it should be: each trouble is a finding.
    """
    naming = naming or task_naming(directory)
    graph = None
    findings: list[Finding] = []
    try:
        with explained(directory, doing="read"):
            graph, findings = read_version(directory, tags, naming)
            findings += check_warm_up(directory, naming) if warm_up else []
    except NpuServingError as error:
        findings.append(Finding(error.what, error.cure, kind=MODEL_DIRECTORY, where=str(directory)))
    if graph is not None:
        findings += check_signatures(graph, directory)
        findings += check_dangerous_operators(graph, directory)
    return VersionCheck(graph, tuple(findings))
