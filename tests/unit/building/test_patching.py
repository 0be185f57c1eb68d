"""One plan of patches, asked by all: doctor, the dry run, the analysis and the build say the same of a skipped one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from npu_serving.building import pipeline
from npu_serving.building.context import BuildContext
from npu_serving.building.patching import patch_findings, patches_for
from npu_serving.building.plan import BuildPlan, plan_build
from npu_serving.building.runner import Layout, Runner, RunRequest
from npu_serving.building.sources import LOCKS, own_lock_path, resolve_source, state_of
from npu_serving.cann.install import Cann
from npu_serving.console import Silent
from npu_serving.doctor.examination import examine
from npu_serving.errors import BuildFailedError, MissingToolError
from npu_serving.lock.lockfile import read_lock, write_lock
from npu_serving.overlay.patch_plan import IN_THE_IMAGE
from npu_serving.overlay.patches import Toolchain
from npu_serving.process import Finished
from npu_serving.repeated_flags import RepeatedFlags
from npu_serving.settings import Settings

OTHER = "0123456789abcdef" * 4
WRITTEN_FOR = "67a6c26db56f345f7cee846e681db2c23f919eba46dd639b09462d1b6203d28c"
FAILURE = "external/grpc/x.cc:43:13: error: ambiguating new declaration of 'long int gettid()'"


@dataclass
class NewMachine:
    """A machine that calls for every patch; `output` is what its Bazel prints, and it fails."""

    name: str = "host"
    where: str = "on this machine"
    output: str = ""
    missing: str = ""
    ran: list[RunRequest] = field(default_factory=list)

    def check(self, layout: Layout) -> None:
        """Any will do."""

    def what_is_missing(self) -> str:
        return self.missing

    def identity(self) -> dict[str, str]:
        if self.missing:
            raise MissingToolError("no image yet")
        return {"compiler": "gcc 12.2.0, g++ 12.2.0", "glibc": "glibc 2.36"}

    def inside(self, layout: Layout) -> Layout:
        return layout

    def bazel(self) -> str:
        return "/bazel"

    def python(self) -> str:
        return "/python"

    def environment(self) -> dict[str, str]:
        return {}

    def run(self, request: RunRequest) -> Finished:
        self.ran.append(request)
        return Finished(tuple(request.argv), 1, "", self.output, 1.0)


class Told(Silent):
    """What was said, in its order."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(f"warning: {text}")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A tree with a lock of its own, in which grpc has other bytes: they are unpinned, so that nothing is fetched."""
    tree = tmp_path / "tree"
    (tree / "tensorflow_serving/model_servers").mkdir(parents=True)
    (tree / "tensorflow_serving/model_servers/BUILD").write_text("")
    settings = Settings(source=str(tree), build_root=tmp_path / "build", dist_root=tmp_path / "dist")
    lock = read_lock(LOCKS / "serving-1.15.0.json")
    tensorflow = f'tensorflow_http_archive(name = "org_tensorflow", git_commit = "{lock.tensorflow_commit}")\n'
    (tree / "WORKSPACE").write_text(f'workspace(name = "tf_serving")\n{tensorflow}')
    archives = tuple(
        replace(archive, sha256=OTHER, patch_files=("//mine.patch",)) if archive.name == "grpc" else archive
        for archive in lock.archives
    )
    write_lock(own_lock_path(tree, settings), replace(lock, archives=archives, made_of=state_of(tree)))
    return settings


@pytest.fixture
def machine() -> NewMachine:
    return NewMachine()


@pytest.fixture
def context(settings: Settings, machine: NewMachine) -> BuildContext:
    cann = cast(Cann, SimpleNamespace(adapter=SimpleNamespace(sha256="ab" * 32)))
    source = resolve_source(settings)
    return BuildContext(settings, source, cann, Path("libpython"), cast(Runner, machine), ())


def test_doctor_names_a_skipped_patch_with_both_digests(settings: Settings) -> None:
    findings = {finding.kind: finding for finding in patch_findings(settings, "2.36", "12.2.0")}
    assert next(iter(findings)) == "grpc-gettid"
    assert findings["grpc-gettid"].severity == "warning"
    assert OTHER in findings["grpc-gettid"].what
    assert WRITTEN_FOR in findings["grpc-gettid"].what
    assert IN_THE_IMAGE in findings["grpc-gettid"].cure
    assert findings["hwloc-sysctl"].severity == "ok"
    assert patch_findings(settings, "2.27", "8.4.0") == ()


