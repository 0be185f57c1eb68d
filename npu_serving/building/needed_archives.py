"""Which archives the server needs, and which are merely declared: found by asking Bazel, for both processors.

Bazel loads and analyses the server in an output root that is empty, so what it has fetched in the end is what it
needs. It gets archives from the store only; what the store lacks is fetched by our engine, and Bazel asked again. A
C++ toolchain that only analyses (third_party_overlay/analysis) lets it follow the select()s of either processor.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building import bazel
from npu_serving.building.bazel_program import find_bazel
from npu_serving.building.inputs import choose_runner, find_libpython
from npu_serving.building.runner import Layout, Runner
from npu_serving.building.sources import state_of
from npu_serving.cann.install import cann_of
from npu_serving.console import Reporter
from npu_serving.errors import BuildFailedError, LockFileError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.fetching import fetch, plan_fetch
from npu_serving.lock.lockfile import Archive, Lock
from npu_serving.overlay.adapter import FULL_XLA, apply_overlay, plan_overlay, plan_removal
from npu_serving.overlay.content import OverlayInputs
from npu_serving.resources import available_resources
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import PROJECT_ROOT, XLA_FULL, XLA_OF_ADAPTER, Settings
from npu_serving.state_lock import state_lock

PROCESSORS = {"linux-x86_64-cpu": "k8", "linux-aarch64-cpu": "aarch64"}
"""Each platform of a lock, and Bazel 0.24.1's name of its processor."""

_PACKAGE = "npu_serving_analysis"
_TEMPLATES = PROJECT_ROOT / "third_party_overlay" / "analysis"
# Bazel is to take what the store has, and to open no connection of its own. No port has this number, so a download
# fails at once, where one that is refused is tried again for 15 seconds.
_NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:99999")
_OF_BAZEL = ("bazel_tools", "local_config_", "local_jdk")  # what Bazel declares itself begins with one of these


@dataclass(frozen=True)
class Needs:
    """The names of the repositories that Bazel asked for on one platform; `optional`: those that all of XLA needs."""

    names: frozenset[str]
    optional: frozenset[str]


def measure_needs(
    tree: Path, lock: Lock, settings: Settings, reporter: Reporter, *, mirrors: Sequence[str] = ()
) -> Lock:
    """The lock with `needed_by`, `only_with` and `platform_sources` as Bazel reports them. The tree stays unchanged.

    Raises what find_bazel() and fetching raise, BuildFailedError when Bazel can't analyse the server, LockFileError
    when it asks for something that can't be in a store.
    """
    with state_lock(settings.build_root, doing="lock-deps --needed"):
        made = with_sample(dataclasses.replace(settings, adapter="sample"))
        adapter = cann_of(made).adapter
        overlay = OverlayInputs(adapter.path, find_libpython(made), adapter_elf=adapter.elf)
        runner = choose_runner(settings, reporter)
        runner.prepare(reporter)
        needs = {}
        for platform in PROCESSORS:
            asking = _Asking(platform, tree, lock, settings, runner, reporter, mirrors)
            try:
                needs[platform] = asking.answer(overlay)
            finally:
                fsutil.remove(asking.directory)
    version = find_bazel(settings, reporter).version
    measured = with_needs(lock, needs, {platform: _how_measured(version, cpu) for platform, cpu in PROCESSORS.items()})
    return dataclasses.replace(measured, measured_on=state_of(tree))


def with_needs(lock: Lock, needs: Mapping[str, Needs], sources: Mapping[str, str]) -> Lock:
    """The lock with these needs in place of its own."""

    def with_need(archive: Archive) -> Archive:
        platforms = [name for name in sorted(needs) if archive.name in needs[name].names and not archive.shadowed]
        optional = bool(platforms) and all(archive.name in needs[name].optional for name in platforms)
        return dataclasses.replace(archive, needed_by=tuple(platforms), only_with=FULL_XLA if optional else "")

    return dataclasses.replace(
        lock, archives=tuple(with_need(archive) for archive in lock.archives), platform_sources=dict(sources)
    )


def _how_measured(version: str, cpu: str) -> str:
    return (
        f"what Bazel {version} fetched into an empty output root to load and analyse {bazel.TARGET} with the overlay, "
        f"for --cpu={cpu} with a toolchain that only analyses (lock-deps --needed)"
    )


