"""The whole build: updates, step by step, what the plan found out of date."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.building import bazel, caches
from npu_serving.building.build_progress import expected_actions
from npu_serving.building.build_record import LINK_ACTIONS, BuildRecord
from npu_serving.building.context import BuildContext, find_context
from npu_serving.building.fit_warnings import fit_warnings
from npu_serving.building.inputs import choose_runner, make_sample_archives
from npu_serving.building.lacking_symbols import explained
from npu_serving.building.linker_choice import check_linked, check_linker, linker_that_made, relinking
from npu_serving.building.locking import check_agreement
from npu_serving.building.objects_plan import CPU_STEP, OBJECT_STEPS, plan_objects
from npu_serving.building.plan import STEPS, BuildPlan, Step, plan_build, told
from npu_serving.building.runner import Layout
from npu_serving.building.saved_link_run import UsableLink, relinked, usable_link
from npu_serving.building.saved_links import keep_link
from npu_serving.building.sources import check_tree, lock_command, prepare_source, resolve_source
from npu_serving.builds.assembling import package, replaced_meanwhile
from npu_serving.builds.current import dist_lock, find_build, make_current, read_builds, unused_id, while_proven
from npu_serving.builds.fitting import judged_adapters
from npu_serving.builds.manifest import Build, BuildManifest, build_id, id_without
from npu_serving.cann.install import Cann
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.console import Reporter, duration_text
from npu_serving.doctor.places import build_places, check_places
from npu_serving.errors import BuildFailedError, LockFileError, MissingSymbolsError, SourceError
from npu_serving.fetch.fetching import fetch, plan_fetch
from npu_serving.linking.adapter_symbols import exports_list, symbols_script
from npu_serving.linking.saved_link import SavedLink
from npu_serving.lock.tree_facts import serving_version
from npu_serving.overlay import adapter as overlay
from npu_serving.overlay import content
from npu_serving.overlay.adapter import apply_overlay, plan_overlay, runtime_libraries
from npu_serving.overlay.patch_plan import PatchCase
from npu_serving.resources import available_resources
from npu_serving.sample.sample_settings import sample_is_missing
from npu_serving.settings import WITHOUT_ADAPTER, Settings
from npu_serving.state_lock import state_lock


@dataclass(frozen=True)
class BuildResult:
    """The build that is current now, and what it took."""

    build: Build
    plan: BuildPlan
    record: BuildRecord
    seconds: float
    by_saved_link: bool = False
    """Whether the server was linked by the saved link, without Bazel."""
    why_bazel: str = ""
    """Why it was not, where that was asked for; "" where nothing had to be linked."""

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
            f"{self.build.server}\nNext: ./inv serve --model-base-path PATH-OF-A-MODEL "
            "--platform-config-file CONFIG"
        )


Proof = Callable[[Build, bool], None]


def build_serving(
    settings: Settings,
    reporter: Reporter,
    *,
    clean: bool = False,
    proof: Proof | None = None,
    cann: Cann | None = None,
    doing: str = "build-serving",
    by_saved_link: bool = False,
    recorded: Sequence[KnownAdapter] = (),
    planned: BuildContext | None = None,
) -> BuildResult:
    """Runs every step that is out of date. The previous build stays current until this one is proven.

    `clean` first removes what Bazel made of this tree, and uses no cache: every action runs. `proof` gets a finished
    build that is not current yet, and whether this run has verified it, and raises what is wrong with it: then it stays
    in dist/ without becoming current. `cann` is the one to build with, where it was looked for already; a file in
    `also_fits` that is among the `recorded` ones counts as what it was then. A context that has just been `planned`
    with is gone on with, in place of all three. With `by_saved_link` the link that was kept is done again without
    Bazel, where all that it reads but the adapter is what it was.
    Raises the error of the step that fails; what was finished before it is kept, so the next run resumes there.
    """
    started = time.monotonic()
    check_request(settings)
    if clean:
        settings = caches.without_caches(settings)
    wanted = caches.find_caches(settings)
    context = planned.seen_again() if planned is not None else find_context(settings, reporter, cann, recorded)
    caches.check_reachable(wanted, context.runner)
    check_linker(context)
    plan = plan_build(context)
    if plan.existing is not None and plan.nothing_to_do and not clean:
        return BuildResult(plan.existing, plan, BuildRecord(), time.monotonic() - started)
    with state_lock(settings.build_root, doing=doing), contextlib.ExitStack() as held:

        def writes_into_dist(waiting: Reporter | None = None) -> None:
            held.enter_context(dist_lock(settings.dist_root, doing=doing, waiting=waiting))

        if clean:
            plan = plan.from_scratch()
            _remove_output(context, reporter)
        usable = _usable_link(context) if by_saved_link and not clean else UsableLink(None)
        if usable.saved is not None:
            writes_into_dist()
            build, record = _link_again(context, usable.saved, reporter)
        else:
            # Not before, since Bazel may run for hours; and not refused then, after hours.
            build, record = _build(context, reporter, lambda: writes_into_dist(reporter), again=clean)
        if proof is not None and not build.current:
            with while_proven(build, held, doing=doing, reporter=reporter):
                proof(build, record.output is not None)
        make_current(build, settings.install_link)
    build = find_build(settings.dist_root, build.manifest.build_id)
    for line in fit_warnings(context, build.manifest):
        reporter.warn(line)
    linked_again = usable.saved is not None and bool(record.actions)
    return BuildResult(build, plan, record, time.monotonic() - started, linked_again, usable.why_not)


@dataclass(frozen=True)
class AnalysisResult:
    """Bazel has loaded and analysed the server's target; nothing was compiled."""

    source: str
    summary: str
    seconds: float
    patches: tuple[PatchCase, ...] = ()

    def to_json(self) -> dict[str, object]:
        """What was analysed, in Bazel's words, and what becomes of the patches for this toolchain."""
        return {
            "source": self.source,
            "summary": self.summary,
            "seconds": round(self.seconds, 2),
            "patches": [case.to_json() for case in self.patches],
        }

    def text(self) -> str:
        """The same."""
        skipped = sum(not case.is_applied for case in self.patches if case.is_worth_telling)
        but = f", but for {skipped} of the fixes for this toolchain" if skipped else ""
        return "\n".join(
            [
                f"{self.source}: everything that the build needs is here{but} ({self.summary}, "
                f"{duration_text(self.seconds)}).",
                *told(self.patches),
                "Next: ./inv build-serving",
            ]
        )


