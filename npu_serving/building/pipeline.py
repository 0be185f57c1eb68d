"""The whole build: updates, step by step, what the plan found out of date."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.building import bazel, caches, inputs
from npu_serving.building.inputs import Inputs, patched_root
from npu_serving.building.locking import check_agreement
from npu_serving.building.plan import (
    STEPS,
    BuildPlan,
    Step,
    bazel_flags,
    digest_of_tree,
    existing_build,
    input_digest,
    layout_of,
    output_base,
    plan_build,
    source_identity,
)
from npu_serving.building.runner import Layout
from npu_serving.building.sources import check_tree, prepare_source
from npu_serving.builds.assembling import package, replaced_meanwhile
from npu_serving.builds.current import find_build, make_current, unused_id
from npu_serving.builds.manifest import Build, BuildManifest, build_id
from npu_serving.console import Reporter, duration_text
from npu_serving.errors import BuildFailedError, LockFileError, SourceError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import fetch, plan_fetch
from npu_serving.lock.tree_facts import serving_version
from npu_serving.overlay import adapter as overlay
from npu_serving.overlay import content
from npu_serving.overlay.adapter import apply_overlay, plan_overlay, runtime_libraries
from npu_serving.resources import available_resources
from npu_serving.sample.sample_settings import sample_is_missing
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line


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
            "ran": self.record.ran,
            "cached": self.record.cached,
            "compiled": self.record.compiled,
            "linked": self.record.linked,
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """Where it is and what was done."""
        manifest = self.build.manifest
        if self.plan.nothing_to_do:
            return f"{manifest.build_id} is already up to date.\n{self.build.server}"
        done = (
            f"{self.record.compiled} sources compiled, {self.record.linked} linked"
            if self.record.actions
            else "no action run"
        )
        done += f", {self.record.cached} results from the cache" if self.record.cached else ""
        return (
            f"Built and verified {manifest.build_id}, which is now current ({done}, {duration_text(self.seconds)}).\n"
            f"{self.build.server}\nNext: ./inv serve --model-base-path PATH-OF-A-MODEL"
        )


Proof = Callable[[Build], None]


def build_serving(
    settings: Settings,
    reporter: Reporter,
    *,
    clean: bool = False,
    proof: Proof | None = None,
    doing: str = "build-serving",
) -> BuildResult:
    """Runs every step that is out of date. The previous build stays current until this one is proven.

    `clean` first removes what Bazel made of this tree, and uses no cache: every action runs. `proof` gets a finished
    build that is not current yet, and raises what is wrong with it: then it stays in dist/ without becoming current.
    Raises the error of the step that fails; what was finished before it is kept, so the next run resumes there.
    """
    started = time.monotonic()
    bazel.checked_flags(settings.bazel_args)
    if clean:
        settings = caches.without_caches(settings)
    wanted = caches.find_caches(settings)
    given = inputs.find_inputs(settings, reporter)
    caches.check_reachable(wanted, given.runner)
    plan = plan_build(given, settings)
    if plan.existing is not None and plan.nothing_to_do and not clean:
        return BuildResult(plan.existing, plan, bazel.BuildRecord(), time.monotonic() - started)
    with state_lock(settings.build_root, doing=doing):
        if clean:
            plan = plan.from_scratch()
            _remove_output(given, settings, reporter)
        build, record = _build(given, settings, reporter, again=clean)
        if proof is not None and not build.current:
            proof(build)
        make_current(build, settings.install_link)
    build = find_build(settings.dist_root, build.manifest.build_id)
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
            f"{self.source}: everything that the build needs is here ({self.summary}, "
            f"{duration_text(self.seconds)}).\nNext: ./inv build-serving"
        )


def analyse(settings: Settings, reporter: Reporter) -> AnalysisResult:
    """All of the road up to the first compiler run: half a minute to find out whether hours of building can begin."""
    given = inputs.find_inputs(settings, reporter)
    with state_lock(settings.build_root, doing="build-serving --analyse"):
        _prepare(given, settings, reporter)
        record = _run_bazel(given, settings, reporter, input_digest(given, settings), "--nobuild")
    return AnalysisResult(given.source.name, record.summary, record.seconds)


def dry_run(settings: Settings, reporter: Reporter) -> BuildPlan:
    """What build_serving() would do now."""
    wanted = caches.find_caches(settings)
    if sample_is_missing(settings):
        inputs.choose_runner(settings, reporter).what_is_missing()  # refuses an engine that is down, as the run would
        later = "after the steps above"
        made = Step("sample", "the sample's CANN and libpython have to be made")
        return BuildPlan((made, *(Step(name, later) for name in STEPS)))
    given = inputs.find_inputs(settings, reporter)
    caches.check_reachable(wanted, given.runner)
    return plan_build(given, settings)


def fetch_inputs(given: Inputs, settings: Settings, reporter: Reporter) -> None:
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


def _remove_output(given: Inputs, settings: Settings, reporter: Reporter) -> None:
    """Guide 6.6.6, done right: this tree's Bazel server is stopped, and what it made of this tree removed."""
    output = output_base(given, settings)
    with reporter.progress("removing the previous output", unit="trees"):
        bazel.stop_server(given.runner, layout_of(given, settings), output, log_path=_log_path(settings, "shutdown"))
        fsutil.remove(output)


