"""check-model: what is wrong with a model's directory, or with one file of a model, without starting anything.

The rules are those by which check-deployment looks at the models of a deployment (model_checks/).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.builds import manifest
from npu_serving.builds.current import find_build
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import cann_of
from npu_serving.cann.operator_list import operator_lists
from npu_serving.checking.npu_share import NpuShare, share_findings, shares_of
from npu_serving.checking.server_operators import with_server_operators
from npu_serving.checking.shown_models import described, model_json, signature_lines, worst_first
from npu_serving.console import Reporter
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.model_checks import CheckedModel, CheckedVersion, check_model_of
from npu_serving.errors import EXIT_ACTION_NEEDED, NpuServingError, RequestError
from npu_serving.findings import Finding, as_finding
from npu_serving.fsutil import explained
from npu_serving.model_checks.file_check import check_file
from npu_serving.model_checks.naming import BASE_PATH, MODEL_DIRECTORY, task_naming
from npu_serving.model_checks.version_check import VersionCheck, check_version
from npu_serving.model_checks.version_directories import check_versions, holds_model
from npu_serving.models.layout import MODEL_LAYOUT, model_name_of
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import Settings
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import command_line, shell_word

SERVER = "server"


@dataclass(frozen=True)
class ModelCheckRequest:
    """What to check: a path, which of its versions, with which tags, and how closely."""

    path: Path
    version: int | None = None
    all_versions: bool = False
    tags: tuple[str, ...] = ("serve",)
    quick: bool = False


@dataclass(frozen=True)
class ModelCheck:
    """What was found. `shares` are the forecasts for the NPU by version, where lists of operators are here."""

    path: Path
    model: CheckedModel
    findings: tuple[Finding, ...]
    shares: Mapping[int, tuple[NpuShare, ...]] = field(default_factory=dict)
    next_step: str = ""

    @property
    def exit_code(self) -> int:
        """3 where something has to be done before it can be served, else 0."""
        return EXIT_ACTION_NEEDED if any(finding.needs_action for finding in self.findings) else 0

    def to_json(self) -> dict[str, object]:
        """The versions with their signatures and forecasts, and the findings."""
        return {
            "path": str(self.path),
            "versions": model_json(self.model, self.shares)["versions"],
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "where": finding.where,
                    "what": finding.what,
                    "cure": finding.cure,
                    "details": list(finding.details),
                }
                for finding in self.findings
            ],
            "next": self.next_step if not self.exit_code else "",
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """The signatures, then problems with their cures, warnings, notes, and what comes next."""
        parts = [f"{self.path}:"]
        for version in self.model.versions:
            number = f"version {version.number}" if version.path.name.isdecimal() else "without a number"
            parts.append(f"  {number}: {version.path}")
            parts += signature_lines(version.graph)
            parts += [f"    {in_a_line(share.text())}" for share in self.shares.get(version.number, ()) if share.nodes]
        parts += described(self.findings, {})
        return "\n".join([*parts, "", self._conclusion()])

    def _conclusion(self) -> str:
        problems = sum(finding.needs_action for finding in self.findings)
        if problems:
            return (
                "1 problem keeps it from being served."
                if problems == 1
                else f"{problems} problems keep it from being served."
            )
        return "Nothing keeps it from being served." + (f"\nNext: {self.next_step}" if self.next_step else "")


def check_model(
    settings: Settings,
    asked: ModelCheckRequest,
    reporter: Reporter,
    *,
    build: str = "",
    server: Path | None = None,
    deployment: DeploymentFile | None = None,
) -> ModelCheck:
    """What is wrong with the model, and with what a server (that of the build, or `server`) knows of its operators.

    With a deployment, the model is checked as its server would load it. Raises RequestError for a path, a build or a
    server that is not there, and for a deployment that does not have the model.
    """
    path = asked.path.absolute()
    if not os.path.lexists(path):
        raise RequestError(f"The model {path} does not exist.", cause=MODEL_LAYOUT, cure="check the path")
    files = _server_files(settings, build, server)
    model = _of_deployment(path, deployment) if deployment is not None else _checked(path, asked, reporter)
    findings: Sequence[Finding] = model.findings
    if files:
        try:
            findings = with_server_operators(findings, files, [model])
        except NpuServingError as error:
            findings = [*findings, as_finding(error, SERVER, str(files[0]))]
    shares = _shares(settings, model)
    findings = [*findings, *share_findings(model, shares)]
    base = next((version.path.parent for version in model.versions), path)
    step = f"./inv init-deployment --model {command_line([f'{base.name}={base}'])}" if model.versions else ""
    return ModelCheck(path, model, worst_first(findings), shares, step)


def _checked(path: Path, asked: ModelCheckRequest, reporter: Reporter) -> CheckedModel:
    """The versions that are asked for, of a directory of versions, or the one version or file that was named."""
    if not path.is_dir():
        if holds_model(path.parent) and path.name in ("saved_model.pb", "saved_model.pbtxt"):
            return _checked(path.parent, asked, reporter)
        return CheckedModel(path.name, str(path), (), tuple(check_file(path)), {})
    if holds_model(path) or (re.fullmatch("[0-9]+", path.name) and not _has_versions(path)):
        return _version_alone(path, asked, reporter)
    naming = task_naming(path)
    findings: list[Finding] = []
    versions: list[CheckedVersion] = []
    numbers = () if asked.version is None else (asked.version,)
    latest = 0 if asked.all_versions or numbers else 1
    try:
        with explained(path, doing="read"):
            for item in check_versions(path, path.name, naming, latest=latest, numbers=numbers):
                if isinstance(item, Finding):
                    findings.append(item)
                    continue
                found = _check(item[1], asked, reporter)
                versions.append(CheckedVersion(item[0], item[1], found.graph))
                findings += found.findings
    except NpuServingError as error:
        findings.append(as_finding(error, MODEL_DIRECTORY, str(path)))
    return CheckedModel(path.name, str(path), tuple(versions), tuple(findings), {})


def _version_alone(path: Path, asked: ModelCheckRequest, reporter: Reporter) -> CheckedModel:
    """One version that was named itself: a number, or a directory that is to get one."""
    if asked.version is not None or asked.all_versions:
        raise RequestError(
            f"{path} is one version of a model.",
            cause="--version and --all-versions choose among the versions in a directory",
            cure=f"leave it out, or name {path.parent}",
        )
    found = _check(path, asked, reporter)
    findings = list(found.findings)
    number = int(path.name) if re.fullmatch("[0-9]{1,18}", path.name) else 0
    if not re.fullmatch("[0-9]{1,18}", path.name):
        what = f"{path} has a model, and its name is not the number of a version: {MODEL_LAYOUT}."
        cure = f"./inv publish-model {shell_word(path)} --to models/{model_name_of(path)} gives it one"
        findings.append(Finding(what, cure, kind=BASE_PATH, where=str(path)))
    version = CheckedVersion(number, path, found.graph)
    return CheckedModel(path.parent.name, str(path.parent), (version,), tuple(findings), {})


def _check(directory: Path, asked: ModelCheckRequest, reporter: Reporter) -> VersionCheck:
    return check_version(directory, asked.tags, with_checksums=not asked.quick, reporter=reporter)


def _has_versions(path: Path) -> bool:
    with explained(path, doing="read"):
        return any(re.fullmatch("[0-9]+", each) for each in os.listdir(path))


def _of_deployment(path: Path, deployment: DeploymentFile) -> CheckedModel:
    """The model of the deployment that is there, checked as its server would load it."""
    real = {os.path.realpath(path), os.path.realpath(path.parent)}
    for index, model in enumerate(deployment.models):
        if os.path.realpath(model.base_path) in real:
            return check_model_of(deployment, index)
    there = ", ".join(in_a_line(each.base_path) for each in deployment.models[:5])
    raise RequestError(
        f"The deployment has no model at {path}.",
        cause=f"its models are at {there}",
        cure="name one of these directories, or leave --deployment out",
    )


def _server_files(settings: Settings, build: str, server: Path | None) -> list[Path]:
    """The files that have the names of a server's operators: of the one named, or of the current build."""
    if server is not None:
        if not os.path.isfile(server):  # noqa: PTH113 - Path.is_file() raises where it is shut
            raise RequestError(f"The server {server} does not exist.", cure="name an existing tensorflow_model_server")
        return [server, *sorted(server.parent.glob("*.so*")), *sorted((server.parent.parent / "lib").glob("*.so*"))]
    try:
        found = find_build(settings.dist_root, build)
    except NpuServingError:
        if build:
            raise
        return []
    return [found.directory / manifest.SERVER, *sorted((found.directory / "lib").glob("*.so*"))]


def _shares(settings: Settings, model: CheckedModel) -> Mapping[int, tuple[NpuShare, ...]]:
    """How much of each signature may run on the NPU; nothing where no CANN with its lists is here."""
    try:
        installation = cann_of(with_sample(settings)).installation
        lists = operator_lists(cann_environment(installation, os.environ).added_to(os.environ))
    except NpuServingError:
        return {}
    return {} if lists.are_empty else shares_of(model, lists)
