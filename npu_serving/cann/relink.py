"""rebuild-after-cann: does the current build still fit the CANN that is installed now, and if not, link it again."""

from __future__ import annotations

from dataclasses import dataclass

from npu_serving.build import artifact
from npu_serving.build.artifact import Build
from npu_serving.build.inputs import settings_of
from npu_serving.build.pipeline import BuildResult, build_serving
from npu_serving.cann.install import Adapter, find_adapter
from npu_serving.console import Reporter
from npu_serving.settings import Settings


@dataclass(frozen=True)
class RebuildPlan:
    """What a replaced CANN calls for. `why` is empty when the current build was linked with the installed adapter."""

    build: Build
    installed: Adapter
    why: str

    @property
    def exit_code(self) -> int:
        """0, or 3 where the server has to be linked again."""
        return 3 if self.why else 0

    def to_json(self) -> dict[str, object]:
        """The plan with both adapters."""
        return {
            "build_id": self.build.manifest.build_id,
            "linked_with": dict(self.build.manifest.adapter),
            "installed": self.installed.describe(),
            "action": "relink" if self.why else "nothing",
            "why": self.why,
        }

    def text(self) -> str:
        """One or two lines."""
        if not self.why:
            return (
                f"{self.build.manifest.build_id} was linked with the adapter that is installed; nothing is to be done."
            )
        return f"{self.build.manifest.build_id} is to be linked again: {self.why}.\nNext: ./inv rebuild-after-cann"


def plan_rebuild(settings: Settings, name: str = "") -> RebuildPlan:
    """Compares the adapter of a build (the current one by default) with the one installed now; changes nothing."""
    build = artifact.find_build(settings.dist_root, name)
    settings = settings_of(build, settings)
    installed = find_adapter(settings.adapter, settings.cann_root)
    linked = build.manifest.adapter
    if linked.get("sha256") == installed.sha256:
        return RebuildPlan(build, installed, "")
    why = f"it was linked with CANN {linked.get('cann_version')}, installed is CANN {installed.cann_version}"
    return RebuildPlan(build, installed, why)


def rebuild_after_cann(settings: Settings, reporter: Reporter, name: str = "", *, clean: bool = False) -> BuildResult:
    """Takes the new adapter into the tree and links again; only the link runs, unless `clean` asks for all of it.

    `clean` is the guide's 6.6.6 done right: the output root of this very build is removed, no other one. The former
    build stays, and stays current until the new one is proven.
    """
    build = artifact.find_build(settings.dist_root, name)
    return build_serving(settings_of(build, settings), reporter, clean=clean)