def analyse(settings: Settings, reporter: Reporter) -> AnalysisResult:
    """All of the road up to the first compiler run: half a minute to find out whether hours of building can begin."""
    check_request(settings)
    context = find_context(settings, reporter)
    with state_lock(settings.build_root, doing="build-serving --analyse"):
        prepare(context, reporter)
        record = run_bazel(context, reporter, bazel.NO_BUILD)
    return AnalysisResult(context.source.name, record.summary, record.seconds, context.patches.cases)


def dry_run(settings: Settings, reporter: Reporter, *, cpu_server: bool = False) -> BuildPlan:
    """What build_serving() would do now, or prepare_objects() without an adapter.

    Raises what it would raise before it changes anything.
    """
    check_request(settings)
    wanted = caches.find_caches(settings)
    if sample_is_missing(settings):
        runner = choose_runner(settings, reporter)
        runner.what_is_missing()  # refuses an engine that is down, as the run would
        source = resolve_source(settings)
        check_places(build_places(settings, runner.name, source.tree))
        check_agreement(source, settings)
        later = "after the steps above"
        made = Step("sample", "the sample's CANN and libpython have to be made")
        names = (*OBJECT_STEPS, *([CPU_STEP] if cpu_server else [])) if settings.without_adapter else STEPS
        return BuildPlan((made, *(Step(name, later) for name in names)))
    context = find_context(settings, reporter)
    caches.check_reachable(wanted, context.runner)
    check_linker(context)
    plan = plan_objects(context, cpu_server=cpu_server) if settings.without_adapter else plan_build(context)
    plan_fetch(context.archives, context.store, places=context.source.places(settings)).refuse_without_places()
    if context.source.is_ready:
        _check_lock(context)  # as the run does, where there is a tree
    return plan


def check_request(settings: Settings) -> None:
    """Raises what is wrong with the request itself, before anything is looked for or made."""
    bazel.checked_flags(settings.bazel_args)
    resolve_source(settings).places(settings)


def fetch_inputs(context: BuildContext, reporter: Reporter) -> None:
    """Fetches, unpacks and prepares everything that is not there: what a build needs before its overlay."""
    settings, source = context.settings, context.source
    context.runner.check(context.layout)
    if source.name == "sample":
        make_sample_archives(settings)
    for line in source.not_measured().lines():
        reporter.warn(line)
    plan = plan_fetch(context.archives, context.store)
    mirrors = (*settings.mirrors, *source.mirrors)
    fetch(plan, context.store, reporter=reporter, mirrors=mirrors, offline=settings.offline)
    context.store.place(context.archives, settings.distdir)
    prepare_source(source, context.store)
    context.runner.prepare(reporter)