def test_what_is_not_known_yet_is_not_called_fine_and_the_way_to_know_it_means_the_same_tree(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = own_lock_path(Path(settings.source), settings)
    lock = read_lock(path)
    unfetched = tuple(replace(item, patch_files=()) if item.name == "grpc" else item for item in lock.archives)
    write_lock(path, replace(lock, archives=unfetched))
    report = examine(settings, "host", Silent(), patches=lambda *_: patch_findings(settings, "2.36", "12.2.0"))
    (finding,) = [item for item in report.findings if item.kind == "patches"]
    assert finding.severity == "note"
    assert OTHER in finding.found
    flags = RepeatedFlags({"source": settings.source}, {"fetch-deps": ("source",)})
    shown = flags.in_text(report.text())
    assert "Note: fixes for this C library and compiler" in shown
    assert f"cure      ./inv fetch-deps --source {settings.source}" in shown
    plan = BuildPlan((), patches=patches_for(resolve_source(settings), settings, Toolchain("2.36", "12.2.0")).cases)
    assert f"To know it before: ./inv fetch-deps --source {settings.source}" in flags.in_text(plan.text())


def test_doctor_says_of_no_tree_what_the_lock_of_another_one_declares(settings: Settings) -> None:
    path = own_lock_path(Path(settings.source), settings)
    write_lock(path, replace(read_lock(path), made_of=""))
    (finding,) = patch_findings(settings, "2.36", "12.2.0")
    assert "does not match its lock" in finding.what
    assert "\n" not in finding.what
    assert finding.cure == f"./inv lock-deps --source {settings.source}"


def test_doctor_says_why_it_cannot_know_where_there_is_no_lock(settings: Settings) -> None:
    (finding,) = patch_findings(replace(settings, source="9.99"), "2.36", "12.2.0")
    assert "Unknown source '9.99'" in finding.what


def test_a_dry_run_names_a_skipped_patch_with_both_digests_for_a_person_and_for_a_program(
    context: BuildContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("npu_serving.building.plan.plan_overlay", lambda *_: SimpleNamespace(changes=(1,)))
    monkeypatch.setattr(BuildContext, "overlay", None)
    plan = plan_build(context)
    assert f"is {OTHER} in this tree, and {WRITTEN_FOR} where the patch was written" in plan.text()
    assert IN_THE_IMAGE in plan.text()
    (skipped,) = [case for case in json.loads(json.dumps(plan.to_json()))["patches"] if case["outcome"] == "skipped"]
    assert (skipped["id"], skipped["declared_sha256"], skipped["written_for_sha256"]) == (
        "grpc-gettid",
        OTHER,
        WRITTEN_FOR,
    )
    assert plan.from_scratch().patches == plan.patches


def test_a_dry_run_before_anything_is_there_names_it_as_well(
    context: BuildContext, monkeypatch: pytest.MonkeyPatch, machine: NewMachine
) -> None:
    monkeypatch.setattr("npu_serving.building.sources.ServingSource.is_ready", False)
    assert OTHER in plan_build(context).text()
    machine.missing = "the image has to be made"
    assert plan_build(replace(context)).patches == (), "what an image will have is not known before it is made"


def test_an_analysis_does_not_say_that_all_is_there_where_a_patch_is_skipped(context: BuildContext) -> None:
    said = pipeline.AnalysisResult("tree", "12 packages", 20.0, context.patches.cases)
    assert "everything that the build needs is here, but for 1 of the fixes" in said.text()
    assert OTHER in said.text()
    assert '"skipped"' in json.dumps(said.to_json())
    complete = pipeline.AnalysisResult("tree", "12 packages", 20.0, ())
    assert "everything that the build needs is here (12 packages" in complete.text()


def test_a_build_says_it_before_bazel_starts_and_its_failure_is_cured_by_the_plan(
    context: BuildContext, machine: NewMachine
) -> None:
    told = Told()
    machine.output = FAILURE
    with pytest.raises(BuildFailedError) as caught:
        pipeline.run_bazel(context, told)
    assert told.lines[0].startswith("warning: the patch grpc-gettid is not applied")
    assert WRITTEN_FOR in told.lines[0]
    assert "glibc 2.30 and later declare gettid()" in caught.value.cause
    assert OTHER in caught.value.cure
    assert caught.value.cure.endswith(IN_THE_IMAGE)


def test_any_other_failure_keeps_the_cure_of_its_own(context: BuildContext, machine: NewMachine) -> None:
    machine.output = "x.cc:1: error: No space left on device"
    with pytest.raises(BuildFailedError, match="failed") as caught:
        pipeline.run_bazel(context, Told())
    assert "df -h" in caught.value.cure


def test_the_plan_is_kept_only_when_all_is_known(context: BuildContext, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: Iterator[SimpleNamespace] = iter([SimpleNamespace(is_settled=settled) for settled in (False, True, True)])
    monkeypatch.setattr("npu_serving.building.context.patches_for", lambda *_: next(answers))
    first, second, third = context.patches, context.patches, context.patches
    assert first is not second
    assert second is third
