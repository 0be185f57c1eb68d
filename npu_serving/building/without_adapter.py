"""build-serving --adapter none: all but the final link, which a machine with CANN does."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building import caches
from npu_serving.building.build_record import BuildRecord
from npu_serving.building.context import BuildContext, find_context
from npu_serving.building.cpu_server import link_cpu_server
from npu_serving.building.linker_choice import check_linker
from npu_serving.building.objects_plan import cpu_server_of, plan_objects, why_not_whole
from npu_serving.building.pipeline import check_request, check_unchanged, manifest_of, prepare, run_bazel
from npu_serving.building.plan import BuildPlan, first_steps
from npu_serving.building.prepared import keep_prepared, make_newest
from npu_serving.building.saved_links import keep_link, link_file
from npu_serving.builds.manifest import Build
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.console import Reporter, duration_text
from npu_serving.errors import BuildFailedError
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock

DOING = "build-serving --adapter none"
_TWICE = 2


@dataclass(frozen=True)
class PreparedResult:
    """What is ready to be linked where CANN is, and what it took."""

    objects: str
    plan: BuildPlan
    record: BuildRecord
    seconds: float
    link: Path
    fits: tuple[KnownAdapter, ...] = ()
    """What a server that is linked of it is to fit besides its adapter."""
    server: Build | None = None
    """For the CPU, where it was asked for."""

    def to_json(self) -> dict[str, object]:
        """The digest of what was compiled, and what was done."""
        return {
            "objects": self.objects,
            "saved_link": str(self.link),
            "cpu_server": self.server.to_json() if self.server is not None else None,
            "nothing_to_do": self.plan.nothing_to_do,
            "executed_actions": self.record.actions,
            "ran": self.record.ran,
            "cached": self.record.cached,
            "compiled": self.record.compiled,
            "seconds": round(self.seconds, 2),
        }

    def text(self) -> str:
        """What was done. It is linked from a kit, whose text says what to type next."""
        if not self.record.actions:
            done = "Everything but the final link is up to date"
        else:
            done = f"Built everything but the final link ({self.record.compiled} sources compiled, "
            done += f"{self.record.cached} results from the cache, " if self.record.cached else ""
            done += f"{duration_text(self.seconds)})"
        lines = [f"{done}; the link is kept in {self.link}."]
        if self.server is not None:
            lines.append(f"A server without an adapter, for the CPU and for trying only: {self.server.server}")
        return "\n".join(lines)


def prepare_objects(settings: Settings, reporter: Reporter, *, cpu_server: bool = False) -> PreparedResult:
    """Runs every step that is out of date; dist/current stays what it is.

    Raises the error of the step that fails; what was finished before it is kept, so the next run resumes there.
    """
    started = time.monotonic()
    check_request(settings)
    wanted = caches.find_caches(settings)
    context = find_context(settings, reporter)
    caches.check_reachable(wanted, context.runner)
    check_linker(context)  # Bazel links the tools that it runs with it, such as protoc
    plan = plan_objects(context, cpu_server=cpu_server)
    record, server = BuildRecord(), cpu_server_of(context) if plan.nothing_to_do and cpu_server else None
    if plan.nothing_to_do:
        make_newest(settings, context.objects_digest)
    else:
        with state_lock(settings.build_root, doing=DOING):
            context, record = _make(context, reporter)
            server = link_cpu_server(context, reporter) if cpu_server else None
    objects, seconds = context.objects_digest, time.monotonic() - started
    return PreparedResult(objects, plan, record, seconds, link_file(settings, objects), context.fits, server)


def _make(context: BuildContext, reporter: Reporter) -> tuple[BuildContext, BuildRecord]:
    """What is missing, and the context in which it is whole: the tree may just have been made."""
    record = BuildRecord()
    if any(step.needed for step in first_steps(context)) or why_not_whole(context):
        prepare(context, reporter)
        context = dataclasses.replace(context)
        digest = context.input_digest
        record = _objects(context, reporter)
        check_unchanged(context, digest, "while Bazel was running")
    keep_prepared(context.settings, manifest_of(context, record, ""))
    return context, record


def _objects(context: BuildContext, reporter: Reporter) -> BuildRecord:
    """Bazel's record, once the link that it would have done is kept.

    Where Bazel has all and does not say how, it is asked again without the server, whose link costs nothing here.
    """
    for _ in range(_TWICE):
        record = run_bazel(context, reporter)
        if keep_link(context, record, reporter) is not None:
            return record
        if record.output is not None:
            fsutil.remove(record.output)
    raise BuildFailedError(
        "Bazel has made the objects, but its log does not say how the server is linked.",
        cause="a flag in --bazel-arg or bazel_args keeps Bazel from writing its events, or from building",
        cure="leave those flags out; to analyse without building, use ./inv build-serving --analyse",
    )
