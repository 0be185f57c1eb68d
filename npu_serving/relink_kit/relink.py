"""A server from a kit for the CANN that is here: the plan, the link, dist/<build-id>; without Bazel or a compiler."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.builds import bill_of_materials, provenance
from npu_serving.builds.assembling import replaced_meanwhile
from npu_serving.builds.current import (
    CURRENT,
    build_made_from,
    check_link,
    dist_lock,
    find_build,
    link_differs,
    link_target,
    make_current,
    read_builds,
    unused_id,
    while_proven,
)
from npu_serving.builds.fitting import fit_text, fits_of, needing
from npu_serving.builds.manifest import SERVER, Build, BuildManifest, assembled, build_id, write_definers
from npu_serving.builds.verify import check_directory, verify_directory
from npu_serving.cann.adapter import Adapter, told_apart
from npu_serving.cann.install import Cann
from npu_serving.console import Reporter, duration_text
from npu_serving.elf.owners import is_named_as_xlas
from npu_serving.elf.report import CANNOT_TELL, SIZE_CHANGED, CompatReport
from npu_serving.errors import (
    EXIT_ACTION_NEEDED,
    ElfError,
    FileAccessError,
    MissingSymbolsError,
    MissingToolError,
    OutOfMemoryError,
    ProgramError,
    VerificationError,
)
from npu_serving.findings import WARNING
from npu_serving.linking.linkers import AUTO, Linker
from npu_serving.relink_kit.cache_clearing import clear_others
from npu_serving.relink_kit.kit_file import KIT_BILL, Kit
from npu_serving.relink_kit.link import check_soname, link_server, the_linker, write_adapter_files
from npu_serving.relink_kit.unpacking import (
    OTHER_CACHE,
    check_machine,
    is_unpacked,
    read_entries,
    unpack,
    unpacked_directory,
)
from npu_serving.settings import XLA_OF_ADAPTER
from npu_serving.state_lock import state_lock

_OF_NEWER, _OF_FULL = "newer sources", "a build with --xla full"
NOTHING, SWAP, KIT = "nothing", "swap", "kit"
DOING = "relink from a kit"
WHEELS = "adapters"

Proof = Callable[[Build, Cann], None]


@dataclass(frozen=True)
class KitRequest:
    """What a relink is asked for: the adapter and CANN as in the settings, the linker as a kind or a program's path.

    `cache` is the directory that kits and wheels are unpacked into; `more_space` says what to do where it has no space.
    """

    dist_root: Path
    cache: Path
    adapter: str = "auto"
    cann_root: str = ""
    linker: str = "auto"
    install_link: str = ""
    found: Cann | None = None
    """The CANN that these lead to, where somebody has looked for it already."""
    more_space: str = OTHER_CACHE
    full_check: bool = False
    """Whether what was unpacked, and the current server, are read again whatever sizes and times say."""

    @cached_property
    def cann(self) -> Cann:
        """The CANN that these lead to."""
        return self.found or Cann(self.adapter, self.cann_root, self.cache / WHEELS)


@dataclass(frozen=True)
class KitPlanned:
    """What a relink has to do, and why. `linker` is set where it links."""

    kit: Kit
    request: KitRequest
    action: str
    why: str
    current: Build | None
    linker: Linker | None = None
    unpacked: bool = False

    @property
    def adapter(self) -> Adapter:
        """The one that is installed."""
        return self.request.cann.adapter

    @property
    def exit_code(self) -> int:
        """0, or 3 where something has to be done."""
        return 0 if self.action == NOTHING else EXIT_ACTION_NEEDED

    @property
    def unpacks_bytes(self) -> int:
        """What has to be unpacked for it."""
        return 0 if self.unpacked or self.action != KIT else self.kit.file.size_bytes

    def to_json(self) -> dict[str, object]:
        """The plan."""
        return {
            "kit": self.kit.digest,
            "action": self.action,
            "why": self.why,
            "dist": str(self.request.dist_root),
            "current": self.current.manifest.build_id if self.current is not None else None,
            "adapter": self.adapter.describe(),
            "linker": self.linker.text() if self.linker is not None else None,
            "unpacked": self.unpacked,
            "unpacks_bytes": self.unpacks_bytes,
        }

    def text(self) -> str:
        """The same for a person."""
        current = self.current.manifest.build_id if self.current is not None else "no build yet"
        linker = f" with {self.linker.text()} ({self.linker.program})" if self.linker is not None else ""
        return f"{current}: {self.action}{linker}: {self.why}{self.unused_linker}"

    @property
    def unused_linker(self) -> str:
        """A further line where a linker was asked for and nothing is linked; else ""."""
        if self.action == KIT or self.request.linker == AUTO:
            return ""
        return f"\nThe linker was not needed ({self.request.linker}): nothing has to be linked."


@dataclass(frozen=True)
class KitRelinked:
    """What was done, the build that is current now, and how long its parts took."""

    plan: KitPlanned
    build: Build
    seconds: float
    unpacking_seconds: float = 0.0
    link_seconds: float = 0.0
    former: str = ""
    """The name of the build that was current before, and is kept; "" for none."""

    def to_json(self) -> dict[str, object]:
        """The build, the plan, the times."""
        return {
            **self.build.to_json(),
            "plan": self.plan.to_json(),
            "former": self.former,
            "seconds": round(self.seconds, 2),
            "unpacking_seconds": round(self.unpacking_seconds, 2),
            "link_seconds": round(self.link_seconds, 2),
        }

    def text(self) -> str:
        """What was done and what is current now."""
        name = self.build.manifest.build_id
        if self.plan.action == NOTHING:
            return f"{name}: nothing to do: {self.plan.why}.{self.plan.unused_linker}"
        done = "the adapter was replaced, nothing had to be linked"
        if self.plan.linker is not None:
            done = f"linked with {self.plan.linker.text()}"
            done += f" in {duration_text(self.link_seconds)}" if self.link_seconds else " by an earlier run"
        kept = f"The previous build, {self.former}, is kept." if self.former else "There was no build before it."
        kept = f"\n{kept}" if self.former != name else ""
        return (
            f"Verified {name}, which is now current ({done}; {duration_text(self.seconds)} in all).\n"
            f"{self.build.server}{kept}"
        )


def plan_relink(kit: Kit, request: KitRequest) -> KitPlanned:
    """What has to be done so that dist/ has a server of this kit for the CANN that is installed; changes nothing.

    Raises KitError for a kit for another machine, MissingToolError without an adapter or a fitting linker, AdapterError
    for an adapter of another name, and VerificationError where the adapter does not fit the CANN.
    """
    check_machine(kit, platform.machine())
    check_link(request.install_link, request.dist_root)
    cann = request.cann
    misfit = cann.misfit()
    if misfit is not None:
        raise VerificationError(misfit.what, cure=misfit.cure)
    current = next((build for build in read_builds(request.dist_root).sound if build.current), None)
    action, why = _what_to_do(kit, current, cann, full_check=request.full_check)
    if action == KIT:
        check_soname(kit, cann.adapter)
    linker = the_linker(kit, request.linker) if action == KIT else None
    unpacked = is_unpacked(kit, request.cache, full_check=request.full_check)
    return KitPlanned(kit, request, action, why, current, linker, unpacked)


def relink(kit: Kit, request: KitRequest, reporter: Reporter, proof: Proof) -> KitRelinked:
    """Does what the plan says; `proof` raises what is wrong with a new build, which then is not made current.

    Whatever fails or is killed, the build that was current stays so. Raises what plan_relink() raises,
    StateLockedError while another run uses the cache or makes the current build of dist/, VerificationError where the
    new server would not run models on the NPU, ProgramError where the link fails, SwitchedMeanwhileError where another
    build was made current during the proof.
    """
    started = time.monotonic()
    cure = f"wait until it has finished, or {request.more_space}"
    with state_lock(request.cache, doing=DOING, cure=cure), contextlib.ExitStack() as held:
        plan = plan_relink(kit, request)
        if request.full_check and not plan.unpacked:
            _remove_damaged(plan, reporter)
        if plan.action != NOTHING or link_differs(request.dist_root, request.install_link):
            held.enter_context(dist_lock(request.dist_root, doing=DOING))
            plan = _as_it_is_now(plan)
        if plan.action == NOTHING and plan.current is not None:
            if link_differs(request.dist_root, request.install_link):
                make_current(plan.current, request.install_link)
            return KitRelinked(plan, plan.current, time.monotonic() - started)
        reporter.note(plan.text())
        unpacking_s = link_s = 0.0
        if plan.action == SWAP and plan.current is not None:
            build = _swapped(plan, plan.current)
        else:
            plan, build, unpacking_s, link_s = _linked(plan, reporter)
        if not build.current:
            with while_proven(build, held, doing=DOING, reporter=reporter):
                proof(build, request.cann)
        former = link_target(request.dist_root, CURRENT)
        make_current(build, request.install_link)
        if plan.action == KIT:
            clear_others(kit, request.cache, reporter)
    build = find_build(request.dist_root, build.manifest.build_id)
    return KitRelinked(plan, build, time.monotonic() - started, unpacking_s, link_s, former)


def _as_it_is_now(plan: KitPlanned) -> KitPlanned:
    """The plan, made again where another run has made another build the current one since."""
    current = plan.current.directory.name if plan.current is not None else ""
    return plan if link_target(plan.request.dist_root, CURRENT) == current else plan_relink(plan.kit, plan.request)


def _remove_damaged(plan: KitPlanned, reporter: Reporter) -> None:
    """Removes what was unpacked of the kit and is not whole, which a run without the full check would trust."""
    place = unpacked_directory(plan.kit, plan.request.cache)
    if place.exists():
        reporter.warn(f"{place} is no longer what was unpacked there, so the kit is unpacked again when it is needed.")
        fsutil.remove(place)


def _what_to_do(kit: Kit, current: Build | None, cann: Cann, *, full_check: bool) -> tuple[str, str]:
    adapter = cann.adapter
    if current is None:
        return KIT, f"there is no server yet for the adapter of CANN {adapter.cann_version or '(unknown)'}"
    if current.manifest.objects != kit.file.objects:
        return KIT, "the current server was not made of what this kit holds"
    further = _fits_further(kit, current)
    if further:
        return KIT, f"a server of this kit is to fit the adapters of {', '.join(further)} too"
    is_its_own = current.manifest.adapter.get("sha256") == adapter.sha256
    try:
        report: CompatReport | None = verify_directory(current.directory, cann.library_path, adapter)
    except (ElfError, FileAccessError):
        report = None
    fits = report is not None and report.fits_where_a_driver_is
    without = "" if is_its_own else _name_of_adapter(current)
    damaged = current.damaged_file(without=without, read_again=full_check)
    if is_its_own and fits and not damaged:
        return NOTHING, f"it contains the installed adapter, that of CANN {adapter.cann_version or '(unknown)'}"
    if damaged:
        return KIT, f"its {damaged} was removed or changed since it was built"
    if is_its_own:
        return KIT, "it would not start"
    linked, here = told_apart(current.manifest.adapter, adapter)
    why = f"it was linked with {linked}, but {here} is installed"
    if report is not None and fits and not {CANNOT_TELL, SIZE_CHANGED} & set(report.kinds(WARNING)):
        return SWAP, f"{why}, and the server already has all that the installed adapter needs"
    return KIT, why


def _fits_further(kit: Kit, current: Build) -> list[str]:
    """The releases that a server of the kit is to fit and the current one was never to fit.

    What a link of the same objects was asked for in vain, the next one would lack again.
    """
    manifest = current.manifest
    if manifest.kit == kit.digest:
        return []
    in_vain = {name for item in manifest.releases for name in item.lacks} if manifest.kit else set()
    try:
        found = fits_of(current.server, kit.file.fits)
    except (ElfError, FileAccessError):  # a server that can't be read is damaged, as is found next
        return []
    return [item.release for item in found if not in_vain.issuperset(item.lacks)]


def _name_of_adapter(build: Build) -> str:
    return build.adapter.relative_to(build.directory).as_posix()


def _swapped(plan: KitPlanned, former: Build) -> Build:
    """A copy of the build with the installed adapter in place of its own."""
    digest = hashlib.sha256(f"{former.linked} {plan.adapter.sha256}".encode()).hexdigest()
    made = build_made_from(plan.request.dist_root, digest, read_again=plan.request.full_check)
    if made is not None:
        return made
    manifest = _manifest(former.manifest, plan, digest, linked=former.linked)
    named = (former.directory / name for name in former.manifest.files)
    libraries = {path.name: path for path in named if path.parent == former.libraries}
    libraries[former.adapter.name] = plan.adapter.path
    return _package(plan, manifest, former.directory / SERVER, libraries, former)


def _linked(plan: KitPlanned, reporter: Reporter) -> tuple[KitPlanned, Build, float, float]:
    """The plan as it was carried out, the new build, and the seconds for unpacking and for the link; a build that was
    made before costs none. Where the linker was ours to choose and fails, the next one links.
    """
    kit, request, unpacking_s = plan.kit, plan.request, 0.0
    failed: list[str] = []
    while True:
        linker = plan.linker
        assert linker is not None
        digest = hashlib.sha256(f"{kit.digest} {plan.adapter.sha256} {linker.text()}".encode()).hexdigest()
        made = build_made_from(request.dist_root, digest, read_again=request.full_check)
        if made is not None and verify_directory(made.directory, request.cann.library_path).fits_where_a_driver_is:
            return plan, made, unpacking_s, 0.0
        begun = time.monotonic()
        members = unpack(kit, request.cache, reporter, more_space=request.more_space)
        unpacking_s += time.monotonic() - begun
        try:
            build, link_s = _linked_by(linker, plan, members, digest, reporter)
            return plan, build, unpacking_s, link_s
        except OutOfMemoryError:
            raise
        except ProgramError as error:
            failed.append(linker.kind)
            other = _other_linker(plan, failed)
            if other is None:
                if len(failed) > 1:  # to name another one would not help
                    error.cure = f"install a linker that works beside {', '.join(failed)} (binutils or lld)"
                raise
            reporter.warn(f"{linker.text()} could not link it, so {other.text()} does:\n{error.what}")
            plan = dataclasses.replace(plan, linker=other)


def _other_linker(plan: KitPlanned, failed: Sequence[str]) -> Linker | None:
    """The next to try where those kinds have failed; None for a linker that was named, and after the last one."""
    if plan.request.linker != AUTO:
        return None
    try:
        return the_linker(plan.kit, AUTO, but_for=failed)
    except MissingToolError:
        return None


def _linked_by(linker: Linker, plan: KitPlanned, members: Path, digest: str, reporter: Reporter) -> tuple[Build, float]:
    """The new build, and the seconds of the link."""
    kit = plan.kit
    write_adapter_files(kit, members, plan.adapter)
    manifest = _manifest(kit.file.manifest, plan, digest, linker=linker)
    libraries = {soname: members / path for soname, path in kit.file.libraries.items()}
    with fsutil.scratch_directory(plan.request.dist_root) as directory:
        begun = time.monotonic()
        server = link_server(kit, members, linker, directory / "server", reporter)
        link_s = time.monotonic() - begun
        manifest = dataclasses.replace(manifest, releases=fits_of(server, kit.file.fits))
        build = _package(plan, manifest, server, {**libraries, kit.file.soname: plan.adapter.path})
    _warn_of_lacks(manifest, reporter)
    return build, link_s


def _warn_of_lacks(manifest: BuildManifest, reporter: Reporter) -> None:
    """Names the releases that the server was to fit and does not: nothing in the kit has what their adapters need."""
    for item in manifest.releases:
        for line in fit_text([item]) if item.lacks else ():
            is_of_xla = manifest.xla == XLA_OF_ADAPTER and all(map(is_named_as_xlas, item.lacks))
            reporter.warn(f"{line}. Next: make a new kit of {_OF_FULL if is_of_xla else _OF_NEWER}, and use that")


def _manifest(
    former: BuildManifest, plan: KitPlanned, digest: str, *, linked: str = "", linker: Linker | None = None
) -> BuildManifest:
    adapter = plan.adapter
    name = build_id(former.serving_version, adapter.cann_version, digest)
    return dataclasses.replace(
        former,
        build_id=unused_id(plan.request.dist_root, name),
        input_digest=digest,
        linked=linked,
        adapter=adapter.describe(),
        actions={},
        objects=plan.kit.file.objects,
        linker=linker.kind if linker is not None else former.linker,
        linker_version=linker.version if linker is not None else former.linker_version,
        kit=plan.kit.digest if linker is not None else former.kit,
    )


def _package(
    plan: KitPlanned,
    manifest: BuildManifest,
    server: Path,
    libraries: Mapping[str, Path],
    former: Build | None = None,
) -> Build:
    """The build; a server that was linked for it is moved into it, the files of `former` are shared with it."""
    dist_root, library_path = plan.request.dist_root, plan.request.cann.library_path
    parts = assembled(dist_root, manifest, server, libraries, former=former, moves_server=former is None)
    with parts as (directory, whole):
        if manifest.adapter["sha256"] not in whole.files.values():
            raise replaced_meanwhile(Path(manifest.adapter["path"]))
        bill = read_entries(plan.kit, KIT_BILL).get(KIT_BILL)
        if bill is not None:
            fsutil.write_file(directory / bill_of_materials.FILE_NAME, bill_for(bill, whole))
        fsutil.write_file(directory / provenance.FILE_NAME, provenance.provenance(whole))
        write_definers(directory, _checked(directory, library_path, plan.kit).definers)
    return find_build(dist_root, manifest.build_id)


def _checked(directory: Path, library_path: Sequence[Path], kit: Kit) -> CompatReport:
    try:
        return check_directory(directory, library_path, needing=needing(lambda: kit.file.fits))
    except VerificationError as error:
        releases = ", ".join(sorted(kit.file.fits)) or "none are named in it"
        lacking = error.symbols if isinstance(error, MissingSymbolsError) else ()
        of_what = _OF_NEWER
        if kit.file.manifest.xla == XLA_OF_ADAPTER and any(map(is_named_as_xlas, lacking)):
            of_what = _OF_FULL
        raise VerificationError(
            error.what,
            cause=f"the kit knows what the adapters of these releases need: {releases}",
            cure=f"install CANN with the adapter of one of them, or make a new kit of {of_what}, and use that",
        ) from error


def bill_for(bill: bytes, manifest: BuildManifest) -> str:
    """The kit's bill of materials with the files of this build in place of those that had no digest yet."""
    document = json.loads(bill)
    server = document["metadata"]["component"]
    renamed = {}
    for component in (server, *document.get("components", ())):
        digest = manifest.files.get(SERVER if component is server else component["name"])
        if digest is None:
            continue
        if digest == manifest.adapter.get("sha256"):
            component["version"] = manifest.adapter.get("cann_version", "")
        component["hashes"] = [{"alg": "SHA-256", "content": digest}]
        renamed[component["bom-ref"]] = f"{component['name']}@{digest[:16]}"
    text = json.dumps(document)
    for former, now in renamed.items():
        text = text.replace(json.dumps(former), json.dumps(now))
    document = json.loads(text)
    document["metadata"]["timestamp"] = manifest.created.replace("Z", "+00:00")
    document["serialNumber"] = uuid.uuid5(bill_of_materials.NAMESPACE, manifest.input_digest).urn
    return json.dumps(document, indent=2) + "\n"
