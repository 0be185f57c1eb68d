"""What an installed CANN requires: nothing, another adapter in the build, a link here or of a kit, or all again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import find_build
from npu_serving.builds.fitting import named_adapters, needing_of
from npu_serving.builds.manifest import Build, BuildManifest
from npu_serving.builds.verify import verify_directory
from npu_serving.cann.adapter import Adapter, told_apart
from npu_serving.cann.install import Cann, cann_of
from npu_serving.console import Reporter, Silent, amount_text
from npu_serving.elf.report import (
    CANNOT_TELL,
    DRIVER_NOT_FOUND,
    LIBRARY_NOT_FOUND,
    LIBRARY_UNUSABLE,
    SIZE_CHANGED,
    SYMBOL_OF_CANN,
    SYMBOL_OF_DRIVER,
    SYMBOLS_OF_OTHERS,
    CompatReport,
    finding_json,
    finding_text,
)
from npu_serving.errors import (
    EXIT_ACTION_NEEDED,
    ElfError,
    FileAccessError,
    MissingToolError,
    NpuServingError,
    RequestError,
    SourceError,
    VerificationError,
)
from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.settings import Settings
from npu_serving.upgrade.cost import UpgradeCost, cost_of
from npu_serving.writers.shell import command_line

if TYPE_CHECKING:
    from npu_serving.building.context import BuildContext
    from npu_serving.relink_kit.relink import KitPlanned

NOTHING = "nothing"
SWAP = "swap"
SAVED_LINK = "saved link"
KIT = "kit"
BAZEL = "Bazel"
FULL = "full"


@dataclass(frozen=True)
class RebuildPlan:
    """What has to be done so that a build fits the installed CANN, and why.

    `report` is on the build's server as it is, with the installed adapter. `obstacles` are findings that no rebuild
    takes away, such as a library of CANN that is missing.
    """

    build: Build
    cann: Cann
    """The one that is installed: whoever carries the plan out goes on with it."""
    action: str
    why: str
    report: CompatReport
    obstacles: tuple[Finding, ...] = ()
    clean: bool = False
    """Whether everything is built again because that was requested."""
    with_bazel: bool = False
    """Whether Bazel links because that was requested."""
    cost: UpgradeCost | None = None
    """What it takes on this machine; None where nobody has asked."""
    kit: KitPlanned | None = None
    """The relink from a kit that carries the plan out, where that is its action."""
    kit_cure: str = ""
    """What makes a relink kit of the build usable, so that this way need not be taken."""
    context: BuildContext | None = field(default=None, repr=False)
    """What would be built from, where that was looked for and is there."""

    @property
    def installed(self) -> Adapter:
        """The adapter that is installed."""
        return self.cann.adapter

    @property
    def exit_code(self) -> int:
        """0, or 3 where something has to be done."""
        return 0 if self.action == NOTHING and not self.obstacles else EXIT_ACTION_NEEDED

    def check_obstacles(self) -> None:
        """VerificationError where the server would not start, whatever is done to it."""
        if self.obstacles:
            raise VerificationError(
                "The server would not start with the installed CANN, and a rebuild would not change that:\n"
                + "\n".join(finding_text(finding) for finding in self.obstacles),
                cause="CANN, or what it needs of this system, is incomplete or of another release",
                cure="do what the findings above say, then run the same command again",
            )

    def _command(self) -> str:
        """The command that applies this plan."""
        words = ["./inv", "rebuild-after-cann"]
        if not self.build.current:
            words += ["--build", self.build.directory.name]
        words += ["--clean"] if self.clean else []
        return command_line([*words, "--with-bazel"] if self.with_bazel else words)

    def to_json(self) -> dict[str, object]:
        """The plan with both adapters."""
        return {
            "build_id": self.build.manifest.build_id,
            "linked_with": dict(self.build.manifest.adapter),
            "installed": self.installed.describe(),
            "action": self.action,
            "why": self.why,
            "kit": str(self.kit.kit.path) if self.kit is not None else None,
            "kit_cure": self.kit_cure,
            **(self.cost.to_json() if self.cost is not None else {}),
            "obstacles": [finding_json(finding) for finding in self.obstacles],
            "findings": [finding_json(finding) for finding in self.report.findings],
        }

    def text(self) -> str:
        """The action, the reason, and what to type next."""
        lines = [f"{self.build.manifest.build_id}: {self.action}: {self.why}"]
        if self.obstacles:
            lines += [finding_text(finding) for finding in self.obstacles]
            lines.append(
                "A rebuild would not change that. Next: do what is said above, then run the same command again"
            )
        elif self.action != NOTHING:
            lines += [_kit_text(self.kit)] if self.kit is not None else []
            lines += [self.cost.text()] if self.cost is not None else []
            done = "builds all of it" if self.action == FULL else "has Bazel link it"
            cheaper = f"{self.kit_cure}, then {self._command()} --check; or " if self.kit_cure else ""
            lines.append(f"Next: {cheaper}{self._command()}" + (f" {done}" if cheaper else ""))
        return "\n".join(lines)


def _kit_text(planned: KitPlanned) -> str:
    """The kit that is linked from, and with which linker."""
    size = amount_text(planned.unpacks_bytes, "bytes")
    unpacked = f"{size} are unpacked first" if planned.unpacks_bytes else "which is unpacked already"
    linker = f", with {planned.linker.text()}" if planned.linker is not None else ""
    return f"Kit: {planned.kit.path}, {unpacked}{linker}."


def plan_rebuild(
    settings: Settings,
    name: str = "",
    *,
    clean: bool = False,
    with_bazel: bool = False,
    costs: bool = False,
    kits: bool = True,
    reporter: Reporter | None = None,
) -> RebuildPlan:
    """Compares a build (the current one by default) with the CANN that is installed now; changes nothing.

    With `clean` everything is built again, whatever the comparison says; `with_bazel` leaves a link to Bazel though
    the saved one, or a relink kit, would do. Without `kits` none is looked for. `costs` has it say what the way takes
    on this machine. `reporter` hears of the toolchain, also from whoever goes on with the plan's context. Raises what
    find_build() and cann_of() raise, and the errors of the inputs where the build has to be linked, one of them, or the
    linker that was asked for, is gone, and no kit has them.
    """
    build = find_build(settings.dist_root, name)
    if build.manifest.without_adapter:
        raise RequestError(
            f"{build.manifest.build_id} has no adapter that could be renewed.",
            cause="it was linked without one, to be tried on the CPU",
            cure="build a server with the adapter that is installed here: ./inv build-serving --adapter auto",
        )
    settings = settings_of(build, settings)
    cann = cann_of(settings)
    installed = cann.adapter
    report = _report(build, cann, settings)
    obstacles = tuple(_obstacles(build, installed, report))
    is_sound = not build.damaged_file()
    if clean:
        way = _Way(FULL, "as requested with --clean")
    elif _carries(build, installed) and is_sound and (report.fits_where_a_driver_is or obstacles):
        way = _Way(NOTHING, f"it contains the installed adapter, that of CANN {_version(installed.cann_version)}")
    else:
        kits = kits and build.current and not with_bazel
        way = _what_to_do(build, cann, report, settings, reporter or Silent(), with_bazel=with_bazel, kits=kits)
    cost = None
    if costs:
        unpacked_bytes = way.kit.unpacks_bytes if way.kit is not None else 0
        cost = cost_of(way.action, build, installed, settings, unpacked_bytes=unpacked_bytes)
    return RebuildPlan(
        build,
        cann,
        way.action,
        way.why,
        report,
        obstacles,
        clean=clean,
        with_bazel=with_bazel,
        cost=cost,
        kit=way.kit,
        kit_cure=way.kit_cure,
        context=way.context,
    )


def _carries(build: Build, adapter: Adapter) -> bool:
    return build.manifest.adapter.get("sha256") == adapter.sha256


def _report(build: Build, cann: Cann, settings: Settings) -> CompatReport:
    """The report on the build's server with the installed adapter; a server that can't be read is a finding of it."""
    try:
        needing = needing_of(build.manifest, settings.adapters)
        return verify_directory(build.directory, cann.library_path, cann.adapter, needing=needing)
    except (ElfError, FileAccessError) as error:
        unusable = Finding(
            kind=LIBRARY_UNUSABLE,
            severity=PROBLEM,
            where=build.server.name,
            what=error.what,
            cure="./inv rebuild-after-cann",
        )
        return CompatReport(build.server, cann.adapter.path, (), (unusable,))


@dataclass(frozen=True)
class _Way:
    """An action, why it is the one, and the kit where it is that."""

    action: str
    why: str
    kit: KitPlanned | None = None
    kit_cure: str = ""
    context: BuildContext | None = None


@dataclass(frozen=True)
class _Hindrance:
    """Why a build can't just be linked again here."""

    why: str
    is_gone: bool = False
    """Whether something is not there any more that a relink kit of the build makes up for; False where it differs."""
    error: NpuServingError | None = None
    """What a build would end with, where it is known already."""


