"""Files that appear whole or not at all: atomic writes, links and directories, digests.

Nothing else in this project replaces a file. archives.py unpacks archives.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import re
import shlex
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Callable

from npu_serving.console import amount_text
from npu_serving.errors import (
    DiskFullError,
    FileAccessError,
    NameTakenError,
    NoSuchFileError,
    NpuServingError,
    RequestError,
)

CHUNK_BYTES = 1 << 20
READ_WHOLE_BYTES = 256 << 20  # of a file that is read into memory: locks, logs and requests have a few megabytes
_SYNCED_EVERY_S = 0.05  # between two calls that have the disk take a file that is still being written
_FICLONE = 0x40049409  # linux/fs.h: the request that has a file share the blocks of another
_COPIED_AT_ONCE = 64 << 20  # bytes, between two lines of progress
_SHOWN = 100  # letters of a path that is too long
_LONGEST_NAME, _LONGEST_PATH = 255, 4095  # limits.h of Linux: NAME_MAX, and PATH_MAX without the byte that ends it
# Directories in each other, while they are removed: a process may open 1,024 files, and calls go as deep.
_OPEN_AT_ONCE = 100
FORMER = "was"  # what was replaced, in its temporary directory
_TEMPORARY = re.compile(r"(\d+)\.(old\.)?[a-z0-9_]{8}")  # the creator's process id, and what tempfile appends


def as_error(error: OSError, path: Path, *, doing: str = "written") -> NpuServingError:
    """The error to show for an operating system's refusal at `path`."""
    error = _first_of(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"{path} could not be {doing}: the disk is full.",
            cause=f"the file system that holds {path.parent} has no space left for it",
            cure="free some space there (df -h shows how much), then run the same command again",
        )
    if error.errno == errno.ENAMETOOLONG:
        named = str(path)
        return RequestError(
            f"The path {named[:_SHOWN]}{'...' if len(named) > _SHOWN else ''} could not be {doing}: it is too long.",
            cause=f"it has {len(os.fsencode(path))} bytes; file systems take {_LONGEST_NAME} in one name, "
            f"{_LONGEST_PATH} in all",
            cure="use a shorter path",
        )
    if doing == "read" and error.errno in (errno.ENOENT, errno.EISDIR, errno.ENOTDIR):
        return NoSuchFileError(
            f"{path} could not be read: {error.strerror}.",
            cause="the path was mistyped, the file was removed, or something else stands there",
            cure=f"ls -ld {shlex.quote(str(path))} shows what is there; correct the path, or put the file back",
        )
    return FileAccessError(
        f"{path} could not be {doing}: {error.strerror or error}.",
        cause=f"user {os.geteuid()} lacks permission there, or the file system is read-only"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        else "",
        cure=f"check {path.parent}, then run the same command again",
    )


def _first_of(error: OSError) -> OSError:
    """shutil.copytree gathers what went wrong as texts, in an error without a number: the first, with its number."""
    if not isinstance(error, shutil.Error):
        return error
    found = re.search(r"\[Errno (\d+)\]", str(error))
    return OSError(int(found.group(1)), os.strerror(int(found.group(1)))) if found else error


@contextlib.contextmanager
def explained(path: Path, *, doing: str = "written") -> Iterator[None]:
    """Turns an OSError raised within into the error that says what to do about it."""
    try:
        yield
    except OSError as error:
        raise as_error(error, path, doing=doing) from error


def make_directory(path: Path) -> Path:
    """Makes `path` and its parents where they are missing."""
    with explained(path, doing="made"):
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_writable(directory: Path) -> None:
    """FileAccessError where no file can be made in `directory`, which is made where it is missing."""
    make_directory(directory)
    with explained(directory), tempfile.TemporaryFile(dir=directory):
        pass


def refuse_unwritable(directory: Path) -> None:
    """FileAccessError where check_writable() would raise it, as far as that shows without making anything."""
    place = directory.absolute()
    with explained(directory):
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
        if not os.access(place, os.W_OK | os.X_OK):
            number = errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(number, os.strerror(number), str(place))


