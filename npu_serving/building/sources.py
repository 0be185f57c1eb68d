"""The serving tree that is built: which one is meant, which lock belongs to it, and unpacking it."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from npu_serving import archives, fsutil
from npu_serving.errors import NoLockError, SourceError
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.mirrors import Places, places_of
from npu_serving.lock.lockfile import Archive, Lock, read_lock
from npu_serving.lock.tree_facts import serving_version, tensorflow_commit
from npu_serving.lock.tree_state import tree_state
from npu_serving.overlay.adapter import DIRECTORY as OVERLAY
from npu_serving.overlay.adapter import FULL_XLA, names_full_xla, plain_server_build
from npu_serving.sample import SAMPLE_DIRECTORY
from npu_serving.sample.sample_settings import sample_archives
from npu_serving.settings import PROJECT_ROOT, XLA_FULL, Settings
from npu_serving.writers.shell import command_line

LOCKS = PROJECT_ROOT / "locks"
MODEL_SERVERS = Path("tensorflow_serving/model_servers")

_WORKSPACE_NAME = re.compile(r"""^workspace\(\s*name\s*=\s*["']tf_serving["']""", re.MULTILINE)


@dataclass(frozen=True)
class ServingSource:
    """A serving tree and its lock. `archive` is set where the tree is unpacked from one."""

    name: str
    tree: Path
    lock: Lock
    lock_path: Path
    archive: Archive | None = None
    archive_file: Path | None = None
    """The file that the user named; the store holds the archive otherwise."""
    copied_from: Path | None = None
    """The sample's tree, which is copied, because the overlay is written into what is built."""
    mirrors: tuple[str, ...] = ()
    state: str = ""
    """Of a tree of the user's own: see tree_state.py. Others are what their lock was made from."""
    full_xla: bool = False
    """Whether the server gets all of XLA, by the settings or because the user's own tree says so."""

    @property
    def is_users_own(self) -> bool:
        """Whether the tree is the user's own, who may have changed it."""
        return self.archive is None and self.copied_from is None

    @property
    def is_ready(self) -> bool:
        """Whether the tree is in place."""
        if self.copied_from is not None:
            return _read_mark(self.tree) == _tree_mark(self.copied_from)
        return self.archive is None or _read_mark(self.tree) == self.archive.sha256

    def places(self, settings: Settings) -> Places:
        """Where its archives are looked for. Raises RequestError for what isn't a mirror."""
        return places_of((*settings.mirrors, *self.mirrors), offline=settings.offline)

    def needed_archives(self, machine: str = "") -> tuple[Archive, ...]:
        """What the server's build asks for on that architecture (by default this machine's), and the tree's archive."""
        own = (self.archive,) if self.archive is not None else ()
        without = "" if self.full_xla else FULL_XLA
        return (*own, *self.lock.needed(f"linux-{machine or platform.machine()}-cpu", without=without))

    def not_measured(self, machine: str = "") -> NotMeasured:
        """The archives that are left out because another state of the tree did not need them."""
        if not self.is_users_own or self.state == self.lock.measured_on:
            return NotMeasured(())
        needed = set(replace(self, full_xla=True).needed_archives(machine))
        return NotMeasured(
            tuple(item.name for item in self.lock.archives if not item.shadowed and item not in needed), self.name
        )


@dataclass(frozen=True)
class NotMeasured:
    """Archives that another state of the tree did not need; `source` is what the user called the tree."""

    names: tuple[str, ...]
    source: str = ""

    def lines(self) -> list[str]:
        """What to say of them, nothing where there are none."""
        if not self.names:
            return []
        measure = command_line(["./inv", "lock-deps", "--source", self.source, "--needed"])
        return [
            f"Left out, because a tree like this one did not need them; this very tree was not asked: "
            f"{', '.join(self.names)}. To ask Bazel what it needs: {measure}"
        ]


def resolve_source(settings: Settings) -> ServingSource:
    """The source that the settings mean. Raises SourceError or LockFileError, and changes nothing."""
    source = _named_source(settings)
    is_full = settings.xla == XLA_FULL or (source.is_users_own and names_full_xla(source.tree))
    return replace(source, full_xla=is_full)


def _named_source(settings: Settings) -> ServingSource:
    name = settings.source
    if name == "sample":
        return _sample(settings)
    lock_path = LOCKS / f"serving-{name}.json"
    if re.fullmatch(r"[0-9][0-9A-Za-z.+-]*", name) and lock_path.is_file():
        lock = read_lock(lock_path)
        return ServingSource(
            name, settings.build_root / "src" / f"serving-{name}", lock, lock_path, archive=lock.source
        )
    path = Path(name).expanduser().absolute()
    if path.is_dir():
        return _tree(path, settings)
    if path.is_file():
        return _archive_file(path, settings)
    versions = ", ".join(sorted(lock.stem[len("serving-") :] for lock in LOCKS.glob("serving-*.json")))
    raise SourceError(
        f"Unknown source {name!r}: it is neither an existing path nor a version that this project has a lock for.",
        cure=f"use --source with one of {versions}, `sample`, or the path of a serving tree or of its archive",
    )


def prepare_source(source: ServingSource, store: ContentStore) -> bool:
    """Puts the tree in place if it isn't; True if that changed anything. The archive must be in the store."""
    if source.is_ready:
        return False
    if source.copied_from is not None:
        with fsutil.new_directory(source.tree) as directory:
            shutil.copytree(source.copied_from, directory, symlinks=True, dirs_exist_ok=True)
        mark = _tree_mark(source.copied_from)
    else:
        assert source.archive is not None
        if source.archive_file is not None:
            store.adopt(source.archive_file, source.archive.sha256 or "")  # a later rebuild finds it there
        archives.extract(store.path(source.archive.sha256 or ""), source.tree, strip_prefix=source.archive.strip_prefix)
        mark = source.archive.sha256 or ""
    check_tree(source.tree)
    fsutil.write_file(_mark_path(source.tree), mark)
    return True


def check_tree(tree: Path) -> None:
    """SourceError unless `tree` is a TensorFlow Serving tree."""
    workspace = tree / "WORKSPACE"
    build_file = tree / MODEL_SERVERS / "BUILD"
    for path in (workspace, build_file):
        if not path.is_file():
            raise SourceError(
                f"{tree} is not a TensorFlow Serving tree: it has no {path.relative_to(tree)}.",
                cure="name the directory that has WORKSPACE and tensorflow_serving/ in it, such as "
                f"serving-{Settings.source}",
            )
    if not _WORKSPACE_NAME.search(fsutil.read_text(workspace)):
        raise SourceError(
            f"{workspace} does not declare the workspace tf_serving.",
            cause="it belongs to another project",
            cure="name the directory of TensorFlow Serving's source",
        )


def lock_for_tree(tree: Path, settings: Settings) -> tuple[Path, Lock]:
    """The lock that goes with `tree`: one that lock-deps wrote for this very tree, else the one of its version.

    LockFileError where there is none, and where the lock was made for a TensorFlow that the tree doesn't pin.
    """
    own = own_lock_path(tree, settings)
    version, commit = serving_version(tree), tensorflow_commit(tree)
    for path in [own] if own.is_file() else shipped_locks():
        lock = read_lock(path)
        if lock.tensorflow_commit == commit and (not version or lock.serving_version == version):
            return path, lock
    described = (
        f"TensorFlow Serving {version or 'of no known version'} with TensorFlow {commit[:12] or 'of no known commit'}"
    )
    raise NoLockError(
        f"{tree} is {described}, for which there is no lock.",
        cause="this project ships no lock for that version, or the tree's WORKSPACE was changed",
        cure=lock_command(tree, settings),
    )


def lock_command(tree: Path, settings: Settings, *more: str | Path) -> str:
    """The command that makes the tree's lock; without a network it says what to fetch elsewhere."""
    offline = ["--offline"] if settings.offline else []
    return command_line(["./inv", "lock-deps", *offline, "--source", tree, *more])


def state_of(tree: Path) -> str:
    """The state of a serving tree, whether or not the overlay is in it."""
    return tree_state(tree, instead=plain_server_build(tree), without=OVERLAY)


def shipped_locks() -> list[Path]:
    """The locks of serving trees that come with this project."""
    return [path for path in sorted(LOCKS.glob("*.json")) if path.name != "toolchains.json"]


def own_lock_path(tree: Path, settings: Settings) -> Path:
    """Where lock-deps writes the lock of a tree that this project ships none for."""
    import hashlib

    digest = hashlib.sha256(str(tree.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return settings.build_root / "locks" / f"{digest[:16]}.json"


def _sample(settings: Settings) -> ServingSource:
    lock_path = LOCKS / "sample.json"
    mirror = sample_archives(settings).absolute()
    return ServingSource(
        "sample",
        settings.build_root / "src" / "sample",
        read_lock(lock_path),
        lock_path,
        copied_from=SAMPLE_DIRECTORY / "serving",
        mirrors=(mirror.as_uri() + "/",),
    )


def _tree(path: Path, settings: Settings) -> ServingSource:
    check_tree(path)
    lock_path, lock = lock_for_tree(path, settings)
    return ServingSource(str(path), path, lock, lock_path, state=state_of(path))


def _archive_file(path: Path, settings: Settings) -> ServingSource:
    """A file that was fetched by hand: taken if it holds the bytes of a source that a lock pins."""
    digest = fsutil.sha256_of(path)
    for lock_path in sorted(LOCKS.glob("serving-*.json")):
        lock = read_lock(lock_path)
        if lock.source.sha256 == digest:
            tree = settings.build_root / "src" / f"serving-{lock.serving_version}"
            return ServingSource(lock.serving_version, tree, lock, lock_path, archive=lock.source, archive_file=path)
    raise SourceError(
        f"{path} (sha256 {digest}) is not an archive of a TensorFlow Serving version that this project has a lock for.",
        cause="it is truncated, was repacked, or is of another version",
        cure="fetch the pinned one with ./inv fetch-deps; or unpack yours, and name the directory",
    )


def _mark_path(tree: Path) -> Path:
    """Beside the tree, not in it: what is in the tree is what upstream put there, and the overlay."""
    return tree.parent / f"{tree.name}.made-from"


def _read_mark(tree: Path) -> str:
    mark = _mark_path(tree)
    return fsutil.read_text(mark) if mark.is_file() and tree.is_dir() else ""


def _tree_mark(tree: Path) -> str:
    from npu_serving.building.tree_digest import tree_digest

    return tree_digest(tree)