class _Asking:
    """The analysis for one platform, on a copy of the tree."""

    def __init__(
        self,
        platform: str,
        tree: Path,
        lock: Lock,
        settings: Settings,
        runner: Runner,
        reporter: Reporter,
        mirrors: Sequence[str],
    ) -> None:
        self.directory = settings.build_root / "needed" / platform
        self._cpu = PROCESSORS[platform]
        self._platform = platform
        self._origin = tree
        self._lock = lock
        self._settings = settings
        self._runner = runner
        self._reporter = reporter
        self._mirrors = mirrors
        self._store = ContentStore(settings.store_root)
        self._layout = Layout(
            workspace=self.directory / "tree",
            output_user_root=self.directory / "output",
            distdir=self.directory / "distdir",
            repository_cache=settings.store_root,
        )

    def answer(self, overlay: OverlayInputs) -> Needs:
        """Asks twice, with what the adapter calls of XLA and with all of it: the difference is what the rest needs."""
        fsutil.remove(self.directory)
        for path in (self._layout.output_user_root, self._layout.distdir, self._layout.repository_cache):
            fsutil.make_directory(path)
        tree = self._layout.workspace
        shutil.copytree(self._origin, tree, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        shutil.copytree(_TEMPLATES, tree / _PACKAGE)
        self._runner.check(self._layout)
        apply_overlay(plan_removal(tree))
        self._fetch([archive for archive in self._lock.archives if archive.needed_by])  # a good guess saves rounds
        apply_overlay(plan_overlay(tree, dataclasses.replace(overlay, xla=XLA_OF_ADAPTER)))
        without = self._fetched_for_the_server()
        apply_overlay(plan_overlay(tree, dataclasses.replace(overlay, xla=XLA_FULL)))
        names = self._fetched_for_the_server()
        return Needs(names, names - without)

    def _fetched_for_the_server(self) -> frozenset[str]:
        """The repositories that Bazel fetched for the server of the copy, in as many rounds as it takes."""
        while True:
            try:
                self._analyse()
                break
            except BuildFailedError:
                asked_for = _unfetched(self._external)
                if not self._fetch([archive for archive in self._lock.archives if archive.name in asked_for]):
                    self._explain(asked_for)
                    raise
        names = _fetched(self._external)
        known = {item.name for item in self._lock.archives} | {item.name for item in self._lock.others}
        unknown = sorted(name for name in names - known if not name.startswith(_OF_BAZEL))
        if unknown:
            self._reporter.warn(f"Bazel also asks for archives that are not in the lock: {', '.join(unknown)}")
        return names & known

    @property
    def _external(self) -> Path:
        return bazel.output_base(self._runner, self._layout) / "external"

    def _analyse(self) -> None:
        analysis = f"//{_PACKAGE}"
        flags = [f"--cpu={self._cpu}", f"--host_cpu={self._cpu}"]
        flags += [f"--{prefix}crosstool_top={analysis}:toolchain" for prefix in ("", "host_")]
        flags += [f"--{name}={analysis}:linux-{self._cpu}" for name in ("platforms", "host_platform")]
        command = bazel.Command(
            bazel.TARGET, "analysis", ("--nobuild", "--keep_going", *bazel.xla_flags(XLA_OF_ADAPTER), *flags)
        )
        log_path = self._settings.logs / f"needed-{self._platform}.log"
        self._reporter.note(f"analysing the server for {self._platform} with Bazel; its log is {log_path}")
        bazel.build(
            self._runner,
            self._layout,
            command,
            available_resources(self._settings.jobs, self._settings.memory_mb),
            log_path=log_path,
            reporter=self._reporter,
            further_environment=_NO_NETWORK,
        )

    def _fetch(self, archives: Sequence[Archive]) -> bool:
        """Fetches those that the store lacks; whether there were any."""
        plan = plan_fetch([item for item in archives if not item.shadowed], self._store)
        fetch(plan, self._store, mirrors=self._mirrors, offline=self._settings.offline, reporter=self._reporter)
        return bool(plan.missing)

    def _explain(self, asked_for: frozenset[str]) -> None:
        """LockFileError where Bazel's failure is that the tree itself keeps it from using a store."""
        archives = [item for item in self._lock.archives if item.name in asked_for and not item.shadowed]
        unpinned = sorted(item.name for item in archives if item.sha256 is None or item.pinned_here)
        cloned = sorted(item.name for item in self._lock.others if item.name in asked_for and item.is_git)
        if unpinned or cloned:
            raise LockFileError(
                f"The server needs {', '.join([*unpinned, *cloned])}, which Bazel does not take from a store.",
                cause="the tree declares it without a sha256, or clones it with git",
                cure="declare it in the tree as an archive with a sha256, then run the same command again",
            )


def _fetched(external: Path) -> frozenset[str]:
    """The repositories that are complete: Bazel writes @NAME.marker last."""
    return frozenset(path.name[1 : -len(".marker")] for path in external.glob("@*.marker"))


def _unfetched(external: Path) -> frozenset[str]:
    """The repositories that Bazel began with and could not finish."""
    begun = {path.name for path in external.iterdir() if path.is_dir()} if external.is_dir() else set()
    return frozenset(begun) - _fetched(external)
