"""unbundle: what a bundle holds, verified twice over and put where a build without network looks for it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.sources import shipped_locks
from npu_serving.builds.current import packages_directory
from npu_serving.bundle.bundling import SCRATCH
from npu_serving.bundle.placing import WHEELS, holds, missing_wheels, place_in_store, place_wheels, refuse_unpinned
from npu_serving.bundle.reader import CARRY_AGAIN, Bundle, copy_member, read_bundle
from npu_serving.bundle.wheels import pinned_digests
from npu_serving.bundle.writer import ARCHIVE, IMAGE, KIT, TOOL, WHEEL, BundleMember, MemberPlace
from npu_serving.console import Reporter, amount_text, duration_text
from npu_serving.errors import PinMismatchError, RequestError
from npu_serving.fetch.content_store import ELSEWHERE, ContentStore
from npu_serving.fetch.toolchains import read_tools
from npu_serving.images.image_files import load_image
from npu_serving.lock.lockfile import SHA256, read_lock
from npu_serving.relink_kit.kit_file import remove_checksum, write_checksum
from npu_serving.settings import PROJECT_ROOT, Settings
from npu_serving.state_lock import state_lock
from npu_serving.writers.shell import command_line


@dataclass(frozen=True)
class UnbundlePlan:
    """What is here already, what would come in, and what only the bundle's own digest vouches for."""

    bundle: Bundle
    sha256: str
    present: tuple[BundleMember, ...]
    for_store: tuple[MemberPlace, ...]
    wheels: tuple[MemberPlace, ...]
    images: tuple[MemberPlace, ...]
    kits: tuple[MemberPlace, ...]
    unpinned: tuple[BundleMember, ...]

    @property
    def coming(self) -> tuple[BundleMember, ...]:
        """The members that would be put in place."""
        return tuple(place.member for place in (*self.for_store, *self.wheels, *self.images, *self.kits))

    @property
    def coming_bytes(self) -> int:
        """How much that is."""
        return sum(member.size_bytes for member in self.coming)

    def to_json(self) -> dict[str, object]:
        """For --dry-run --json."""
        manifest = self.bundle.manifest
        return {
            "bundle": str(self.bundle.path),
            "serving_version": manifest.serving_version,
            "machine": manifest.machine,
            "python": manifest.python,
            "coming": [vars(member) for member in self.coming],
            "present": [vars(member) for member in self.present],
            "unpinned": [vars(member) for member in self.unpinned],
        }

    def text(self) -> str:
        """For a person."""
        manifest = self.bundle.manifest
        lines = [
            f"{self.bundle.path} was made for TensorFlow Serving {manifest.serving_version} on {manifest.machine} "
            f"with Python {manifest.python}.",
            f"{len(self.present)} of its files are already here, {len(self.coming)} would be added "
            f"({amount_text(self.coming_bytes, 'bytes')}):",
            *(f"  {member.kind} {member.file_name}" for member in self.coming),
        ]
        if self.unpinned:
            lines += ["Accepted only with the bundle's own digest (--sha256):"]
            lines += [f"  {member.kind} {member.file_name}" for member in self.unpinned]
        return "\n".join(lines)