def write_file(path: Path, data: bytes | str, *, mode: int | None = None) -> bool:
    """Puts `data` at `path` by renaming a finished file over it; True if that changed anything.

    A file that already holds `data` (and has `mode`, if given) is not touched, so its time stamp stays. Without
    `mode`, an existing file keeps its own and a new one gets 0644. A symbolic link at `path` is replaced, not followed.
    """
    content = data.encode() if isinstance(data, str) else data
    with explained(path, doing="read"):
        wanted = mode if mode is not None else _mode_of(path)
        if _holds(path, content, wanted):
            return False
    make_directory(path.parent)
    with _replacing(path, wanted) as file:
        file.write(content)
    return True


def copy_file(source: Path, path: Path, *, mode: int | None = None) -> bool:
    """Puts a copy of `source` at `path` atomically; True if that changed anything. Contents decide, not times."""
    refuse_endless(source)
    wanted = mode if mode is not None else 0o755 if os.access(source, os.X_OK) else 0o644
    if _same_file_content(source, path, wanted):
        return False
    make_directory(path.parent)
    with explained(source, doing="read"):
        original = source.open("rb")
    with original, _replacing(path, wanted) as target:
        for chunk in chunks(original, source):
            target.write(chunk)
    return True


def copy_hashed(source: Path, path: Path, *, mode: int) -> str:
    """Copies a file to `path`, a new file of a directory that nobody looks into yet; returns the sha256 of its bytes.

    They are read once, and are on the disk for good when this returns.
    """
    refuse_endless(source)
    make_directory(path.parent)
    digest = hashlib.sha256()
    with explained(source, doing="read"):
        original = source.open("rb")
    with original, explained(path), path.open("xb") as copy, _reaching_the_disk(copy, source):
        for chunk in chunks(original, source):
            copy.write(chunk)
            digest.update(chunk)
        os.fchmod(copy.fileno(), mode)
    return digest.hexdigest()


def move_hashed(source: Path, path: Path, *, mode: int) -> str:
    """Gives a file of our own the name `path`, on the same file system, and returns its sha256; as copy_hashed() does.

    Its bytes go to the disk while they are read.
    """
    make_directory(path.parent)
    with explained(path):
        os.rename(source, path)
    with explained(path), path.open("r+b") as file:
        os.fchmod(file.fileno(), mode)
        with _reaching_the_disk(file, path):
            return sha256_of(path)


def share_file(source: Path, path: Path) -> bool:
    """Gives a finished file a second name, without copying its bytes; False where no way is open to do that.

    Where the file system can have two files share their blocks until one is changed (btrfs, xfs), it does. Elsewhere it
    is a hard link: what is written into one is in both, so nobody has the permission to write into it any more.
    """
    make_directory(path.parent)
    with explained(source, doing="read"), source.open("rb") as original:
        try:
            with path.open("xb") as clone:
                fcntl.ioctl(clone.fileno(), _FICLONE, original.fileno())
                os.fchmod(clone.fileno(), stat.S_IMODE(os.fstat(original.fileno()).st_mode))
                os.fsync(clone.fileno())
        except OSError:
            path.unlink(missing_ok=True)
        else:
            return True
    try:
        os.link(source, path)
        path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
        _sync_directory(path.parent)
    except OSError:  # whatever it is: a copy can still be made, or says what is wrong
        path.unlink(missing_ok=True)
        return False
    return True


@contextlib.contextmanager
def _reaching_the_disk(file: IO[bytes], like: Path) -> Iterator[None]:
    """Has the disk take what is written to a file while the block runs, and all of it at the end.

    `like` is as large as it will be.
    """
    descriptor = file.fileno()
    ended = threading.Event()
    failures: list[OSError] = []

    def sync() -> None:
        try:
            while True:
                os.fdatasync(descriptor)
                if ended.wait(_SYNCED_EVERY_S):
                    return
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=sync)
    is_large = like.stat().st_size > _COPIED_AT_ONCE
    if is_large:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if is_large:
            thread.join()
    for error in failures:  # only the first fsync() after an error of the disk reports it
        raise error
    file.flush()
    os.fsync(descriptor)


