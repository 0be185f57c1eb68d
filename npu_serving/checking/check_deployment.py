"""check-deployment: what is wrong with a deployment and with what it names, all at once and without starting anything.

Whether the file is right by itself, its reader has said before. Each check here looks at one part of the world.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import find_build
from npu_serving.builds.manifest import Build
from npu_serving.builds.verify import verify_found_build
from npu_serving.cann.adapter_words import unknown_words
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import Cann, cann_of
from npu_serving.cann.library_changes import library_findings
from npu_serving.cann.operator_library import OperatorLibrary, directory_of_operators, operator_library
from npu_serving.cann.operator_list import KIND as OPERATOR_LIST
from npu_serving.cann.operator_list import OperatorLists, finding_for, operator_lists
from npu_serving.checking.first_answer import check_first_answer
from npu_serving.checking.machine_checks import check_machine
from npu_serving.checking.memory_forecast import check_memory
from npu_serving.checking.npu_share import NpuShare, share_findings, shares_of, sunk_range_findings
from npu_serving.checking.server_operators import with_server_operators
from npu_serving.checking.shown_models import described, model_json, model_lines, worst_first
from npu_serving.deploy import (
    auxiliary_checks,
    batching_checks,
    device_checks,
    gear_checks,
    library_checks,
    range_checks,
    tls_checks,
)
from npu_serving.deploy.channel_checks import check_channel_arguments
from npu_serving.deploy.deployed_options import check_shared_memory
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_places import PlacedDeployment, option_place
from npu_serving.deploy.device_checks import OPTION, check_devices
from npu_serving.deploy.model_checks import CheckedModel, check_models
from npu_serving.deploy.older_precision import precision_note
from npu_serving.deploy.preset_values import filled_in, with_its_cann
from npu_serving.deploy.rendering import rendered_files, server_variables
from npu_serving.deploy.tls_checks import check_tls, check_unencrypted
from npu_serving.documents import SourcePlace
from npu_serving.errors import EXIT_ACTION_NEEDED, EXIT_BAD_REQUEST, NpuServingError, RequestError
from npu_serving.findings import NOTE, WARNING, Finding, as_finding
from npu_serving.model_checks import naming
from npu_serving.options.adapter_rules import directory_trouble
from npu_serving.options.asked_options import EFFECT, GUIDE_FORBIDS
from npu_serving.options.rules import check_options
from npu_serving.options.server_environment import server_environment
from npu_serving.options.session_options import complete_options
from npu_serving.sample.sample_settings import with_sample
from npu_serving.serving import preflight
from npu_serving.settings import Settings
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import command_line

FILE, PORT, CANN, BUILD, ADAPTER = "file", "port", "cann", "build", "unknown-to-the-adapter"
_OF_THE_FILE = frozenset(
    (
        FILE,
        naming.BASE_PATH,
        naming.MODEL_FILE,
        naming.TAGS,
        gear_checks.KIND,
        device_checks.KIND,
        library_checks.KIND,
        batching_checks.KIND,
        tls_checks.KIND,
        range_checks.KIND,
        GUIDE_FORBIDS,
        *EFFECT,
    )
)
"""The kinds of findings that only another file cures: all others are about what is not there yet."""
_DIRECTORIES = ("dump_path", "work_path")
"""Options whose findings are about a directory that is to be made."""


@dataclass(frozen=True)
class DeploymentCheck:
    """What was found. `shares` are the forecasts for the NPU, by the model's name and version."""

    file: Path
    deployment: DeploymentFile = field(repr=False)
    models: tuple[CheckedModel, ...]
    shares: Mapping[str, Mapping[int, tuple[NpuShare, ...]]]
    findings: tuple[Finding, ...]
    places: Mapping[str, SourcePlace]
    """Where the value stands that a finding speaks of, by the finding's `where`."""
    elsewhere: bool = False
    """Whether another machine is to serve it, so that what this one lacks is only noted."""

    @property
    def exit_code(self) -> int:
        """2 where the file is wrong, 3 where what it names is not there yet, else 0."""
        problems = [finding for finding in self.findings if finding.needs_action]
        if any(_is_of_the_file(finding) for finding in problems):
            return EXIT_BAD_REQUEST
        return EXIT_ACTION_NEEDED if problems else 0

    def to_json(self) -> dict[str, object]:
        """The models with their signatures and forecasts, and the findings."""
        return {
            "file": str(self.file),
            "models": [model_json(model, self.shares.get(model.name, {})) for model in self.models],
            "presets": {name: list(options) for name, options in self.deployment.expanded_presets().items()},
            "findings": [
                {
                    "kind": finding.kind,
                    "severity": finding.severity,
                    "where": finding.where,
                    "place": place.to_json() if (place := self.places.get(finding.where)) is not None else None,
                    "what": finding.what,
                    "cure": finding.cure,
                    "details": list(finding.details),
                    "file_is_wrong": finding.needs_action and _is_of_the_file(finding),
                }
                for finding in self.findings
            ],
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """The models, then problems with their cures, warnings, notes, and what comes next."""
        parts = [f"{self.file}:"]
        for model in self.models:
            parts += model_lines(model, self.shares.get(model.name, {}))
        presets = self.deployment.expanded_presets().items()
        parts += [f"  preset {name}: {in_a_line('; '.join(options))}" for name, options in presets]
        parts += described(self.findings, self.places)
        return "\n".join([*parts, "", self._conclusion()])

    def _conclusion(self) -> str:
        problems = sum(finding.needs_action for finding in self.findings)
        if not problems and self.elsewhere:
            return "Nothing in the file keeps it from being served; what this machine lacks is only noted."
        if not problems:
            return f"Nothing keeps it from being served.\nNext: ./inv serve --deployment {command_line([self.file])}"
        count = "1 problem keeps" if problems == 1 else f"{problems} problems keep"
        wrong = self.exit_code == EXIT_BAD_REQUEST
        return f"{count} it from being served" + (": the file has to be changed." if wrong else ".")


def check_deployment(
    settings: Settings, file: Path, read: PlacedDeployment, *, build: str = "", elsewhere: bool = False
) -> DeploymentCheck:
    """What is wrong with the deployment that was read from `file`; without `build` the current one is to serve it.

    With `elsewhere` only what another file would cure is a problem: the machine that serves it has CANN and the models.
    Raises RequestError for a build that was named and is not there.
    """
    found, settings = _found_build(settings, build)
    deployment = filled_in(read.deployment, settings)
    models = tuple(check_models(deployment))
    findings = [finding for model in models for finding in model.findings]
    note = precision_note(read.deployment, deployment)
    findings += [Finding(f"{note}.", "", NOTE, ADAPTER, "npu")] if note else []
    findings += _check_ports(deployment)
    findings += check_unencrypted(deployment.server)
    findings += check_channel_arguments(deployment.server.grpc_channel_arguments)
    findings += _check_files(deployment)
    findings += check_memory(models)
    findings += check_first_answer(deployment, models)
    settings = with_sample(with_its_cann(settings, deployment))
    findings = _check_build(settings, found, build, models, findings)
    shares: dict[str, Mapping[int, tuple[NpuShare, ...]]] = {}
    try:
        cann: Cann | None = cann_of(settings)
        environment = _environment(deployment, cann)
    except NpuServingError as error:
        if deployment.uses_npu() or deployment.cann is not None:
            findings.append(as_finding(error, CANN, "cann"))
        cann, environment = None, _environment(deployment, None)
    findings += check_machine(settings, deployment, models, cann, environment)
    if deployment.uses_npu():
        lists = operator_lists(environment)
        library = functools.cache(lambda: operator_library(environment))
        if cann is not None:
            findings += _check_cann(cann, lists, environment)
        findings += _check_options(deployment, read.deployment, cann, environment, library)
        findings += _check_kept_dtypes(read.deployment, models, library)
        if not lists.are_empty:
            for index, model in enumerate(models):
                shares[model.name] = shares_of(model, lists)
                findings += share_findings(model, shares[model.name])
                place = f"models.{index}.npu" if deployment.models[index].npu else "npu"
                findings += sunk_range_findings(model, lists, place)
    if elsewhere:
        findings = [_noted(finding) for finding in findings]
    ordered = worst_first(findings)
    found_at = {finding.where: read.place(finding.where) for finding in ordered}
    places = {where: place for where, place in found_at.items() if place is not None}
    return DeploymentCheck(file, deployment, models, shares, ordered, places, elsewhere)


def _check_ports(deployment: DeploymentFile) -> Iterator[Finding]:
    server = deployment.server
    for key, port, api in (("port", server.port, "gRPC"), ("rest_api_port", server.rest_api_port, "REST")):
        if not port:
            continue
        try:
            preflight.check_port_free(port, api)
        except NpuServingError as error:
            yield as_finding(error, PORT, f"server.{key}")


def _check_files(deployment: DeploymentFile) -> Iterator[Finding]:
    """Keys and certificates, and libraries that are to be loaded first."""
    try:
        rendered_files(deployment, Path("/"))
    except RequestError as error:
        yield as_finding(error, FILE, "server.tls")
    except NpuServingError as error:
        yield as_finding(error, "missing-file", "server.tls")
    else:
        yield from check_tls(deployment.server.tls) if deployment.server.tls is not None else ()
    allocator = deployment.cpu.allocator
    if allocator is not None and not os.path.isfile(allocator):  # noqa: PTH113 - Path.is_file() raises where it is shut
        what = (
            f"The library {allocator} is not there: the server would run without it, and say so in one line of its log."
        )
        yield Finding(
            what, "install it, or leave cpu.allocator out", severity=WARNING, kind="missing-file", where="cpu.allocator"
        )


def _found_build(settings: Settings, name: str) -> tuple[Build | NpuServingError, Settings]:
    """The build that is to serve it with its settings, or why there is none; it raises where one was named."""
    try:
        build = find_build(settings.dist_root, name)
    except NpuServingError as error:
        if name:
            raise
        return error, settings
    try:
        return build, settings_of(build, settings)
    except NpuServingError as error:
        return error, settings


def _check_build(
    settings: Settings,
    build: Build | NpuServingError,
    name: str,
    models: Sequence[CheckedModel],
    findings: Sequence[Finding],
) -> list[Finding]:
    """Those found before, and whether there is a server, it would start here, and it knows the models' operators."""
    if not isinstance(build, Build):
        return [*findings, as_finding(build, BUILD, "")]
    try:
        result = verify_found_build(settings, build)
        libraries = sorted((build.directory / "lib").glob("*.so*"))
        found = with_server_operators(findings, [result.server, *libraries], models)
    except NpuServingError as error:
        return [*findings, as_finding(error, BUILD, "")]
    found += [finding for finding in result.about_the_npu if finding.kind != OPERATOR_LIST]  # see _check_cann
    if result.installed is not None or not result.report.ok:
        why = result.headline if not result.report.ok else "it was not linked with the adapter that is installed"
        named = f" --build {command_line([name])}" if name else ""
        what = f"The server would not start here as it is meant: {why}."
        found.append(Finding(what, f"./inv verify-serving{named}", kind=BUILD, where=str(result.server)))
    return found


def _environment(deployment: DeploymentFile, cann: Cann | None) -> dict[str, str]:
    """That of the server, as far as it decides what the NPU gets."""
    own = {**server_environment(os.environ).variables, **server_variables(deployment)}
    return cann_environment(cann.installation if cann is not None else None, os.environ).added_to(own)


def _check_cann(cann: Cann, lists: OperatorLists, environment: Mapping[str, str]) -> Iterator[Finding]:
    installation = cann.installation
    if installation is None or installation.runtime is None:
        what = "CANN is not installed here, and models are to run on the NPU."
        yield Finding(
            what, "install it (./inv cann-info says how), or name its directory with cann", kind=CANN, where="cann"
        )
        return
    listed = finding_for(lists, installation.runtime)
    if listed is not None:
        yield listed
    yield from library_findings(directory_of_operators(environment))


def _check_options(
    deployment: DeploymentFile,
    written: DeploymentFile,
    cann: Cann | None,
    environment: Mapping[str, str],
    library: Callable[[], OperatorLibrary],
) -> Iterator[Finding]:
    """What the rules say of the options of each model, and the options that the installed adapter does not know.

    `written` is the deployment before what its presets leave open was filled in.
    """
    installation = cann.installation if cann is not None else None
    release = installation.version if installation is not None else ""
    for finding in check_shared_memory(deployment):
        yield dataclasses.replace(finding, where=f"npu.{finding.where}")
    judged: set[str] = set()
    for index, model in enumerate(deployment.models):
        own = deployment.npu_of(model)
        if own is None or repr(own) in judged:
            continue
        judged.add(repr(own))
        place = functools.partial(option_place, written, index)
        options = complete_options(own)
        found = list(check_options(options, release, environment=environment))
        yield from (
            dataclasses.replace(
                finding,
                where=place(finding.where),
                kind="missing-directory" if finding.where in _DIRECTORIES else finding.kind,
            )
            for finding in found
        )
        yield from check_devices(options, environment, f"models.{index}.npu" if OPTION in (model.npu or {}) else "npu")
        yield from _profiling_directory(options, place)
        for option, finding in auxiliary_checks.check_auxiliary_files(deployment, model, environment, library):
            yield dataclasses.replace(finding, where=place(option))
        yield from _unknown_to_adapter(cann, release, own, {finding.where for finding in found}, place)


def _check_kept_dtypes(
    written: DeploymentFile, models: Sequence[CheckedModel], library: Callable[[], OperatorLibrary]
) -> Iterator[Finding]:
    """Operators of models that can't keep their data types, where the precision has them do so."""
    for index, model in enumerate(models):
        option = library_checks.keeping_option(model.options or {})
        if option:
            graphs = (version.graph.graph for version in model.versions if version.graph is not None)
            operators = {name for graph in graphs for name in graph.operators}
            for finding in library_checks.check_kept_dtypes(option, operators, library()):
                yield dataclasses.replace(finding, where=option_place(written, index, option))


def _unknown_to_adapter(
    cann: Cann | None, release: str, options: Mapping[str, object], known: set[str], place: Callable[[str], str]
) -> Iterator[Finding]:
    try:
        adapter = cann.adapter_if_installed if cann is not None else None
        unknown: Sequence[str] = unknown_words(adapter.path, options) if adapter is not None else ()
    except NpuServingError as error:
        yield as_finding(error, CANN, "cann")
        return
    of_cann = f" (CANN {release})" if release else ""
    for name in unknown:
        if name not in known:
            what = f"{name} is not found in the adapter that is installed{of_cann}, which would silently ignore it."
            yield Finding(what, f"./inv explain {name}", WARNING, ADAPTER, place(name))


def _profiling_directory(options: Mapping[str, object], place: Callable[[str], str]) -> Iterator[Finding]:
    """The directory that profiling writes into; what else its options have wrong is found by the rules."""
    try:
        keys = json.loads(str(options.get("profiling_options", "{}")))
    except (ValueError, RecursionError):
        return
    output = keys.get("output") if isinstance(keys, dict) else None
    if options.get("profiling_mode") is not True or not isinstance(output, str) or not output.startswith("/"):
        return
    why, cure = directory_trouble(output, output)
    if why:
        what = f"profiling would write into {output}, which {why}."
        yield Finding(what, cure, WARNING, "missing-directory", place("profiling_options"))


def _is_of_the_file(finding: Finding) -> bool:
    return finding.kind in _OF_THE_FILE


def _noted(finding: Finding) -> Finding:
    """A finding about this machine, where it does not matter."""
    return finding if _is_of_the_file(finding) else dataclasses.replace(finding, severity=NOTE)