@dataclass(frozen=True)
class UnbundleResult:
    """What was put in place, by kind; `present` counts what was here before."""

    plan: UnbundlePlan
    store: Path
    wheels: Path
    image_names: tuple[str, ...]
    kits: tuple[Path, ...]
    next_command: str
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The members, and the places."""
        return {
            "bundle": str(self.plan.bundle.path),
            "placed": [vars(member) for member in self.plan.coming],
            "present": [vars(member) for member in self.plan.present],
            "images": list(self.image_names),
            "kits": [str(path) for path in self.kits],
            "next": self.next_command,
            "store": str(self.store),
            "wheels": str(self.wheels),
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """What happened, and what to type next."""
        if not self.plan.coming:
            head = f"All {len(self.plan.present)} files of the bundle were already here; nothing was done."
        else:
            head = (
                f"{len(self.plan.coming)} files verified and added, {len(self.plan.present)} were already here: "
                f"{amount_text(self.plan.coming_bytes, 'bytes')} in {duration_text(self.seconds)}"
            )
        images = [f"Loaded the image {name} into Docker." for name in self.image_names]
        kits = [f"Put the relink kit into {path}" for path in self.kits]
        return "\n".join([head, *images, *kits, f"Next: {self.next_command}"])


def plan_unbundle(settings: Settings, path: Path, *, sha256: str = "") -> UnbundlePlan:
    """What unbundle() would do. Reads the manifest and the headers; raises what read_bundle() raises."""
    if sha256 and not SHA256.fullmatch(sha256):
        raise RequestError(
            f"--sha256 must be 64 hexadecimal digits, not {sha256!r}.",
            cure="copy the digest that ./inv bundle or sha256sum printed",
        )
    bundle = read_bundle(path)
    stored = [place for place in bundle.places if place.member.kind in (ARCHIVE, TOOL)]
    held = set(ContentStore(settings.store_root).check([place.member.sha256 for place in stored]).present)
    for_store = tuple(place for place in stored if place.member.sha256 not in held)
    wheels = missing_wheels(bundle, PROJECT_ROOT)
    images = tuple(place for place in bundle.places if place.member.kind == IMAGE)
    kits = tuple(
        place
        for place in bundle.places
        if place.member.kind == KIT
        and not holds(packages_directory(settings.dist_root) / place.member.file_name, place.member)
    )
    coming = {place.member for place in (*for_store, *wheels, *images, *kits)}
    pins = {WHEEL: pinned_digests(PROJECT_ROOT), IMAGE: frozenset[str](), KIT: frozenset[str]()}
    locked = _locked_digests(settings)
    return UnbundlePlan(
        bundle=bundle,
        sha256=sha256,
        present=tuple(member for member in bundle.manifest.members if member not in coming),
        for_store=for_store,
        wheels=wheels,
        images=images,
        kits=kits,
        unpinned=tuple(m for m in bundle.manifest.members if m.sha256 not in pins.get(m.kind, locked)),
    )


def unbundle(settings: Settings, path: Path, reporter: Reporter, *, sha256: str = "") -> UnbundleResult:
    """Puts what the bundle holds in its place; what is here already is kept, so a second run resumes.

    Every member has to be pinned by a lock or requirement of this project, or the whole bundle has to have the
    `sha256` that its maker published; each is verified before it gets its name. Raises PinMismatchError,
    UnsafeArchiveError, DiskFullError, and MissingToolError where there is an image and no engine to take it.
    """
    started = time.monotonic()
    with state_lock(settings.build_root, doing="unbundle"):
        plan = plan_unbundle(settings, path, sha256=sha256)
        refuse_unpinned([member for member in plan.unpinned if member.kind == WHEEL or not sha256])
        if sha256:
            _check_whole(plan.bundle, sha256, reporter)
        fsutil.check_space(settings.store_root, plan.coming_bytes, what="The bundle's files", instead=ELSEWHERE)
        names = _apply(plan, settings, reporter)
    return UnbundleResult(
        plan,
        settings.store_root,
        PROJECT_ROOT / WHEELS,
        names,
        tuple(packages_directory(settings.dist_root) / place.member.file_name for place in plan.kits),
        _next_command(plan, settings),
        time.monotonic() - started,
    )


def _apply(plan: UnbundlePlan, settings: Settings, reporter: Reporter) -> tuple[str, ...]:
    """Puts everything in its place; the names of the images that the engine took."""
    names: list[str] = []
    scratch = settings.build_root / SCRATCH
    with reporter.progress("unbundling", total=plan.coming_bytes, unit="bytes") as progress:
        done = 0

        def count(size_bytes: int) -> None:
            nonlocal done
            done += size_bytes
            progress.update(done)

        place_in_store(plan.bundle, plan.for_store, ContentStore(settings.store_root), count)
        place_wheels(plan.bundle, PROJECT_ROOT, count)
        for place in plan.kits:
            kit = packages_directory(settings.dist_root) / place.member.file_name
            with fsutil.new_file(kit, mode=0o755) as file:
                copy_member(plan.bundle, place, file, count)
                remove_checksum(kit)
        for member in plan.bundle.manifest.of_kind(KIT):  # also where a run was killed between the two
            write_checksum(packages_directory(settings.dist_root) / member.file_name, member.sha256)
        try:
            for place in plan.images:
                image = scratch / place.member.file_name
                with fsutil.new_file(image) as file:
                    copy_member(plan.bundle, place, file, count)
                names += load_image(image, reporter)
        finally:
            fsutil.remove(scratch)
    return tuple(names)


def _next_command(plan: UnbundlePlan, settings: Settings) -> str:
    """What builds the source whose archives the bundle holds."""
    held = {member.sha256 for member in plan.bundle.manifest.of_kind(ARCHIVE)}
    source = "TREE"  # one that its maker copies along with the bundle
    for path in shipped_locks():
        lock = read_lock(path)
        if held <= {archive.sha256 for archive in (lock.source, *lock.archives)}:
            source = path.stem.removeprefix("serving-")
    named = ["--source", source] if source != settings.source else []
    adapter = ["--adapter", "sample"] if source == "sample" else []
    return command_line(["./inv", "build-serving", *named, *adapter, "--offline"])


def _locked_digests(settings: Settings) -> frozenset[str]:
    """What the locks of this project, those that lock-deps made here, and the table of tools pin."""
    own = sorted((settings.build_root / "locks").glob("*.json"))
    locks = [read_lock(path) for path in (*shipped_locks(), *own)]
    archives = [archive for lock in locks for archive in (lock.source, *lock.archives)]
    tools = [tool.sha256 for tool in read_tools()]
    return frozenset([*(archive.sha256 for archive in archives if archive.sha256 is not None), *tools])


def _check_whole(bundle: Bundle, sha256: str, reporter: Reporter) -> None:
    digest = hashlib.sha256()
    with fsutil.explained(bundle.path, doing="read"):
        file = bundle.path.open("rb")
    with file, reporter.progress("verifying the bundle", total=bundle.size_bytes, unit="bytes") as progress:
        for chunk in fsutil.chunks(file, bundle.path):
            digest.update(chunk)
            progress.update(file.tell())
    found = digest.hexdigest()
    if found != sha256:
        raise PinMismatchError(
            f"{bundle.path} has sha256 {found}, not {sha256}; nothing from it was used.",
            cause="it is a different bundle, or was changed in transfer",
            cure=CARRY_AGAIN,
        )