def _what_to_do(
    build: Build,
    cann: Cann,
    report: CompatReport,
    settings: Settings,
    reporter: Reporter,
    *,
    with_bazel: bool,
    kits: bool,
) -> _Way:
    installed, reasons = cann.adapter, []
    if not _carries(build, installed):
        linked, here = told_apart(build.manifest.adapter, installed)
        reasons.append(f"it was linked with {linked}, but {here} is installed")
    damaged = build.damaged_file()
    if damaged:
        reasons.append(f"its {damaged} was removed or changed since it was built")
    why = "; ".join(reasons) or "it would not start"
    only_the_adapter = not build.damaged_file(without=build.adapter.relative_to(build.directory).as_posix())
    if (
        report.fits_where_a_driver_is
        and only_the_adapter
        and not {CANNOT_TELL, SIZE_CHANGED} & set(report.kinds(WARNING))
    ):
        return _Way(SWAP, f"{why}, and the server already has all that the installed adapter needs")
    lacks = why if report.fits_where_a_driver_is else f"{why}; {_what_is_missing(report)}"
    hindrance, context = _more_than_the_link(build, settings, cann, reporter)
    if hindrance is not None:
        way = _Way(FULL, f"{why}; {hindrance.why}")
    elif with_bazel or context is None:
        return _checked(context, _Way(BAZEL, f"{lacks}; Bazel links, as requested with --with-bazel"))
    else:
        from npu_serving.building.saved_link_run import usable_link

        usable = usable_link(context)
        if usable.saved is not None:
            return _checked(context, _Way(SAVED_LINK, lacks))
        hindrance = _Hindrance(usable.why_not, usable.is_gone)
        way = _Way(BAZEL, f"{lacks}; Bazel links, because {usable.why_not}")
    if not (kits and hindrance.is_gone):
        return _checked(context, way, hindrance)
    from npu_serving.upgrade.kit_way import after, cure_of_kit, usable_kit

    kit = usable_kit(build, cann, settings)
    if kit.planned is not None:
        held = f"{kit.planned.kit.path.name} holds what it was linked from"
        return _Way(KIT, f"{lacks}; {hindrance.why}, but {held}", kit.planned)
    with after(kit.trouble):
        way = _checked(context, way, hindrance)
    if kit.trouble is None:
        return way
    return replace(way, why=f"{way.why}. {kit.trouble.what}", kit_cure=cure_of_kit(kit.trouble))