def _build(given: Inputs, settings: Settings, reporter: Reporter, *, again: bool) -> tuple[Build, bazel.BuildRecord]:
    _prepare(given, settings, reporter)
    existing = None if again else existing_build(given, settings)
    record = bazel.BuildRecord()
    if existing is None:
        digest = input_digest(given, settings)
        record = _run_bazel(given, settings, reporter, digest)
        if input_digest(given, settings) != digest:
            raise SourceError(
                f"{given.source.tree}, or another input of the build, was changed while Bazel was running.",
                cure="run the same command again: Bazel makes only what the change requires",
            )
        existing = _package(given, settings, record, digest)
    return existing, record


def _prepare(given: Inputs, settings: Settings, reporter: Reporter) -> None:
    fetch_inputs(given, settings, reporter)
    _check_lock(given, settings)
    apply_overlay(plan_overlay(given.source.tree, given.overlay(settings)))
    _check_adapter(given)


def _check_adapter(given: Inputs) -> None:
    """AdapterError where the tree has a different adapter from the one examined, or the symbols of a different one."""
    directory = given.source.tree / overlay.DIRECTORY
    taken = directory / content.ADAPTER_FILE
    symbols = fsutil.read_text(directory / content.SYMBOLS_FILE)
    if fsutil.sha256_of(taken) != given.adapter.sha256 or content.symbols_script(taken) != symbols:
        raise replaced_meanwhile(given.adapter.path)


def _run_bazel(given: Inputs, settings: Settings, reporter: Reporter, digest: str, *flags: str) -> bazel.BuildRecord:
    log_path = _log_path(settings, "build")
    resources = available_resources(settings.jobs, settings.memory_mb)
    reporter.note(f"running Bazel {given.runner.where} with {resources.jobs} jobs; its log is {log_path}")
    layout = layout_of(given, settings)
    fsutil.make_directory(layout.output_user_root)
    fsutil.make_directory(patched_root(settings))

    def build(layout: Layout, cache_flags: tuple[str, ...]) -> bazel.BuildRecord:
        command = bazel.Command(
            target=bazel.TARGET,
            revision=f"{source_identity(given)[:12]}",
            flags=(*cache_flags, *bazel_flags(given, settings), *flags),
        )
        return bazel.build(given.runner, layout, command, resources, log_path=log_path, reporter=reporter)

    wanted = caches.find_caches(settings)
    relay_log = settings.logs / "cache-relay.log"
    return caches.build_with(wanted, given.runner, layout, reporter, relay_log, build)


def _log_path(settings: Settings, kind: str) -> Path:
    return settings.logs / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}.log"


def _package(given: Inputs, settings: Settings, record: bazel.BuildRecord, digest: str) -> Build:
    """Assembles the build and verifies it; only then does it get its name."""
    if record.output is None:
        raise BuildFailedError(
            "Bazel succeeded but built no server.",
            cause="a flag in --bazel-arg or bazel_args keeps Bazel from building",
            cure="leave those flags out; to analyse without building, use ./inv build-serving --analyse",
        )
    version = given.source.lock.serving_version
    patches = given.overlay(settings).patches
    manifest = BuildManifest(
        build_id=unused_id(settings.dist_root, build_id(version, given.adapter.cann_version, digest)),
        input_digest=digest,
        serving_version=version,
        source={
            "name": given.source.name,
            "digest": source_identity(given),
            "tree": digest_of_tree(given, settings, without=overlay.DIRECTORY),
        },
        adapter=given.adapter.describe(),
        lock_digest=given.source.lock.digest,
        toolchain=given.runner.identity(),
        flags=settings.bazel_args,
        patches=patches.to_json() if patches is not None else {},
        actions=record.actions,
        files={},
        compilation=bazel.COMPILATION_FLAGS,
        archives={archive.name: {"url": archive.urls[0], "sha256": archive.sha256 or ""} for archive in given.archives},
    )
    libraries = runtime_libraries(given.source.tree)
    return package(settings.dist_root, manifest, record.output, libraries, given.library_path)


def _check_lock(given: Inputs, settings: Settings) -> None:
    source = given.source
    if source.archive is None and source.copied_from is None:  # the user's own: it may have been changed
        check_agreement(source, settings)
    check_tree(source.tree)
    version = serving_version(source.tree)
    if version and version != source.lock.serving_version:
        raise LockFileError(
            f"{source.tree} is version {version}, but {source.lock_path} is for {source.lock.serving_version}.",
            cure=command_line(["./inv", "lock-deps", "--source", source.tree]),
        )
