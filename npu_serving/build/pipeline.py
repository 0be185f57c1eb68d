"""The whole road: examine what is there, plan what is out of date and why, and bring it up to date step by step."""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import dataclass

from npu_serving import fsutil
from npu_serving.build import artifact, bazel, inputs
from npu_serving.build.artifact import Build, BuildManifest
from npu_serving.build.inputs import Inputs, patched_root
from npu_serving.build.resources import available_resources
from npu_serving.build.runner import Layout
from npu_serving.build.sources import check_tree, prepare_source, tree_version
from npu_serving.build.tree import tree_digest
from npu_serving.build.verify import verify_directory
from npu_serving.console import Reporter, duration_text, table
from npu_serving.deps.fetch import fetch, plan_fetch
from npu_serving.deps.store import ContentStore
from npu_serving.errors import LockFileError, VerificationError
from npu_serving.overlay.adapter import apply_overlay, plan_overlay, runtime_libraries
from npu_serving.settings import Settings


@dataclass(frozen=True)
class Step:
    """One stretch of the road. `why` says what is out of date, and is empty when nothing is."""

    name: str
    why: str

    @property
    def needed(self) -> bool:
        """Whether there is something to do."""
        return bool(self.why)


@dataclass(frozen=True)
class BuildPlan:
    """What a build would do, in order. `existing` is the build that has all of it already."""

    steps: tuple[Step, ...]
    existing: Build | None = None

    @property
    def nothing_to_do(self) -> bool:
        """Whether every step is up to date."""
        return not any(step.needed for step in self.steps)

    def to_json(self) -> dict[str, object]:
        """Every step with its reason."""
        return {
            "nothing_to_do": self.nothing_to_do,
            "steps": [{"name": step.name, "needed": step.needed, "why": step.why} for step in self.steps],
            "build_id": self.existing.manifest.build_id if self.existing else None,
        }

    def text(self) -> str:
        """A line for each step."""
        rows = [(step.name, "to do" if step.needed else "up to date", step.why) for step in self.steps]
        return table(rows)


@dataclass(frozen=True)
class BuildResult:
    """The build that is current now, and what it took."""

    build: Build
    plan: BuildPlan
    record: bazel.BuildRecord
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The manifest, what was done and how long it took."""
        return {
            **self.build.to_json(),
            "nothing_to_do": self.plan.nothing_to_do,
            "executed_actions": self.record.actions,
            "compiled": self.record.compiled,
            "linked": self.record.linked,
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """Where it is and what was done."""
        manifest = self.build.manifest
        if self.plan.nothing_to_do:
            return f"{manifest.build_id} is up to date; nothing was done.\n{self.build.server}"
        done = (
            f"{self.record.compiled} sources compiled, {self.record.linked} linked"
            if self.record.actions
            else "no action run"
        )
        return (
            f"{manifest.build_id} is built, verified and current ({done}, {duration_text(self.seconds)}).\n"
            f"{self.build.server}\nNext: ./inv serve --model-base-path PATH-OF-A-MODEL"
        )


def build_serving(settings: Settings, reporter: Reporter) -> BuildResult:
    """Takes the whole road; what is up to date is left alone. The former build stays current until this one is proven.

    Raises the error of the step that fails; what was finished before it is kept, so the next run goes on from there.
    """
    started = time.monotonic()
    given = inputs.find_inputs(settings, reporter)
    plan = plan_build(given, settings)
    if plan.existing is not None and plan.nothing_to_do:
        return BuildResult(plan.existing, plan, bazel.BuildRecord(), time.monotonic() - started)
    with fsutil.state_lock(settings.build_root, doing="build-serving"):
        build, record = _apply(given, settings, reporter)
    return BuildResult(build, plan, record, time.monotonic() - started)


@dataclass(frozen=True)
class AnalysisResult:
    """Bazel has loaded and analysed the server's target; nothing was compiled."""

    source: str
    summary: str
    seconds: float

    def to_json(self) -> dict[str, object]:
        """What was analysed, in Bazel's words."""
        return {"source": self.source, "summary": self.summary, "seconds": round(self.seconds, 2)}

    def text(self) -> str:
        """The same."""
        return (
            f"{self.source}: everything that the build asks for is there ({self.summary}, "
            f"{duration_text(self.seconds)}).\nNext: ./inv build-serving"
        )


