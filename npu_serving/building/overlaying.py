"""render-overlay: the overlay in the tree of the source that is set."""

from __future__ import annotations

from npu_serving.building import inputs
from npu_serving.building.sources import resolve_source
from npu_serving.cann.install import cann_of
from npu_serving.errors import RequestError, SourceError
from npu_serving.overlay.adapter import OverlayResult, render_overlay
from npu_serving.overlay.content import OverlayInputs
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line


def render(
    settings: Settings, *, diff: bool = False, check: bool = False, remove: bool = False, dry_run: bool = False
) -> OverlayResult:
    """Writes the overlay into the tree, shows what it would change, checks it, or removes it."""
    if diff and check:
        raise RequestError("--diff and --check cannot be combined.", cure="use one of them at a time")
    mode = "diff" if diff else "check" if check else "dry-run" if dry_run else "apply"
    source = resolve_source(settings)
    if not source.tree.is_dir():
        raise SourceError(
            f"The source tree {source.tree} does not exist yet.",
            cure=f"create it with {command_line(['./inv', 'build-serving', '--source', settings.source])}, or name the "
            "path of a tree instead",
        )
    wanted = None
    if not remove:
        settings = with_sample(settings)
        libpython, fits = inputs.find_libpython(settings), inputs.find_fits(settings, source)
        if settings.without_adapter:
            wanted = OverlayInputs(None, libpython, fits=fits, xla=settings.xla)
        else:
            adapter = cann_of(settings).adapter
            wanted = OverlayInputs(adapter.path, libpython, adapter_elf=adapter.elf, fits=fits, xla=settings.xla)
    if mode != "apply":  # reads only, and may do so beside a build
        return render_overlay(source.tree, wanted, mode=mode, remove=remove)
    with state_lock(settings.build_root, doing="render-overlay"):  # not under a Bazel that reads the tree
        return render_overlay(source.tree, wanted, mode=mode, remove=remove)