def _checked(context: BuildContext | None, way: _Way, hindrance: _Hindrance | None = None) -> _Way:
    """The way, gone with that context. Raises what it would end with: that is known, or the linker isn't here."""
    if hindrance is not None and hindrance.error is not None:
        raise hindrance.error
    if context is not None:
        from npu_serving.building.linker_choice import check_linker

        check_linker(context)
    return replace(way, context=context)


def _more_than_the_link(
    build: Build, settings: Settings, cann: Cann, reporter: Reporter
) -> tuple[_Hindrance | None, BuildContext | None]:
    """Why Bazel would have to do more than link, None where it probably would not; and what it would build from, None
    where that is not there.

    It is an expectation: what was really done is read from Bazel's own log afterwards.
    """
    # Only here, because a plan that needs no Bazel should be quick.
    from npu_serving.building.context import find_context

    _ = cann.installation  # what is wrong with CANN no kit makes up for
    try:
        context = find_context(settings, reporter, cann, named_adapters(build.manifest))
    except (SourceError, MissingToolError) as error:
        return _Hindrance(error.what.rstrip("."), is_gone=True, error=error), None
    other = _what_differs(build.manifest, context)
    if other:
        return _Hindrance(other), context
    gone = _what_is_gone(context)
    return (_Hindrance(gone, is_gone=True) if gone else None), context