def analyse(settings: Settings, reporter: Reporter) -> AnalysisResult:
    """All of the road up to the first compiler run: half a minute that tells whether hours of building can begin."""
    given = inputs.find_inputs(settings, reporter)
    with fsutil.state_lock(settings.build_root, doing="build-serving --analyse"):
        _prepare(given, settings, reporter)
        record = _run_bazel(given, settings, reporter, "--nobuild")
    return AnalysisResult(given.source.name, record.summary, record.seconds)


def dry_run(settings: Settings, reporter: Reporter) -> BuildPlan:
    """What build_serving() would do now."""
    return plan_build(inputs.find_inputs(settings, reporter), settings)


def plan_build(given: Inputs, settings: Settings) -> BuildPlan:
    """Compares what is there with what a build needs; changes nothing but memos."""
    source = given.source
    given.runner.check(layout_of(given, settings))
    missing = plan_fetch(given.archives, ContentStore(settings.store_root)).missing
    steps = [
        Step("dependencies", _count(len(missing), "archive", "archives") + " to fetch" if missing else ""),
        Step("source", "" if source.is_ready else f"{source.tree} is to be made"),
        Step("toolchain", given.runner.what_is_missing()),
    ]
    if any(step.needed for step in steps):
        later = "comes after what is to do above"
        return BuildPlan((*steps, Step("overlay", later), Step("build", later), Step("current", later)))
    changes = plan_overlay(source.tree, given.overlay(settings)).changes
    steps.append(Step("overlay", _count(len(changes), "file differs", "files differ") if changes else ""))
    existing = None if changes else _existing(given, settings)
    if existing is None:
        steps.append(Step("build", "the overlay changes" if changes else "no build has been made from these inputs"))
        steps.append(Step("current", "the new build takes its place"))
        return BuildPlan(tuple(steps))
    steps.append(Step("build", ""))
    elsewhere = not existing.current or artifact.link_differs(existing, settings.install_link)
    steps.append(Step("current", f"it does not name {existing.manifest.build_id}" if elsewhere else ""))
    return BuildPlan(tuple(steps), existing)


def bring_inputs(given: Inputs, settings: Settings, reporter: Reporter) -> None:
    """Fetches, unpacks and prepares everything that is not there: what a build needs before its overlay."""
    given.runner.check(layout_of(given, settings))
    store = ContentStore(settings.store_root)
    if given.source.name == "sample":
        inputs.make_sample_archives(settings)
    mirrors = (*settings.mirrors, *given.source.mirrors)
    plan = plan_fetch(given.archives, store)
    fetch(plan, store, reporter=reporter, mirrors=mirrors, offline=settings.offline)
    store.place(given.archives, settings.distdir)
    prepare_source(given.source, store)
    given.runner.prepare(reporter)


def _apply(given: Inputs, settings: Settings, reporter: Reporter) -> tuple[Build, bazel.BuildRecord]:
    _prepare(given, settings, reporter)
    existing = _existing(given, settings)
    record = bazel.BuildRecord()
    if existing is None:
        record = _run_bazel(given, settings, reporter)
        existing = _package(given, settings, record)
    artifact.make_current(existing, settings.install_link)
    return artifact.find_build(settings.dist_root, existing.manifest.build_id), record


def _prepare(given: Inputs, settings: Settings, reporter: Reporter) -> None:
    bring_inputs(given, settings, reporter)
    _check_lock(given)
    apply_overlay(plan_overlay(given.source.tree, given.overlay(settings)))


