"""Starts the program of a relink kit: it becomes the kit's __main__.py.

It unpacks the program into a cache, where each file of it is compared with the kit's at every start. Any Python from
3.6 on can read it, so that an old one can say what is wrong.
"""

import fcntl
import hashlib
import json
import os
import shlex
import stat
import sys
import tempfile
import zipfile
from pathlib import Path

LEAST = (3, 9)
KIT_JSON = "kit.json"
DIRECTORY = "program/"
IN_USE = ".in-use"
"""In the directory of a program: who runs from there holds a shared lock on it."""
TRIES = 100


class _StopError(Exception):
    """What ends the start: the exit code, what happened, the likely cause, what to type next."""


def _cache() -> Path:
    """The directory that --cache names, or $XDG_CACHE_HOME/npu-serving, or ~/.cache/npu-serving.

    _StopError where ~ means nothing: for a user without a home, as in a container, and for an unknown ~user.
    """
    words = sys.argv[1:]
    named = [words[at + 1] for at in range(len(words) - 1) if words[at] == "--cache"]
    named += [word[len("--cache=") :] for word in words if word.startswith("--cache=")]
    if named and not named[0]:
        raise _StopError(
            2,
            "--cache names no directory.",
            "the word behind it is empty, such as a variable that is not set",
            "name a directory to unpack the kit into, or leave the flag out",
        )
    above = os.environ.get("XDG_CACHE_HOME", "")
    place = named[0] if named else f"{above if above.startswith('/') else '~/.cache'}/npu-serving"
    try:
        return Path(place).expanduser().absolute()
    except RuntimeError as error:
        raise _StopError(
            2,
            f"There is no directory {place} to unpack the kit into ({error}).",
            "the user has no home directory here, or the name behind ~ is mistyped",
            "name another directory, with its whole path: --cache DIR",
        ) from error


def _entries(kit: Path) -> "dict[str, bytes]":
    """The bytes of each file of the program, by its name; ValueError for one that is not what the kit says."""
    with zipfile.ZipFile(str(kit)) as packed:
        known = json.loads(packed.read(KIT_JSON).decode())["entries"]
        program = {name: packed.read(name) for name in sorted(known) if name.startswith(DIRECTORY)}
    for name, data in program.items():
        if hashlib.sha256(data).hexdigest() != known[name] or ".." in name.split("/"):
            raise ValueError(f"{name} is not what it was")
    if not program:
        raise ValueError("there is no program in it")
    return {name[len(DIRECTORY) :]: data for name, data in program.items()}


def _put(directory: Path, program: "dict[str, bytes]") -> None:
    """Writes what is missing or differs: a run that was killed may have left anything there."""
    for name, data in program.items():
        path = directory / name
        if path.is_file() and path.read_bytes() == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=str(path.parent))
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, str(path))


def _check_own(place: Path) -> None:
    """OSError where others could change what runs from there."""
    status = place.stat()
    if status.st_uid != os.geteuid():
        raise OSError("it belongs to another user, who could change what runs from there")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"others may write to {place}, and could change what runs from there")


def hold(directory: Path) -> None:
    """Makes the directory of a program and has it stay while this process runs: a relink of another kit removes
    those that nobody holds (cache_clearing.py). OSError where it can't be made, or others could change what is in it.
    """
    for _ in range(TRIES):
        directory.mkdir(mode=0o700, exist_ok=True)
        _check_own(directory)
        try:
            descriptor = os.open(str(directory / IN_USE), os.O_RDONLY | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if os.stat(str(directory / IN_USE)).st_ino == os.fstat(descriptor).st_ino:
                return  # which keeps the descriptor open
            os.close(descriptor)
        except FileNotFoundError:  # it was just being removed
            continue
    raise OSError(f"{directory} is removed again and again")


def _prepared(kit: Path, cache: Path) -> Path:
    """The directory of the unpacked program."""
    if sys.version_info < LEAST:
        raise _StopError(
            4,
            "This Python is {}.{}, and the kit needs 3.9 or newer.".format(*sys.version_info[:2]),
            "python3 is an old one here",
            f"run it with another one, such as: python3.9 {kit}",
        )
    try:
        program = _entries(kit)
    except Exception as error:  # whatever a damaged file leads to
        raise _StopError(
            2,
            f"{kit} is not a whole relink kit ({error}).",
            "it was cut short or changed in transfer, or it is another file",
            "copy the kit from where it was made once more, and compare the sha256 of both files",
        ) from error
    digest = hashlib.sha256()
    for name in sorted(program):
        digest.update(f"{name} {len(program[name])}\n".encode() + program[name])
    directory = cache / f"program-{digest.hexdigest()[:16]}"
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.mkdir(mode=0o700, exist_ok=True)
        _check_own(cache)
        hold(directory)
        _put(directory, program)
    except OSError as error:
        raise _StopError(
            1,
            f"The kit could not be unpacked below {cache} ({error}).",
            "this user may not write there, others may, or the disk is full",
            f"name another directory: --cache DIR; or, where others may write: chmod go-w {shlex.quote(str(cache))}",
        ) from error
    return directory


def start() -> int:
    """Unpacks the program, and runs it; returns the exit code."""
    kit = Path(__file__).absolute().parent
    try:
        cache = _cache()
        directory = _prepared(kit, cache)
    except _StopError as stop:
        code, what, cause, cure = stop.args
        sys.stderr.write(f"{what}\nLikely cause: {cause}\nNext: {cure}\n")
        return int(code)
    sys.path.insert(0, str(directory))
    from npu_serving.relink_kit.main import main

    return main(str(kit), str(cache), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(start())