def _what_differs(manifest: BuildManifest, context: BuildContext) -> str:
    """What decides the objects and is no longer what it was; "" where nothing of it, as far as it is there."""
    from npu_serving.building import bazel
    from npu_serving.overlay.adapter import DIRECTORY

    source = context.source
    if manifest.compilation and manifest.compilation != bazel.COMPILATION_FLAGS:
        return "this version of npu-serving compiles with other flags"
    if manifest.lock_digest != source.lock.digest:
        return "the lock has changed since it was built"
    if manifest.source.get("digest") != context.source_identity or (source.tree.exists() and not source.is_ready):
        return f"the source tree {source.tree} comes from a different archive"
    tree = context.tree_digest(without=DIRECTORY) if source.is_ready else ""
    if tree and manifest.source.get("tree", tree) != tree:
        return f"{source.tree} has changed since it was built"
    if not context.runner.what_is_missing():
        other = _other_toolchain(manifest.toolchain, context.toolchain)
        if other:
            return f"the toolchain has changed: {other}"
    return ""


def _what_is_gone(context: BuildContext) -> str:
    """What of that, or of what Bazel made of it, is not there any more; "" for nothing."""
    if not context.source.is_ready:
        return f"the source tree {context.source.tree} is missing"
    missing = context.runner.what_is_missing()
    if missing:
        return missing
    output = context.output_base
    return "" if (output / "execroot").is_dir() else f"Bazel's output for this tree was removed: {output}"


def _other_toolchain(former: Mapping[str, str], now: Mapping[str, str]) -> str:
    changed = [name for name, value in now.items() if former.get(name) != value]
    return "; ".join(f"{name} {former.get(name, 'none')} became {now[name]}" for name in changed)


def _what_is_missing(report: CompatReport) -> str:
    for finding in report.findings:
        if finding.severity == PROBLEM and finding.details:
            more = f" and {len(finding.details) - 1} more" if len(finding.details) > 1 else ""
            return f"{finding.kind}: {finding.details[0]}{more}"
        if finding.severity == PROBLEM and finding.kind == LIBRARY_UNUSABLE:
            return finding.what
    return report.verdict


def _obstacles(build: Build, installed: Adapter, report: CompatReport) -> list[Finding]:
    """Missing libraries that no build provides, and symbols that no server has to give; and, with the adapter that the
    build was proven with, whatever else.
    """
    own = {name.rpartition("/")[2] for name in build.manifest.files}
    # A machine that builds has no driver, and needs none.
    errors = [item for item in report.findings if item.severity == PROBLEM and item.kind != DRIVER_NOT_FOUND]
    # A build carries the libraries of Python and the system that it was linked with; those of CANN it never does.
    foreign = [
        finding
        for finding in errors
        if finding.kind in (SYMBOL_OF_CANN, SYMBOL_OF_DRIVER)
        or (finding.kind in SYMBOLS_OF_OTHERS and finding.where not in own)
    ]
    missing = [finding for finding in errors if finding.kind in (LIBRARY_NOT_FOUND, LIBRARY_UNUSABLE)]
    if any(finding.where in own for finding in missing):
        return [*foreign, *(finding for finding in missing if finding.where not in own)]
    return errors if _carries(build, installed) else [*foreign, *missing]


def _version(text: str) -> str:
    return text or "(unknown)"