def _remove_output(context: BuildContext, reporter: Reporter) -> None:
    """Guide 6.6.6, done right: this tree's Bazel server is stopped, and what it made of this tree removed."""
    output = context.output_base
    with reporter.progress("removing the previous output", unit="trees"):
        log_path = _log_path(context.settings, "shutdown")
        bazel.stop_server(context.runner, context.layout, output, log_path=log_path)
        fsutil.remove(output)


def _build(
    context: BuildContext, reporter: Reporter, before_writing: Callable[[], None], *, again: bool
) -> tuple[Build, BuildRecord]:
    prepare(context, reporter)
    existing = None if again else context.existing_build()
    record = BuildRecord()
    if existing is None:
        digest = context.input_digest
        record = run_bazel(context, reporter)
        check_unchanged(context, digest, "while Bazel was running")
        saved = keep_link(context, record, reporter)
    before_writing()
    if existing is None:
        existing = _package(context, record, saved.linker if saved is not None else "")
    return existing, record


def _usable_link(context: BuildContext) -> UsableLink:
    """usable_link(), where the tree and the toolchain are there to be looked at."""
    if not context.source.is_ready:
        return UsableLink(None, f"{context.source.tree} has to be created")
    missing = context.runner.what_is_missing()
    return UsableLink(None, missing) if missing else usable_link(context)


def _link_again(context: BuildContext, saved: SavedLink, reporter: Reporter) -> tuple[Build, BuildRecord]:
    """The build that _build() would make, by the saved link."""
    _check_lock(context)
    apply_overlay(plan_overlay(context.source.tree, context.overlay))
    _check_adapter(context)
    existing = context.existing_build()
    if existing is not None:
        return existing, BuildRecord()
    linker = relinking(context, saved.linker)
    try:
        return _linked_by(context, saved, linker, reporter)
    except BuildFailedError as error:
        if linker == saved.linker:
            raise
        reporter.warn(f"{linker} could not link it, so {saved.linker} does, as it did before:\n{error.what}")
        return _linked_by(context, saved, saved.linker, reporter)


def _linked_by(context: BuildContext, saved: SavedLink, linker: str, reporter: Reporter) -> tuple[Build, BuildRecord]:
    digest, started = context.input_digest, time.monotonic()
    with relinked(context, saved, reporter, linker="" if linker == saved.linker else linker) as server:
        once = dict.fromkeys(LINK_ACTIONS, 1)
        record = BuildRecord(once, ran=once, output=server, seconds=time.monotonic() - started)
        check_unchanged(context, digest, "while it was linked")
        return _package(context, record, linker, moves_server=True), record


def check_unchanged(context: BuildContext, digest: str, when: str) -> None:
    """SourceError where the inputs no longer have the digest that they had before."""
    if context.hashed_again() != digest:
        raise SourceError(
            f"{context.source.tree}, or another input of the build, was changed {when}.",
            cure="run the same command again: only what the change requires is made",
        )


def prepare(context: BuildContext, reporter: Reporter) -> None:
    """All that comes before Bazel: inputs, tree, overlay. Raises the error of the step that fails."""
    fetch_inputs(context, reporter)
    _check_lock(context)
    apply_overlay(plan_overlay(context.source.tree, context.overlay))
    _check_adapter(context)


def _check_adapter(context: BuildContext) -> None:
    """AdapterError where CANN or the tree has a different adapter from the one examined, or the symbols of another."""
    if context.settings.without_adapter:
        return
    adapter, directory = context.adapter, context.source.tree / overlay.DIRECTORY
    taken = {fsutil.sha256_of(path) for path in (adapter.path, directory / content.ADAPTER_FILE)}
    asked, listed = (fsutil.read_text(directory / name) for name in (content.SYMBOLS_FILE, content.EXPORTS_FILE))
    others = [item.symbols for item in context.fits]
    is_of_it = (asked, listed) == (symbols_script(adapter.elf, others), exports_list(adapter.elf, others))
    if taken != {adapter.sha256} or not is_of_it:
        raise replaced_meanwhile(adapter.path)


