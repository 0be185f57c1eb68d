"""build-serving --adapter none, to its end: the objects, and the relink kit of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.building.prepared import PREPARED
from npu_serving.building.without_adapter import PreparedResult, prepare_objects
from npu_serving.console import Reporter, Silent
from npu_serving.errors import FileAccessError
from npu_serving.packaging.kit_content import fits_by_release, golden_files, golden_of_kit
from npu_serving.packaging.relink_kit_file import KitResult, check_and_relink, make_kit
from npu_serving.relink_kit.kit_file import checksum_file, write_checksum
from npu_serving.settings import PROJECT_ROOT, Settings

NOTE = "kit.note"


@dataclass(frozen=True)
class ObjectsAndKit:
    """What was made, and the kit, whether it was packed now or is the one of before."""

    prepared: PreparedResult
    kit: Path
    sha256: str
    packed: KitResult | None

    def to_json(self) -> dict[str, object]:
        """Both."""
        return {**self.prepared.to_json(), "kit": str(self.kit), "kit_sha256": self.sha256, "packed": bool(self.packed)}

    def text(self) -> str:
        """What was done, where the kit is, and what to type next."""
        done = "" if self.packed is not None else ", as it was packed before"
        return "\n".join(
            [
                self.prepared.text(),
                f"The relink kit is {self.kit}{done}.",
                f"sha256 of the file {self.sha256}, kept in {checksum_file(self.kit).name}",
                f"Next: copy both to the serving machine, and run there: {check_and_relink(self.kit)}",
            ]
        )


def prepare_and_pack(
    settings: Settings, reporter: Reporter, *, cpu_server: bool = False, golden: Path | None = None
) -> ObjectsAndKit:
    """Everything but the final link, and the kit of it in dist/packages; a kit that is still right stays as it is.

    `golden` is the directory of the golden requests that go with it, by default that of the builds.
    """
    prepared = prepare_objects(settings, reporter, cpu_server=cpu_server)
    note, made_of = settings.build_root / PREPARED / NOTE, _made_of(settings, prepared, golden)
    former = _former(note)
    if former.get("made_of") == made_of and _is_there(former):
        golden_files(golden_of_kit(settings, golden, reporter), reporter)  # warns as make_kit() would
        write_checksum(Path(former["kit"]), former["sha256"])
        return ObjectsAndKit(prepared, Path(former["kit"]), former["sha256"], None)
    packed = make_kit(settings, reporter, objects=prepared.objects, golden=golden)
    status = packed.plan.target.stat()
    kept = {"made_of": made_of, "kit": str(packed.plan.target), "sha256": packed.sha256}
    fsutil.write_file(note, json.dumps({**kept, "state": f"{status.st_size} {status.st_mtime_ns}"}) + "\n")
    return ObjectsAndKit(prepared, packed.plan.target, packed.sha256, packed)


def _made_of(settings: Settings, prepared: PreparedResult, golden: Path | None) -> str:
    """Changes with the objects, what a server of them is to fit, the golden requests, and the files of this project, of
    which the kit has some.
    """
    files = (PROJECT_ROOT / "npu_serving").rglob("*")
    sources = sorted(path for path in files if "__pycache__" not in path.parts and path.is_file())
    own = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sources]
    requests = golden_files(golden_of_kit(settings, golden, Silent()), Silent())
    asked = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(requests.items())}
    made_of = [prepared.objects, fits_by_release(prepared.fits), asked, own]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _former(note: Path) -> dict[str, str]:
    try:
        found = json.loads(fsutil.read_text(note))
    except (FileAccessError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"kit", "sha256", "state"} <= set(found) else {}


def _is_there(former: dict[str, str]) -> bool:
    try:
        status = Path(former["kit"]).stat()
    except OSError:
        return False
    return f"{status.st_size} {status.st_mtime_ns}" == former["state"]
