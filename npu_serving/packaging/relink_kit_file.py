"""package --format kit: all that the final link of a build reads, and the program that does it, in one file."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.current import KIT_SUFFIX, packages_directory
from npu_serving.console import Reporter, Silent, amount_text, duration_text
from npu_serving.errors import NpuServingError
from npu_serving.packaging.kit_content import (
    described_kit,
    files_beside,
    fits_by_release,
    golden_names,
    golden_of_kit,
    machine_of,
)
from npu_serving.packaging.kit_members import KitLink
from npu_serving.packaging.kit_source import KitSource, kit_source, link_of
from npu_serving.packaging.kit_writer import write_kit
from npu_serving.packaging.named_file import KIT, file_to_write
from npu_serving.relink_kit.kit_file import KitMember, checksum_file, content_text, read_kit, write_checksum
from npu_serving.settings import Settings
from npu_serving.writers.shell import command_line

NAME = "npu-serving-kit"
_LETTERS_OF_DIGEST = 12


@dataclass(frozen=True)
class KitPlan:
    """The kit that would be made."""

    target: Path
    objects: str
    machine: str
    made_of: str
    """The build, or the objects that were built without an adapter."""
    files: int
    """That the link reads."""
    members: int
    """What the kit holds of them: a group of objects is one archive; files of the toolchain are added."""
    size_bytes: int
    """Of what the link reads."""
    golden: tuple[str, ...]
    """The golden requests that go with it."""

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {"format": KIT, **dataclasses.asdict(self), "target": str(self.target)}

    def text(self) -> str:
        """One line."""
        return (
            f"Would make {self.target} of {self.made_of}: {content_text(self.files, self.members)}, "
            f"{amount_text(self.size_bytes, 'bytes')}."
        )


@dataclass(frozen=True)
class KitResult:
    """The kit that was made."""

    plan: KitPlan
    digest: str
    """The kit's own, by which it is known: that of its kit.json."""
    sha256: str
    """The file's, as sha256sum prints it."""
    size_bytes: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """The plan, and the result."""
        return {
            **self.plan.to_json(),
            "linked_bytes": self.plan.size_bytes,
            "kit": self.digest,
            "digest": f"sha256:{self.sha256}",
            "size_bytes": self.size_bytes,
            "seconds": round(self.seconds, 3),
        }

    def text(self) -> str:
        """Where it is, what it holds, and what to do with it."""
        plan = self.plan
        golden = f"{len(plan.golden)} golden requests" if len(plan.golden) != 1 else "1 golden request"
        return "\n".join(
            [
                f"{plan.target} ({amount_text(self.size_bytes, 'bytes')}) made in {duration_text(self.seconds)}: "
                f"{content_text(plan.files, plan.members)}, {golden}",
                f"Relink kit {self.digest}",
                f"sha256 of the file {self.sha256}, kept in {checksum_file(plan.target).name}",
                f"Next: copy both to the serving machine, and run there: {check_and_relink(plan.target)}",
            ]
        )


def check_and_relink(kit: Path) -> str:
    """What to type where the kit was copied to."""
    check = command_line(["sha256sum", "-c", checksum_file(kit).name])
    return f"{check} && {command_line(['python3', kit.name, 'relink'])}"


def plan_kit(
    settings: Settings,
    reporter: Reporter,
    *,
    build: str = "",
    output: Path | None = None,
    golden: Path | None = None,
) -> KitPlan:
    """What make_kit() would make; changes nothing. Raises what that raises before it writes."""
    source = kit_source(settings, build)
    golden = golden_of_kit(settings, golden, reporter)
    with link_of(source, reporter) as link:
        plan = _plan(settings, source, link, files_beside(golden, source, link, Silent()), output)
    warn_of_replaced(plan.target, fits_by_release(source.fits), reporter)
    return plan


def make_kit(
    settings: Settings,
    reporter: Reporter,
    *,
    build: str = "",
    objects: str = "",
    output: Path | None = None,
    golden: Path | None = None,
) -> KitResult:
    """Packs the link of a build, of those `objects` that were built without an adapter, or what kit_source() chooses;
    the same inputs give the same bytes. `golden` is the directory of the golden requests; by default the builds'.

    The file gets its name when it is whole. Raises RequestError where the build's link is not known or an object of it
    is gone or changed, BuildFailedError where the toolchain is not what it was, DiskFullError, FileAccessError.
    """
    started = time.monotonic()
    source = kit_source(settings, build, objects)
    golden = golden_of_kit(settings, golden, reporter)
    digest = ""
    with link_of(source, reporter) as link:
        files = files_beside(golden, source, link, reporter)
        plan = _plan(settings, source, link, files, output)
        warn_of_replaced(plan.target, fits_by_release(source.fits), reporter)

        def described(held: Mapping[str, KitMember]) -> bytes:
            nonlocal digest
            data = described_kit(source, link, files, held).to_bytes()
            digest = hashlib.sha256(data).hexdigest()
            return data

        write_kit(plan.target, link.members, files, described, reporter)
    sha256 = fsutil.sha256_of(plan.target)
    write_checksum(plan.target, sha256)
    return KitResult(plan, digest, sha256, plan.target.stat().st_size, time.monotonic() - started)


def warn_of_replaced(target: Path, fits: Mapping[str, tuple[str, ...]], reporter: Reporter) -> None:
    """Says so where a kit gives way to one whose servers are to fit other releases: both have one name by default."""
    try:
        former = read_kit(target).file.fits
    except NpuServingError:  # nothing is there, or something that is lost to nobody
        return
    if {name: set(symbols) for name, symbols in former.items()} != {name: set(needs) for name, needs in fits.items()}:
        has, gets = (", ".join(sorted(each)) or "none besides the one it is linked with" for each in (former, fits))
        reporter.warn(
            f"The kit {target}, whose servers fit the adapters of {has}, gives way to this one, "
            f"whose servers fit {gets}; --output FILE keeps both."
        )


def _plan(
    settings: Settings, source: KitSource, link: KitLink, files: Mapping[str, bytes], output: Path | None
) -> KitPlan:
    machine, manifest = machine_of(link), source.manifest
    name = f"{NAME}-{manifest.serving_version}-{source.saved.objects[:_LETTERS_OF_DIGEST]}-{machine}{KIT_SUFFIX}"
    target = file_to_write(output, packages_directory(settings.dist_root), name)
    fsutil.refuse_other_than_file(checksum_file(target))
    return KitPlan(
        target=target,
        objects=source.saved.objects,
        machine=machine,
        made_of=source.made_of,
        files=len(source.saved.inputs),
        members=len(link.members),
        size_bytes=sum(member.size_bytes for member in link.members),
        golden=golden_names(files),
    )
