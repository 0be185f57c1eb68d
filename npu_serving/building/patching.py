"""Which declared patches a source gets with a toolchain: asked by doctor, the plan, the analysis and the build."""

from __future__ import annotations

from pathlib import Path

from npu_serving.building.locking import check_agreement
from npu_serving.building.sources import ServingSource, resolve_source
from npu_serving.errors import NpuServingError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.findings import NOTE, Finding
from npu_serving.overlay.patch_plan import PatchPlan, plan_patches
from npu_serving.overlay.patches import Toolchain
from npu_serving.settings import Settings


def patches_for(source: ServingSource, settings: Settings, toolchain: Toolchain) -> PatchPlan:
    """The plan; changes nothing but memos."""
    store = ContentStore(settings.store_root)
    return plan_patches(
        source.tree,
        source.lock.archives,
        lambda archive: store.path(archive.sha256 or ""),
        patched_root(settings),
        toolchain,
        needed={archive.name for archive in source.needed_archives()},
    )


def patched_root(settings: Settings) -> Path:
    """Where the repositories are that have a patch applied."""
    return settings.build_root / "patched"


def patch_findings(settings: Settings, glibc: str, gcc: str) -> tuple[Finding, ...]:
    """The same for doctor: a finding for each patch that these versions call for and this source has a place for.

    Where there is no source yet, or no lock that goes with it, the one finding says why that isn't known.
    """
    try:
        source = resolve_source(settings)
        check_agreement(source, settings)
    except NpuServingError as error:
        return (Finding(severity=NOTE, what=f"not known: {error.what.splitlines()[0].rstrip(':')}", cure=error.cure),)
    cases = patches_for(source, settings, Toolchain(glibc, gcc)).cases
    return tuple(case.finding() for case in cases if case.is_called_for)
