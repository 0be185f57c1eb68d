"""All rules on one version directory of a model, whoever asks: check-model, check-deployment or publish-model."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.console import Reporter, Silent
from npu_serving.errors import NpuServingError
from npu_serving.findings import Finding, as_finding
from npu_serving.fsutil import explained
from npu_serving.model_checks.devices import check_devices
from npu_serving.model_checks.examined import ExaminedGraph
from npu_serving.model_checks.loading import check_loading
from npu_serving.model_checks.naming import MODEL_DIRECTORY, Naming, damaged, task_naming
from npu_serving.model_checks.operators import check_attributes, check_operators
from npu_serving.model_checks.security import check_dangerous_operators, check_outside_files
from npu_serving.model_checks.signatures import check_signatures
from npu_serving.model_checks.structure import check_structure
from npu_serving.model_checks.variables import check_variables
from npu_serving.model_checks.version_files import read_version
from npu_serving.model_checks.warm_up import WarmUpRequest, check_warm_up_file, check_warm_up_requests
from npu_serving.models.saved_model import MetaGraph
from npu_serving.wire_bytes import MalformedMessageError

_RULES = (
    check_signatures,
    check_operators,
    check_attributes,
    check_structure,
    check_loading,
    check_devices,
    check_dangerous_operators,
    check_outside_files,
)
"""The rules on the graph itself, in the order in which a person wants to know."""


@dataclass(frozen=True)
class VersionCheck:
    """What was found in a version directory, and its graph of the tags that are asked for; None without such a one."""

    graph: MetaGraph | None
    findings: tuple[Finding, ...]
    warm_up: tuple[WarmUpRequest, ...] = ()


def check_version(
    directory: Path,
    tags: Collection[str] = ("serve",),
    *,
    naming: Naming | None = None,
    warm_up: bool = True,
    with_checksums: bool = False,
    reporter: Reporter | None = None,
) -> VersionCheck:
    """What a server would fail at, or do unasked; `warm_up` is whether it reads the requests recorded for that.

    `with_checksums` reads all values of the variables; else only the sizes of their files are compared. `naming` is how
    the cures name the model; without it as a task's argument. Nothing is raised for a directory that is not as it
    should be: each trouble is a finding.
    """
    naming = naming or task_naming(directory)
    model = None
    findings: list[Finding] = []
    requests: tuple[WarmUpRequest, ...] = ()
    try:
        with explained(directory, doing="read"):
            saved, findings = read_version(directory, tags, naming)
            gc.freeze()  # the graph is there until all is checked: no collection need look at it again
            if saved is not None:
                model = ExaminedGraph(directory, saved.graph.file, saved)
                findings += check_variables(model, reporter or Silent(), with_checksums=with_checksums)
            if warm_up:
                is_there, of_warm_up = check_warm_up_file(directory, naming)
                if is_there and model is not None:
                    requests, of_warm_up = check_warm_up_requests(model, naming)
                findings += of_warm_up
            if model is not None:
                findings += _by_rules(model)
    except NpuServingError as error:
        findings.append(as_finding(error, MODEL_DIRECTORY, str(directory)))
    except MalformedMessageError as error:
        findings.append(damaged(model.file if model is not None else directory, error))
    return VersionCheck(model.content if model is not None else None, tuple(dict.fromkeys(findings)), requests)


def _by_rules(model: ExaminedGraph) -> Iterator[Finding]:
    for rule in _RULES:
        yield from rule(model)
