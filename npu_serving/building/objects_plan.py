"""What `build-serving --adapter none` would do, step by step."""

from __future__ import annotations

import hashlib
from pathlib import Path

from npu_serving.building.context import BuildContext
from npu_serving.building.plan import BuildPlan, Step, first_steps, overlay_step
from npu_serving.building.prepared import prepared_of
from npu_serving.building.saved_links import places_of, saved_link_of
from npu_serving.builds.current import CPU_SERVER, build_made_from, link_target
from npu_serving.builds.manifest import Build
from npu_serving.linking.saved_link import located
from npu_serving.overlay.adapter import plan_overlay

CPU_STEP = "CPU server"
OBJECT_STEPS = ("dependencies", "source", "toolchain", "overlay", "objects")


def plan_objects(context: BuildContext, *, cpu_server: bool = False) -> BuildPlan:
    """Compares what is there with what a kit needs, and a `cpu_server`; changes nothing but memos."""
    steps = first_steps(context)
    patches = context.patches_if_known()
    cases = patches.cases if patches is not None else ()
    if any(step.needed for step in steps):
        later = "after the steps above"
        last = [Step(CPU_STEP, later)] if cpu_server else []
        return BuildPlan((*steps, Step("overlay", later), Step("objects", later), *last), patches=cases)
    why = why_not_whole(context)
    changes = plan_overlay(context.source.tree, context.overlay).changes if why else ()
    steps.append(overlay_step(len(changes)))
    steps.append(Step("objects", why or _why_not_ready(context)))
    if cpu_server:
        is_there = not steps[-1].needed and cpu_server_of(context) is not None
        steps.append(Step(CPU_STEP, "" if is_there else "none was linked of these objects"))
    return BuildPlan(tuple(steps), patches=cases)


def _why_not_ready(context: BuildContext) -> str:
    """What keeps objects that are whole from being packed; "" where nothing does."""
    kept = prepared_of(context.settings, context.objects_digest)
    if kept is None:
        return "they were built, and not yet made ready for another machine"
    asked = (tuple(context.settings.also_fits), context.also_fits_files)
    return "" if (kept.also_fits, kept.also_fits_files) == asked else "a server of them is to fit other adapters now"


def why_not_whole(context: BuildContext) -> str:
    """What keeps the objects from being linked as they are; "" where nothing does."""
    saved = saved_link_of(context)
    if saved is None:
        return "no link of these objects is kept"
    places = places_of(context)
    root = located(Path(saved.directory), "", places)
    other = saved.why_other(root, places)
    if other:
        return other
    gone = next((name for name in saved.replaced if not located(root, name, places).is_file()), "")
    return f"{gone} was removed" if gone else ""


def cpu_server_of(context: BuildContext) -> Build | None:
    """The one that was linked of the context's objects, and that dist/cpu-server points to; None where none is."""
    found = build_made_from(context.settings.dist_root, cpu_digest(context))
    linked = link_target(context.settings.dist_root, CPU_SERVER)
    return found if found is not None and found.directory.name == linked else None


def cpu_digest(context: BuildContext) -> str:
    """The input digest of a server that is linked of the context's objects without an adapter."""
    return hashlib.sha256(f"without an adapter: {context.objects_digest}".encode()).hexdigest()