def _run_bazel(given: Inputs, settings: Settings, reporter: Reporter, *flags: str) -> bazel.BuildRecord:
    digest = _input_digest(given, settings)
    command = bazel.Command(
        target=bazel.TARGET,
        revision=f"{_source_identity(given)[:12]}",
        flags=(*bazel_flags(given, settings), *flags),
    )
    log_path = settings.logs / f"build-{time.strftime('%Y%m%d-%H%M%S')}-{digest[:8]}.log"
    resources = available_resources(settings.jobs, settings.memory_mb)
    reporter.note(f"Bazel runs {given.runner.where} with {resources.jobs} jobs; its log: {log_path}")
    layout = layout_of(given, settings)
    fsutil.make_directory(layout.output_user_root)
    fsutil.make_directory(patched_root(settings))
    return bazel.build(given.runner, layout, command, resources, log_path=log_path, reporter=reporter)


def _package(given: Inputs, settings: Settings, record: bazel.BuildRecord) -> Build:
    """Puts the artifact together and proves it; only then does it get its name."""
    assert record.output is not None
    digest = _input_digest(given, settings)
    version = given.source.lock.serving_version
    patches = given.overlay(settings).patches
    manifest = BuildManifest(
        build_id=artifact.build_id(version, given.adapter.cann_version, digest),
        input_digest=digest,
        serving_version=version,
        source={"name": given.source.name, "digest": _source_identity(given)},
        adapter=given.adapter.describe(),
        lock_digest=given.source.lock.digest,
        toolchain=given.runner.identity(),
        flags=settings.bazel_args,
        patches=patches.to_json() if patches is not None else {},
        actions=record.actions,
        files={},
    )
    libraries = runtime_libraries(given.source.tree)
    with artifact.assembled(settings.dist_root, manifest, record.output, libraries) as directory:
        report = verify_directory(directory, given.library_path)
        if report.exit_code != 0:
            raise VerificationError(
                f"The server was built, but would not serve on the NPU; the former build stays current.\n"
                f"{report.text()}",
                cure="do what the findings above say, then the same command again",
            )
    return artifact.find_build(settings.dist_root, manifest.build_id)


def layout_of(given: Inputs, settings: Settings) -> Layout:
    """The directories of this build; each runner has an output root of its own, for its paths differ inside."""
    return Layout(
        workspace=given.source.tree,
        output_user_root=settings.build_root / "bazel" / given.runner.name,
        distdir=settings.distdir,
        repository_cache=settings.store_root,
        extra=(patched_root(settings),),
    )


def bazel_flags(given: Inputs, settings: Settings) -> tuple[str, ...]:
    """The flags that the toolchain's patches call for, with paths as Bazel sees them, and the user's."""
    patches = given.overlay(settings).patches
    (root,) = given.runner.inside(layout_of(given, settings)).extra
    return (*(patches.bazel_flags(root) if patches is not None else ()), *settings.bazel_args)


def _described_flags(given: Inputs, settings: Settings) -> list[object]:
    """The same without a path of this machine, for the digest and the manifest."""
    patches = given.overlay(settings).patches
    return [patches.to_json() if patches is not None else {}, *settings.bazel_args]


def _existing(given: Inputs, settings: Settings) -> Build | None:
    digest = _input_digest(given, settings)
    for build in artifact.list_builds(settings.dist_root).builds:
        if build.manifest.input_digest == digest and build.server.is_file():
            return build
    return None


def _input_digest(given: Inputs, settings: Settings) -> str:
    described = {
        "source": _tree_digest(given, settings),
        "adapter": given.adapter.sha256,
        "lock": given.source.lock.digest,
        "toolchain": given.runner.identity(),
        "flags": _described_flags(given, settings),
        "machine": platform.machine(),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _tree_digest(given: Inputs, settings: Settings) -> str:
    tree = given.source.tree
    name = hashlib.sha256(str(tree.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return tree_digest(tree, settings.build_root / "memo" / f"tree-{name}.json")


def _source_identity(given: Inputs) -> str:
    """What the server's --version shows: the archive's digest, or the lock's where the tree is the user's own."""
    return given.source.archive.sha256 or "" if given.source.archive else given.source.lock.digest


def _check_lock(given: Inputs) -> None:
    source = given.source
    check_tree(source.tree)
    version = tree_version(source.tree)
    if version and version != source.lock.serving_version:
        raise LockFileError(
            f"{source.tree} is version {version}; {source.lock_path} is for {source.lock.serving_version}.",
            cure=f"./inv lock-deps --source {source.tree}",
        )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
