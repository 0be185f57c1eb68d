"""rebuild-after-cann: applies the plan, proves the result, and makes it the current build."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npu_serving.asking.golden_places import NONE_RECORDED, may_have_golden_requests
from npu_serving.building.build_record import LINK_ACTIONS, BuildRecord
from npu_serving.builds.assembling import package
from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import (
    check_link,
    dist_lock,
    find_build,
    make_current,
    read_builds,
    unused_id,
    while_proven,
)
from npu_serving.builds.fitting import named_adapters, needing_of
from npu_serving.builds.manifest import SERVER, Build, build_id
from npu_serving.builds.verify import check_directory
from npu_serving.cann.adapter import Adapter
from npu_serving.cann.install import Cann
from npu_serving.console import Reporter, duration_text
from npu_serving.errors import KitError, NoSuchSymbolError, NpuServingError, OutOfMemoryError, VerificationError
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.upgrade.cost import remember_time
from npu_serving.upgrade.rebuild_plan import BAZEL, FULL, NOTHING, SAVED_LINK, SWAP, RebuildPlan, plan_rebuild

# A swap is done sooner than what a link or a trial needs is imported: that is imported where it is used.
if TYPE_CHECKING:
    from npu_serving.building.pipeline import BuildResult
    from npu_serving.relink_kit.relink import KitPlanned

DOING = "rebuild-after-cann"


@dataclass(frozen=True)
class RebuildResult:
    """What was done, from Bazel's own log, and the build that is current now."""

    plan: RebuildPlan
    build: Build
    record: BuildRecord
    seconds: float
    clean_followed: bool = False
    """Whether the relinked server did not verify, so that everything was built again."""
    bazel_followed: str = ""
    """Why Bazel did what the saved link should have done; "" where it did not."""
    kit_failed: str = ""
    """What was wrong with the relink kit that was to do it, where another way did; "" where it was not."""

    @property
    def way(self) -> str:
        """What was done in the end, by the plans' names."""
        if self.clean_followed:
            return FULL
        return BAZEL if self.bazel_followed else self.plan.action

    @property
    def more_than_the_link(self) -> bool:
        """Whether a relink was planned and Bazel ran more: worth knowing before the next upgrade."""
        return self.way == BAZEL and self.record.compiled > 0

    def to_json(self) -> dict[str, object]:
        """The plan, what was run, and the build."""
        return {
            **self.build.to_json(),
            "plan": self.plan.to_json(),
            "way": self.way,
            "executed_actions": self.record.actions,
            "compiled": self.record.compiled,
            "linked": self.record.linked,
            "more_than_the_link": self.more_than_the_link,
            "clean_followed": self.clean_followed,
            "bazel_followed": self.bazel_followed,
            "kit_failed": self.kit_failed,
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """What was done and what is current now."""
        name = self.build.manifest.build_id
        if self.plan.action == NOTHING:
            return f"{name}: nothing to do: {self.plan.why}."
        done = f"{self.record.compiled} sources compiled, {self.record.linked} linked"
        if not self.record.actions:
            done = "nothing had to be linked"
        if self.plan.action == SWAP:
            done = "the adapter was replaced, nothing had to be linked"
        lines = [
            f"Verified {name}, which is now current ({done}, {duration_text(self.seconds)}).",
            str(self.build.server),
        ]
        if self.plan.kit is not None and self.record.actions:
            lines.append(f"It was linked from the relink kit {self.plan.kit.kit.path}.")
        if self.kit_failed:
            lines.append(self.kit_failed)
        if self.bazel_followed:
            lines.append(f"Bazel linked in place of the saved link: {self.bazel_followed}.")
        if self.clean_followed:
            lines.append("The relinked server failed verification, so everything was built again.")
        if self.more_than_the_link:
            lines.append("More than the link had to run, because something other than the adapter had changed.")
        lines.append("The previous build is kept: switch back to it with ./inv rollback.")
        lines.append(
            "The new CANN compiles each model again, for minutes: before a deployment's server is restarted, fill its "
            "compile cache with ./inv warm-cache --deployment FILE"
        )
        return "\n".join(lines)


def rebuild_after_cann(
    settings: Settings, reporter: Reporter, name: str = "", *, clean: bool = False, with_bazel: bool = False
) -> RebuildResult:
    """Updates a build (the current one by default) to the installed CANN, with the least work that is enough.

    `clean` is the guide's 6.6.6 done right: what Bazel made of this very tree is removed, nothing else; it follows by
    itself where a relinked server does not verify. `with_bazel` leaves a link to Bazel. The previous build is kept, and
    stays current until the new one is proven: it verifies, and answers the golden request where one was recorded.
    Raises VerificationError where no rebuild helps, ServerError where the golden request is answered differently, and
    the errors of the steps.
    """
    started = time.monotonic()
    plan = plan_rebuild(settings, name, clean=clean, with_bazel=with_bazel, reporter=reporter)
    plan.check_obstacles()
    settings = settings_of(plan.build, settings)
    if plan.action == NOTHING:
        return RebuildResult(plan, plan.build, BuildRecord(), time.monotonic() - started)
    reporter.note(plan.text().splitlines()[0])
    if plan.action == SWAP:
        build = _replace_adapter(plan, settings, reporter)
        result = RebuildResult(plan, build, BuildRecord(), time.monotonic() - started)
    elif plan.kit is not None:
        result = _from_kit(plan.kit, _Relink(plan, settings, reporter), name, started)
    else:
        result = _linked(_Relink(plan, settings, reporter), name, started)
    if result.record.actions or result.way == SWAP:
        remember_time(settings, result.build, result.way, result.seconds)
    return result


@dataclass
class _Relink:
    """A link that is done, by the saved link, from a kit, or by Bazel."""

    plan: RebuildPlan
    settings: Settings
    reporter: Reporter

    def build(self, *, clean: bool = False, by_saved_link: bool = False) -> BuildResult:
        """The build, proven and current."""
        from npu_serving.building.pipeline import build_serving

        cann = self.plan.cann

        def proof(build: Build, is_verified: bool) -> None:
            self.prove(build, cann, is_verified=is_verified)

        return build_serving(
            self.settings,
            self.reporter,
            clean=clean,
            proof=proof,
            cann=cann,
            doing=DOING,
            by_saved_link=by_saved_link,
            recorded=named_adapters(self.plan.build.manifest),
            planned=self.plan.context if not clean else None,  # that has the caches of the settings
        )

    def prove(self, build: Build, cann: Cann, *, is_verified: bool = False) -> None:
        """The proof of a build that is not current yet, as _prove()."""
        _prove(build, cann, self.settings, self.reporter, is_verified=is_verified)


def _from_kit(planned: KitPlanned, work: _Relink, name: str, started: float) -> RebuildResult:
    """What the kit makes; where that fails or does not verify, what the way makes that is left without a kit.

    A link was announced, so hours of compiling follow only where verification says that the objects won't do. Raises
    the kit's own error where nothing else is left, and OutOfMemoryError at once.
    """
    from npu_serving.relink_kit.relink import relink
    from npu_serving.upgrade.kit_way import OF_THE_KIT, after, of_kit

    try:
        with state_lock(work.settings.build_root, doing=DOING):
            made = relink(planned.kit, planned.request, work.reporter, work.prove)
    except OutOfMemoryError:
        raise
    except OF_THE_KIT as error:
        trouble = of_kit(error, planned.kit.path)
    else:
        once = dict.fromkeys(LINK_ACTIONS, 1) if made.link_seconds else {}
        return RebuildResult(work.plan, made.build, BuildRecord(once, ran=once), time.monotonic() - started)
    with after(trouble):
        work.plan = plan_rebuild(work.settings, name, kits=False, reporter=work.reporter)
        work.plan.check_obstacles()
    if work.plan.action == FULL and not isinstance(trouble, VerificationError):
        own_cure = trouble.cure if isinstance(trouble, KitError) else ""
        build_all = "build everything again: ./inv rebuild-after-cann --with-bazel"
        trouble.cure = "; or ".join(cure for cure in (own_cure, build_all) if cure)
        raise trouble
    with after(trouble):
        work.reporter.warn(trouble.what)
        work.reporter.note(work.plan.text().splitlines()[0])
        return dataclasses.replace(_linked(work, name, started), kit_failed=trouble.what)


def _linked(relink: _Relink, name: str, started: float) -> RebuildResult:
    """What the saved link makes; where that does not verify, what Bazel makes; at last, all of it again.

    A link that fails ends it: BuildFailedError.
    """
    plan, reporter = relink.plan, relink.reporter
    clean_followed, bazel_followed = False, ""

    def again(error: NpuServingError, instead: str) -> None:
        relink.plan = plan_rebuild(relink.settings, name, reporter=reporter)  # without CANN, hours would be for nothing
        relink.plan.check_obstacles()
        reporter.warn(f"the relinked server fails verification, so {instead}:\n{error.what}")

    try:
        if plan.action != SAVED_LINK:
            built = relink.build(clean=plan.action == FULL and plan.clean)
        else:
            try:
                built = relink.build(by_saved_link=True)
                bazel_followed = built.why_bazel
            except NoSuchSymbolError:
                raise
            except VerificationError as error:
                again(error, "Bazel links it")
                bazel_followed = "what it made did not verify"
                built = relink.build()
    except VerificationError as error:
        if plan.action == FULL or isinstance(error, NoSuchSymbolError):
            raise
        again(error, "everything is built again")
        built = relink.build(clean=True)
        clean_followed = True
    seconds = time.monotonic() - started
    return RebuildResult(plan, built.build, built.record, seconds, clean_followed, bazel_followed)


def _prove(build: Build, cann: Cann, settings: Settings, reporter: Reporter, *, is_verified: bool) -> None:
    """Has a build answer the golden requests, and says so where none is recorded; verifies it first, where that was not
    done by its packaging in this run.
    """
    if not is_verified:
        needing = needing_of(build.manifest, settings.adapters)
        check_directory(build.directory, cann.library_path, needing=needing)
    if not may_have_golden_requests(settings.dist_root):
        reporter.note(NONE_RECORDED)
        return
    from npu_serving.trials.smoke import prove

    prove(settings, build, cann, reporter)


def _replace_adapter(plan: RebuildPlan, settings: Settings, reporter: Reporter) -> Build:
    """A copy of the build with the installed adapter in place of its own; nothing is linked."""
    check_link(settings.install_link, settings.dist_root)
    with state_lock(settings.build_root, doing=DOING), contextlib.ExitStack() as held:
        held.enter_context(dist_lock(settings.dist_root, doing=DOING))
        same = _same_server_with(plan.installed, plan.build, settings)
        build = same if same is not None else _repackaged(plan, settings)
        if not build.current:
            with while_proven(build, held, doing=DOING, reporter=reporter):
                _prove(build, plan.cann, settings, reporter, is_verified=same is None)
        make_current(build, settings.install_link)
    return find_build(settings.dist_root, build.manifest.build_id)


def _same_server_with(adapter: Adapter, former: Build, settings: Settings) -> Build | None:
    """The build that an earlier run made of the same server and that adapter, or None."""
    for build in read_builds(settings.dist_root).sound:
        same = build.linked == former.linked and build.manifest.adapter.get("sha256") == adapter.sha256
        if same and not build.damaged_file():
            return build
    return None


def _repackaged(plan: RebuildPlan, settings: Settings) -> Build:
    former = plan.build.manifest
    digest = hashlib.sha256(f"{plan.build.linked} {plan.installed.sha256}".encode()).hexdigest()
    name = build_id(former.serving_version, plan.installed.cann_version, digest)
    manifest = dataclasses.replace(
        former,
        build_id=unused_id(settings.dist_root, name),
        input_digest=digest,
        linked=plan.build.linked,
        adapter=plan.installed.describe(),
        actions={},
    )
    # Those of the manifest, whose digests were compared: whatever else lies there is somebody else's.
    named = (plan.build.directory / name for name in former.files)
    libraries = {path.name: path for path in named if path.parent == plan.build.libraries}
    libraries[plan.build.adapter.name] = plan.installed.path
    server, library_path = plan.build.directory / SERVER, plan.cann.library_path
    return package(settings.dist_root, manifest, server, libraries, library_path, former=plan.build)
