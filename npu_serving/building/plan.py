"""What a build would do, step by step, and the digest of everything that it is made from."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from pathlib import Path

from npu_serving.building import bazel
from npu_serving.building.inputs import Inputs, patched_root
from npu_serving.building.runner import Layout
from npu_serving.building.tree_digest import tree_digest
from npu_serving.builds.current import build_made_from, check_link, link_differs
from npu_serving.builds.manifest import Build
from npu_serving.console import table
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import plan_fetch
from npu_serving.overlay.adapter import plan_overlay
from npu_serving.settings import Settings

STEPS = ("dependencies", "source", "toolchain", "overlay", "build", "current")


@dataclass(frozen=True)
class Step:
    """One step of a build. `why` says what is out of date, and is empty when nothing is."""

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

    def from_scratch(self) -> BuildPlan:
        """The plan where everything that Bazel made is made again."""
        steps = [Step(step.name, "from scratch, as requested") if step.name == "build" else step for step in self.steps]
        return BuildPlan(tuple(steps))

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


def plan_build(given: Inputs, settings: Settings) -> BuildPlan:
    """Compares what is there with what a build needs; changes nothing but memos."""
    source = given.source
    given.runner.check(layout_of(given, settings))
    check_link(settings.install_link, settings.dist_root)
    missing = plan_fetch(given.archives, ContentStore(settings.store_root)).missing
    steps = [
        Step("dependencies", _count(len(missing), "archive", "archives") + " to fetch" if missing else ""),
        Step("source", "" if source.is_ready else f"{source.tree} has to be created"),
        Step("toolchain", given.runner.what_is_missing()),
    ]
    if any(step.needed for step in steps):
        later = "after the steps above"
        return BuildPlan((*steps, Step("overlay", later), Step("build", later), Step("current", later)))
    changes = plan_overlay(source.tree, given.overlay(settings)).changes
    steps.append(Step("overlay", _count(len(changes), "file differs", "files differ") if changes else ""))
    existing = None if changes else existing_build(given, settings)
    if existing is None:
        steps.append(Step("build", "the overlay changes" if changes else "no build has been made from these inputs"))
        steps.append(Step("current", "switches to the new build"))
        return BuildPlan(tuple(steps))
    steps.append(Step("build", ""))
    elsewhere = not existing.current or link_differs(settings.dist_root, settings.install_link)
    steps.append(Step("current", f"it does not point to {existing.manifest.build_id}" if elsewhere else ""))
    return BuildPlan(tuple(steps), existing)


def layout_of(given: Inputs, settings: Settings) -> Layout:
    """The directories of this build; each runner has an output root of its own, for its paths differ inside."""
    return Layout(
        workspace=given.source.tree,
        output_user_root=settings.build_root / "bazel" / given.runner.name,
        distdir=settings.distdir,
        repository_cache=settings.store_root,
        extra=(patched_root(settings),),
    )


def output_base(given: Inputs, settings: Settings) -> Path:
    """Where Bazel keeps what it made of this tree, and of no other one."""
    return bazel.output_base(given.runner, layout_of(given, settings))


def bazel_flags(given: Inputs, settings: Settings) -> tuple[str, ...]:
    """The flags that the toolchain's patches need, with paths as Bazel sees them, and the user's."""
    patches = given.overlay(settings).patches
    (root,) = given.runner.inside(layout_of(given, settings)).extra
    return (*(patches.bazel_flags(root) if patches is not None else ()), *settings.bazel_args)


def _described_flags(given: Inputs, settings: Settings) -> list[object]:
    """The same without a path of this machine, for the digest and the manifest."""
    patches = given.overlay(settings).patches
    return [patches.to_json() if patches is not None else {}, *settings.bazel_args]


def existing_build(given: Inputs, settings: Settings) -> Build | None:
    """The build that was made from exactly these inputs, or None. The runner and the tree have to be ready."""
    return build_made_from(settings.dist_root, input_digest(given, settings))


def input_digest(given: Inputs, settings: Settings) -> str:
    """The digest of all that decides what the server becomes, without a path of this machine."""
    described = {
        "command": bazel.COMPILATION_FLAGS,
        "source": digest_of_tree(given, settings),
        "adapter": given.adapter.sha256,
        "lock": given.source.lock.digest,
        "toolchain": given.runner.identity(),
        "flags": _described_flags(given, settings),
        "machine": platform.machine(),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def digest_of_tree(given: Inputs, settings: Settings, *, without: str = "") -> str:
    """The digest of the source tree as it is, with the overlay unless that is left out."""
    tree = given.source.tree
    name = hashlib.sha256(str(tree.absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return tree_digest(tree, settings.build_root / "memo" / f"tree-{name}.json", without=without)


def source_identity(given: Inputs) -> str:
    """What the server's --version shows: the archive's digest, or the lock's where the tree is the user's own."""
    return given.source.archive.sha256 or "" if given.source.archive else given.source.lock.digest


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