def link_or_copy(source: Path, path: Path) -> bool:
    """Makes `path` a hard link to `source`, or a copy where links don't reach; True if that changed anything."""
    with explained(source, doing="read"):
        original = source.stat()
    with explained(path, doing="read"), contextlib.suppress(FileNotFoundError):
        if os.path.samestat(path.stat(), original):
            return False
    make_directory(path.parent)
    with _temporary_name_beside(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise as_error(error, path) from error
            return copy_file(source, path)
        with explained(path):
            os.replace(temporary, path)
    return True


def point_link(link: Path, target: Path | str) -> bool:
    """Makes the symbolic link `link` point to `target` in one step; True if that changed anything.

    Refuses to replace anything that is not a symbolic link.
    """
    wanted = os.fspath(target)
    if link.is_symlink():
        if os.readlink(link) == wanted:
            return False
    elif link.exists():
        raise FileAccessError(
            f"{link} is not a symbolic link, so it was not replaced.",
            cause="a file or directory was put there by hand",
            cure=f"move {link} away, then run the same command again",
        )
    make_directory(link.parent)
    with explained(link), _temporary_name_beside(link) as temporary:
        os.symlink(wanted, temporary)
        os.replace(temporary, link)
        _sync_directory(link.parent)
    return True


@contextlib.contextmanager
def new_directory(path: Path, *, replaces: bool = True, otherwise: Callable[[], Path] | None = None) -> Iterator[Path]:
    """A directory to fill; it gets the name `path` when the block succeeds, and is removed when it doesn't.

    What was at `path` before is replaced in that last step; it stays where that fails. Unless it `replaces`, what
    appeared there meanwhile stays, and is a NameTakenError, or the directory gets the name that `otherwise` finds. What
    runs that were killed left half made is removed.
    An OSError raised in the block becomes the error that as_error() makes of it.
    """
    make_directory(path.parent)
    remove_left_over(path)
    with explained(path, doing="made"):
        temporary = Path(tempfile.mkdtemp(prefix=_own_prefix(path), dir=path.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            if replaces:
                _swap_in(temporary, path)
            else:
                _move_in_under_a_free_name(temporary, path, otherwise)
        finally:
            remove(temporary)


@contextlib.contextmanager
def added_directory(path: Path, *, temporary_name: str) -> Iterator[Path]:
    """A directory to fill; it becomes `path` when the block succeeds, once all in it is on the disk for good.

    Other than with new_directory(), nothing is replaced: FileAccessError where `path` came to be meanwhile. Until
    then it is called `.temporary_name.PID...`; what runs that were killed left under such a name is removed.
    """
    make_directory(path.parent)
    place = path.with_name(temporary_name)
    remove_left_over(place)
    with explained(path, doing="made"):
        temporary = Path(tempfile.mkdtemp(prefix=_own_prefix(place), dir=path.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            _sync_tree(temporary)
            _move_in(temporary, path)
        finally:
            remove(temporary)


def rename_directory(path: Path, target: Path) -> None:
    """Gives a directory another name beside it, which the disk holds when this returns. Raises FileAccessError."""
    with explained(path, doing="renamed"):
        os.rename(path, target)
        _sync_directory(target.parent)


def copy_within(source: Path, target: Path, *, on_bytes: Callable[[int], None]) -> None:
    """Copies a file's bytes to `target`, a new file of a directory that nobody looks into yet: added_directory() syncs.

    On file systems that can, both share their blocks until one is changed. `on_bytes` hears how many were copied.
    RequestError where `source` is no longer what it was when its copying began.
    """
    refuse_endless(source)
    with explained(source, doing="read"):
        original = source.open("rb")
    with original, explained(target), target.open("xb") as copy:
        before = os.fstat(original.fileno())
        copied = _copy_in_the_kernel(original, copy, before.st_size, on_bytes)
        original.seek(copied)
        copy.seek(copied)
        for chunk in chunks(original, source):
            copy.write(chunk)
            on_bytes(len(chunk))
            copied += len(chunk)
        os.fchmod(copy.fileno(), 0o644)
    with explained(source, doing="read"):
        now = source.stat()
    if (copied, _identity(now)) != (before.st_size, _identity(before)):
        raise RequestError(
            f"{source} has changed while it was copied.",
            cause="somebody is still writing the model, or is replacing it",
            cure="wait until it is complete, then run the same command again",
        )


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _copy_in_the_kernel(original: IO[bytes], copy: IO[bytes], size_bytes: int, on_bytes: Callable[[int], None]) -> int:
    """How many bytes copy_file_range(2) has copied: none where kernel, file systems or C library have no such call."""
    copied = 0
    copy_range = getattr(os, "copy_file_range", None)
    while copy_range is not None and copied < size_bytes:
        try:
            count = copy_range(original.fileno(), copy.fileno(), _COPIED_AT_ONCE, copied, copied)
        except OSError as error:
            if copied or error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
                raise
            break
        if not count:
            break
        copied += count
        on_bytes(count)
    return copied


@contextlib.contextmanager
def new_file(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """A file to fill, however large; it gets the name `path` when the block succeeds, and is removed when it doesn't.

    What runs that were killed left half written is removed. An OSError raised in the block becomes the error that
    as_error() makes of it. A device, a pipe or a directory at `path` is refused.
    """
    refuse_other_than_file(path)
    make_directory(path.parent)
    remove_left_over(path)
    with explained(path):
        descriptor, temporary = tempfile.mkstemp(prefix=_own_prefix(path), dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                with contextlib.suppress(PermissionError):  # the file system of a USB stick knows no modes
                    os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_directory(path.parent)


@contextlib.contextmanager
def scratch_directory(parent: Path) -> Iterator[Path]:
    """A directory in `parent` for what is unfinished, removed at the end; what killed runs left of theirs goes too."""
    make_directory(parent)
    place = parent / "scratch"
    remove_left_over(place)
    with explained(parent):
        directory = Path(tempfile.mkdtemp(prefix=_own_prefix(place), dir=parent))
    try:
        yield directory
    finally:
        remove(directory)


def refuse_endless(path: Path) -> None:
    """RequestError where `path` is a device or a pipe: what is read to its end is a file."""
    with explained(path, doing="read"):
        mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise RequestError(f"{path} is a device or a pipe, and a file is needed.", cure="name a file")


def refuse_other_than_file(path: Path, *, cure: str = "name another file") -> None:
    """RequestError where `path` is something that a file must not replace, such as /dev/null."""
    with explained(path, doing="used"):
        if path.exists() and not path.is_file():
            kind = "a directory" if path.is_dir() else "a device or a pipe"
            raise RequestError(f"{path} is {kind}, so it can't be replaced by a file.", cure=cure)


def remove(path: Path) -> None:
    """Removes a file, a link or a whole directory, write-protected parts included; nothing there is fine."""
    if path.is_symlink() or not path.is_dir():
        with explained(path, doing="removed"):
            path.unlink(missing_ok=True)
        return
    with explained(path, doing="removed"):
        top = _open_to_empty(path, None)
        try:
            unused = map(".deep.{}".format, itertools.count())
            while _emptied(top, top, 0, unused):
                pass
        finally:
            os.close(top)
        path.rmdir()


def _emptied(top: int, directory: int, depth: int, unused: Iterator[str]) -> bool:
    """Removes what is in a directory, however deep; True if some of it went up to `top` and is to be removed there,
    by names that are `unused` so far.

    As the directories are open, each name is one of their own: no path is too long, and no link is followed.
    """
    moved = False
    with os.scandir(directory) as entries:
        found = list(entries)
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.name, dir_fd=directory)
        elif depth == _OPEN_AT_ONCE:
            _move_up(top, directory, entry.name, unused)
            moved = True
        else:
            inner = _open_to_empty(entry.name, directory)
            try:
                moved |= _emptied(top, inner, depth + 1, unused)
            finally:
                os.close(inner)
            os.rmdir(entry.name, dir_fd=directory)
    return moved


def _open_to_empty(name: str | Path, directory: int | None) -> int:
    """A directory opened, and what Bazel made write-protected made writable."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        opened = os.open(name, flags, dir_fd=directory)
    except PermissionError:
        os.chmod(name, stat.S_IRWXU, dir_fd=directory)
        opened = os.open(name, flags, dir_fd=directory)
    if os.fstat(opened).st_mode & stat.S_IRWXU != stat.S_IRWXU:
        with contextlib.suppress(OSError):
            os.fchmod(opened, stat.S_IRWXU)
    return opened


def _move_up(top: int, directory: int, name: str, unused: Iterator[str]) -> None:
    """Moves a directory from deep below up to `top`, under a name that nothing has there."""
    os.chmod(name, stat.S_IRWXU, dir_fd=directory)  # its entry for the directory above it changes
    while True:
        try:
            os.rename(name, next(unused), src_dir_fd=directory, dst_dir_fd=top)
        except (FileExistsError, NotADirectoryError):  # an empty directory of that name is replaced, which is as well
            continue
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            continue
        return


def walk(top: Path, *, onerror: Callable[[OSError], None] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """What os.walk() yields, from the top down, however deep the tree is: before Python 3.12 it calls itself."""
    waiting = [os.fspath(top)]
    while waiting:
        directory = waiting.pop()
        directories: list[str] = []
        files: list[str] = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    (directories if _is_directory(entry) else files).append(entry.name)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            continue
        yield directory, directories, files
        below = (os.path.join(directory, name) for name in reversed(directories))  # noqa: PTH118
        waiting += [path for path in below if not os.path.islink(path)]  # noqa: PTH114


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, in hexadecimal; RequestError for a device or a pipe, which may never end."""
    refuse_endless(path)
    digest = hashlib.sha256()
    with explained(path, doing="read"), path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def chunks(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """The bytes of `file`, in pieces. Failures are reported as those of reading, even within a block that writes."""
    while True:
        with explained(path, doing="read"):
            chunk = file.read(CHUNK_BYTES)
        if not chunk:
            return
        yield chunk


def read_text(path: Path) -> str:
    """A file's text; bytes that are not UTF-8 are kept as surrogates, line ends as they are."""
    return read_bytes(path).decode("utf-8", "surrogateescape")


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, or of a pipe to its end. RequestError where there are more than READ_WHOLE_BYTES."""
    with explained(path, doing="read"), path.open("rb") as file:
        return read_whole(file, str(path))


def read_whole(file: IO[bytes], where: str) -> bytes:
    """The same for a file that is open; `where` is its name in messages."""
    data = file.read(READ_WHOLE_BYTES + 1)
    if len(data) > READ_WHOLE_BYTES:
        raise RequestError(
            f"{where} has more than {amount_text(READ_WHOLE_BYTES, 'bytes')}, and was not read.",
            cause="it is not the file that was meant, or a device that never ends",
            cure="name the file that was meant",
        )
    return data


def is_remote(path: str) -> bool:
    """Whether TensorFlow reads that path from elsewhere: s3://, gs://, hdfs:// (its ParseURI)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def free_bytes(path: Path) -> int:
    """The space that is free for us on the file system which `path` is, or will be, on."""
    existing = path
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def check_space(place: Path, needed_bytes: int, *, what: str, instead: str) -> None:
    """DiskFullError where the file system of `place` is too full for `what`, which needs that many bytes."""
    free = free_bytes(place)
    if needed_bytes > free:
        raise DiskFullError(
            f"{what} need {amount_text(needed_bytes, 'bytes')}, but {place} has only "
            f"{amount_text(free, 'bytes')} left.",
            cause="the disk is almost full",
            cure=f"free {amount_text(needed_bytes - free, 'bytes')} there, or {instead}",
        )


def _mode_of(path: Path) -> int:
    if path.is_file() and not path.is_symlink():
        return stat.S_IMODE(path.stat().st_mode)
    return 0o644


def _holds(path: Path, content: bytes, mode: int) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    status = path.stat()
    return status.st_size == len(content) and stat.S_IMODE(status.st_mode) == mode and path.read_bytes() == content


def _same_file_content(source: Path, path: Path, mode: int) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with explained(source, doing="read"):
        size = source.stat().st_size
    with explained(path, doing="read"):
        status = path.stat()
    same_shape = stat.S_IMODE(status.st_mode) == mode and status.st_size == size
    return same_shape and sha256_of(path) == sha256_of(source)


@contextlib.contextmanager
def _replacing(path: Path, mode: int) -> Iterator[IO[bytes]]:
    """A file that takes the place of `path` when the block succeeds, and is on the disk for good then."""
    with explained(path):
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


@contextlib.contextmanager
def _temporary_name_beside(path: Path) -> Iterator[str]:
    temporary = tempfile.mktemp(prefix=".tmp.", dir=path.parent)  # noqa: S306 - for os.link/symlink: they never follow
    try:
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _swap_in(temporary: Path, path: Path) -> None:
    """Gives a finished directory its name; rename(2) can't replace a directory that holds something."""
    if not path.exists() and not path.is_symlink():
        os.rename(temporary, path)
    else:
        old = Path(tempfile.mkdtemp(prefix=f"{_own_prefix(path)}old.", dir=path.parent))
        try:
            os.rename(path, old / FORMER)
            os.rename(temporary, path)
        finally:
            _restore(old, path)
            remove(old)
    _sync_directory(path.parent)


def _move_in_under_a_free_name(temporary: Path, path: Path, otherwise: Callable[[], Path] | None) -> None:
    while True:
        try:
            _move_in(temporary, path)
            return
        except NameTakenError:
            if otherwise is None:
                raise
            path = otherwise()


def _move_in(temporary: Path, path: Path) -> None:
    """Gives a finished directory its name, unless something else has it: rename(2) replaces only an empty one."""
    try:
        os.rename(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise NameTakenError(
            f"{path} appeared while it was made, and was left as it is.",
            cause="another run made it at the same time",
            cure="run the same command again",
        ) from None
    _sync_directory(path.parent)


def _restore(old: Path, path: Path) -> None:
    """Gives a directory that was moved away its name back, if nothing else got it."""
    if os.path.lexists(old / FORMER) and not os.path.lexists(path):
        os.rename(old / FORMER, path)


def _own_prefix(path: Path) -> str:
    """How the temporary names of this process for `path` begin."""
    return f".{path.name}.{os.getpid()}."


def remove_left_over(path: Path) -> None:
    """Removes what killed runs left of theirs for `path`; a directory that they moved away gets its name back."""
    prefix = f".{path.name}."
    with explained(path.parent, doing="read"):
        beside = [Path(entry) for entry in os.scandir(path.parent) if entry.name.startswith(prefix)]
    for entry in sorted(beside):
        found = _TEMPORARY.fullmatch(entry.name[len(prefix) :])
        if found is None or Path("/proc", found.group(1)).exists():
            continue
        if found.group(2):
            with explained(path):
                _restore(entry, path)
        with contextlib.suppress(FileAccessError):  # another run may be at it too
            remove(entry)


def _sync_tree(top: Path) -> None:
    """Has the disk hold all files and directories below `top`, and itself."""
    for directory, _, files in walk(top):
        for name in files:
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)  # noqa: PTH118
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_directory(Path(directory))


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
