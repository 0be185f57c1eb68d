"""The finished build: dist/<build-id> with the server, its libraries and a manifest of everything that went in."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from npu_serving import fsutil
from npu_serving.builds.digest_memo import DigestMemo
from npu_serving.documents import DocumentRefusal, Rule, read_document
from npu_serving.errors import NpuServingError, RequestError, VerificationError
from npu_serving.settings import WITHOUT_ADAPTER

FORMAT = 1
SERVER = "bin/tensorflow_model_server"
DEFINERS = "definers.json"
MANIFEST = "manifest.json"
_PROGRAM = 0o755
CREATED = "%Y-%m-%dT%H:%M:%SZ"


def _is_within(name: str) -> str:
    outside = name.startswith("/") or ".." in name.split("/")
    return "names a file outside of the build" if outside else ""


NameWithin = Annotated[str, Rule(check=_is_within)]


@dataclass(frozen=True)
class FileNeeds:
    """What an adapter that was named by its file needed of the server, sorted, and its sha256 at that time."""

    sha256: str
    symbols: tuple[str, ...]


@dataclass(frozen=True)
class ReleaseFit:
    """A release of the adapter, or an adapter's file, and the symbols (mangled) that its adapter needs and the server
    does not export.
    """

    release: str
    lacks: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the server has all that its adapter needs of it."""
        return not self.lacks

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {"release": self.release, "fits": self.fits, "lacks": list(self.lacks)}


@dataclass(frozen=True)
class BuildManifest:
    """What a build was made from, each input by its digest: two manifests show why two builds differ."""

    build_id: str
    input_digest: str
    serving_version: str
    source: Mapping[str, str]
    adapter: Mapping[str, str]
    lock_digest: str
    toolchain: Mapping[str, str]
    flags: tuple[str, ...]
    actions: Mapping[str, int]
    patches: Mapping[str, object]
    """The fixes for this toolchain that were applied (third_party_overlay/patches)."""
    files: Mapping[NameWithin, str]
    """sha256 of every file, by its path within the build."""
    created: str = ""
    compilation: tuple[str, ...] = ()
    """The flags of ours that decide the code that comes out; none in a manifest from before they were recorded."""
    linked: str = ""
    """The input digest of the build whose server this is, where only the packaged adapter was replaced."""
    archives: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """`url` and `sha256` of each archive that was unpacked for it, by its repository; none in older manifests."""
    objects: str = ""
    """The digest of all that went in but the adapter: builds that share it differ in the link alone."""
    linker: str = ""
    """The linker that made the server: bfd, gold, lld …; "" where Bazel's log did not tell."""
    linker_version: str = ""
    """Its version, such as 2.40; "" where that is not known."""
    linker_setting: str = ""
    """What the settings said of the linker, "auto" or a kind; "" in a manifest from before it was noted."""
    kit: str = ""
    """The digest of the relink kit that the server was linked from; "" for one that was linked where it was built."""
    xla: str = ""
    """How much of XLA the server got, "adapter" or "full"; "" in a manifest from before there was a choice: all."""
    also_fits: tuple[str, ...] = ()
    """What it was to fit besides its adapter, as it was asked for; none in a manifest from before it was asked."""
    also_fits_files: Mapping[str, FileNeeds] = field(default_factory=dict)
    """The files in `also_fits`: a later link asks for the same symbols, whatever has become of the files."""
    releases: tuple[ReleaseFit, ...] = ()
    """How the server fits the releases that were known when it was made, and those files; none in older manifests."""
    format: int = field(default=FORMAT)

    @property
    def without_adapter(self) -> bool:
        """Whether its server was linked without an adapter, to be tried on the CPU."""
        return self.adapter.get("path") == WITHOUT_ADAPTER

    def problems(self) -> Iterator[tuple[str | tuple[str, ...], str]]:
        """What the reader of documents asks: what the types of the fields don't tell."""
        if "name" not in self.source:
            yield "source", "has no name"
        for name, archive in self.archives.items():
            if not {"url", "sha256"} <= set(archive):
                yield ("archives", name), "has no url or no sha256"

    def to_json(self) -> dict[str, object]:
        """The manifest as it is in manifest.json."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Build:
    """One directory below dist/."""

    directory: Path
    manifest: BuildManifest
    current: bool
    previous: bool = False

    @property
    def server(self) -> Path:
        """The server program."""
        return self.directory / SERVER

    @property
    def libraries(self) -> Path:
        """The directory of the server's own libraries."""
        return self.directory / "lib"

    @property
    def linked(self) -> str:
        """The input digest that its server was linked from: builds that differ in the packaged adapter share it."""
        return self.manifest.linked or self.manifest.input_digest

    def damaged_file(self, *, without: str = "", read_again: bool = False) -> str:
        """The first file that is gone, or no longer what the manifest says; "" where all are as they were built.

        Every file counts but the one that `without` names; one is read where it changed since it was read last, or,
        with `read_again`, whatever its size and times say: a bit that turned on the disk changes none of them.
        """
        memo = DigestMemo(self.directory.parent)
        try:
            for name, digest in self.manifest.files.items():
                path = self.directory / name
                if name != without and not (path.is_file() and memo.sha256_of(path, again=read_again) == digest):
                    return name
        finally:
            memo.save()
        return "" if self.server.is_file() else SERVER

    @property
    def size_bytes(self) -> int:
        """What its files take, with what was written about it; one that is gone takes nothing."""
        return sum(_size_of(path) for path in self.directory.rglob("*") if not path.is_dir())

    @property
    def adapter(self) -> Path:
        """The adapter that it carries, under the name that the server asks for."""
        wanted = self.manifest.adapter.get("sha256")
        for name, digest in self.manifest.files.items():
            if digest == wanted:
                return self.directory / name
        raise RequestError(
            f"{self.directory / MANIFEST} names no adapter among the build's files.",
            cause="it was changed by hand",
            cure="build again: ./inv build-serving",
        )

    def to_json(self) -> dict[str, object]:
        """Where it is, and its manifest."""
        place = {"directory": str(self.directory), "current": self.current, "previous": self.previous}
        return {**place, **self.manifest.to_json()}


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def build_id(serving_version: str, cann_version: str, input_digest: str) -> str:
    """The name of a build: what it is, for a person, and the digest of what went in."""
    cann = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in cann_version) or "unknown"
    return f"serving-{serving_version}-cann-{cann}-{input_digest[:12]}"