def run_bazel(context: BuildContext, reporter: Reporter, *flags: str) -> BuildRecord:
    """Bazel on the prepared tree, in the context's runner. BuildFailedError where it fails."""
    settings, runner = context.settings, context.runner
    log_path = _log_path(settings, "build")
    resources = available_resources(settings.jobs, settings.memory_mb)
    for case in context.patches.worth_telling:  # before hours of building, not after them
        (reporter.note if case.is_applied else reporter.warn)(case.text())
    reporter.note(f"running Bazel {runner.where} with {resources.jobs} jobs; its log is {log_path}")
    for directory in (context.layout.output_user_root, *context.layout.extra):
        fsutil.make_directory(directory)

    expected = 0
    if bazel.NO_BUILD not in flags:
        builds, patches = read_builds(settings.dist_root).sound, context.patches.to_json()
        expected = expected_actions(builds, context.source.lock, settings.bazel_args, patches, settings.xla)

    def build(layout: Layout, cache_flags: tuple[str, ...]) -> BuildRecord:
        command = bazel.Command(
            target=bazel.TARGET,
            revision=context.source_identity[:12],
            flags=(*cache_flags, *context.bazel_flags, *flags),
        )
        return bazel.build(
            runner,
            layout,
            command,
            resources,
            log_path=log_path,
            reporter=reporter,
            cure_of=context.patches.cure_of,
            expected=expected,
            further_environment=bazel.linker_environment(settings.linker),
        )

    wanted = caches.find_caches(settings)
    relay_log = settings.logs / "cache-relay.log"
    return caches.build_with(wanted, runner, context.layout, reporter, relay_log, build)


def _log_path(settings: Settings, kind: str) -> Path:
    return settings.logs / f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}.log"


def _package(context: BuildContext, record: BuildRecord, linker: str, *, moves_server: bool = False) -> Build:
    """Assembles the build and verifies it; only then does it get its name. `linker` is the one that linked it.

    `moves_server` is for a server that nobody else needs.
    """
    if record.output is None:
        raise BuildFailedError(
            "Bazel succeeded but built no server.",
            cause="a flag in --bazel-arg or bazel_args keeps Bazel from building",
            cure="leave those flags out; to analyse without building, use ./inv build-serving --analyse",
        )
    check_linked(context.settings.linker, linker)
    manifest = manifest_of(context, record, linker)
    libraries, library_path = runtime_libraries(context.source.tree), context.cann.library_path
    dist_root = context.settings.dist_root
    judged = judged_adapters(manifest, context.settings.adapters)
    try:
        return package(
            dist_root,
            manifest,
            record.output,
            libraries,
            library_path,
            judged=judged,
            moves_server=moves_server,
        )
    except MissingSymbolsError as error:
        raise explained(context, error) from error


def manifest_of(context: BuildContext, record: BuildRecord, linker: str) -> BuildManifest:
    """What the context's build is made from; its files are not known yet."""
    dist_root, version = context.settings.dist_root, context.source.lock.serving_version
    digest = context.input_digest
    adapter = None if context.settings.without_adapter else context.adapter
    name = build_id(version, adapter.cann_version, digest) if adapter is not None else id_without(version, digest)
    return BuildManifest(
        build_id=unused_id(dist_root, name),
        input_digest=digest,
        serving_version=version,
        source={
            "name": context.source.name,
            "digest": context.source_identity,
            "tree": context.tree_digest(without=overlay.DIRECTORY),
        },
        adapter=adapter.describe() if adapter is not None else {"path": WITHOUT_ADAPTER},
        lock_digest=context.source.lock.digest,
        toolchain=context.toolchain,
        flags=context.settings.bazel_args,
        patches=context.patches.to_json(),
        actions=record.actions,
        files={},
        compilation=bazel.COMPILATION_FLAGS,
        archives={
            archive.name: {"url": archive.urls[0], "sha256": archive.sha256 or ""} for archive in context.archives
        },
        objects=context.objects_digest,
        linker=linker,
        linker_version=linker_that_made(context, linker),
        linker_setting=context.settings.linker,
        xla=context.settings.xla,
        also_fits=context.settings.also_fits,
        also_fits_files=context.also_fits_files,
    )


def _check_lock(context: BuildContext) -> None:
    source = context.source
    check_agreement(source, context.settings)
    check_tree(source.tree)
    version = serving_version(source.tree)
    if version and version != source.lock.serving_version:
        raise LockFileError(
            f"{source.tree} is version {version}, but {source.lock_path} is for {source.lock.serving_version}.",
            cure=lock_command(source.tree, context.settings),
        )