def id_without(serving_version: str, input_digest: str) -> str:
    """The same for one without an adapter."""
    return f"serving-{serving_version}-without-adapter-{input_digest[:12]}"


@contextlib.contextmanager
def assembled(
    dist_root: Path,
    manifest: BuildManifest,
    server: Path,
    libraries: Mapping[str, Path],
    *,
    former: Build | None = None,
    moves_server: bool = False,
) -> Iterator[tuple[Path, BuildManifest]]:
    """A directory with the whole build, to look at, and its manifest; dist/<build-id> when the block succeeds.

    `libraries` are the server's own, by the name under which the loader asks for them: the SONAME, which is not the
    name that they were linked under. Files of the build `former` are shared with it where the file system can do that;
    with `moves_server` the server is a file that was made for this build alone, and becomes the build's own by a
    rename. Any other is copied, and read once.
    """
    memo = DigestMemo(dist_root)
    places = {SERVER: server, **{f"lib/{name}": path for name, path in libraries.items()}}
    with fsutil.new_directory(dist_root / manifest.build_id) as directory:
        files = {}
        for name in sorted(places):
            source, path = places[name], directory / name
            if former is not None and former.directory in source.parents:
                files[name] = _taken_over(former, source, path, memo)
            elif moves_server and name == SERVER:
                files[name] = fsutil.move_hashed(source, path, mode=_PROGRAM)
            else:
                files[name] = fsutil.copy_hashed(source, path, mode=_PROGRAM)
            memo.remember(path, files[name])
        created = time.strftime(CREATED, time.gmtime())
        whole = dataclasses.replace(manifest, files=files, created=created)
        fsutil.write_file(directory / MANIFEST, json.dumps(whole.to_json(), indent=2, sort_keys=True) + "\n")
        yield directory, whole
    memo.save()


def _taken_over(former: Build, source: Path, path: Path, memo: DigestMemo) -> str:
    """Puts a file of another build at `path`, shared or copied; the digest of its bytes."""
    digest = memo.sha256_of(source)
    if not fsutil.share_file(source, path):
        digest = fsutil.copy_hashed(source, path, mode=_PROGRAM)
    if digest != former.manifest.files.get(source.relative_to(former.directory).as_posix()):
        raise VerificationError(
            f"{source} is not what it was when it was built.",
            cause="it was changed during this run",
            cure="run the same command again",
        )
    return digest


def write_definers(directory: Path, definers: Mapping[str, str]) -> None:
    """Keeps, beside the manifest, which library defined each symbol of the adapter when the build was proven.

    After an upgrade of CANN nothing else shows who used to define a symbol that is then missing.
    """
    fsutil.write_file(directory / DEFINERS, json.dumps(definers, indent=0, sort_keys=True) + "\n")


def read_definers(directory: Path) -> Mapping[str, str]:
    """What write_definers() kept; empty for a build without it, or where it is damaged: it is only used in messages."""
    try:
        document = json.loads(fsutil.read_text(directory / DEFINERS))
    except (NpuServingError, ValueError, RecursionError):
        return {}
    if not isinstance(document, dict):
        return {}
    return {name: library for name, library in document.items() if isinstance(library, str)}


def read_manifest(path: Path) -> BuildManifest:
    """The manifest in that file; RequestError if it is not one."""
    refusal = DocumentRefusal(f"{path} is not a build manifest:", RequestError, cure="build again: ./inv build-serving")
    return read_document(path, BuildManifest, format=FORMAT, refusal=refusal)
