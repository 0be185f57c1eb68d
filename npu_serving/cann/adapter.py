"""The adapter library itself: what is known of it, and the errors for one that is missing or unfit."""

from __future__ import annotations

import errno
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import file_access
from npu_serving.cann.layout import is_from_release_wheel, packages, version_around
from npu_serving.cann.wheel_file import is_wheel, unpacked
from npu_serving.elf.symbols import ElfFile, read_elf
from npu_serving.errors import AdapterError, ElfError, FileAccessError, MissingToolError
from npu_serving.facts import ADAPTER_SONAME
from npu_serving.writers.shell import shell_word

_CI_BUILD = Path("tf_adapter_2.x", "CI_Build")
_PACKAGE = Path("output", "tfadapter.tar")


@dataclass(frozen=True)
class Adapter:
    """The adapter library to build with; `cann_version` is "" where nothing around the file names it."""

    path: Path
    sha256: str
    cann_version: str
    machine: str
    wheel: Path | None
    """The wheel that was named, where it was unpacked from one."""
    elf: ElfFile = field(repr=False, compare=False)
    """What was read from it."""

    def describe(self) -> dict[str, str]:
        """What a build's manifest keeps of it."""
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "cann_version": self.cann_version,
            "machine": self.machine,
            **({"wheel": str(self.wheel)} if self.wheel is not None else {}),
        }


def told_apart(former: Mapping[str, str], installed: Adapter) -> tuple[str, str]:
    """What the adapter that a manifest describes and the installed one are called, for a person to tell them apart.

    By the releases of their CANN where both are known and differ, else by their files and digests.
    """
    described = (former, installed.describe())
    releases = [each.get("cann_version", "") for each in described]
    if all(releases) and releases[0] != releases[1]:
        return f"the adapter of CANN {releases[0]}", f"that of CANN {releases[1]}"
    first, second = (
        f"{each.get('path') or 'a file of that name'} (sha256 {each.get('sha256') or 'unknown'})" for each in described
    )
    return f"the adapter {first}", second


def no_adapter_installed(problems: Sequence[str], *, looked_at: Sequence[str], command: str) -> MissingToolError:
    """The error for a CANN without an adapter, or for no CANN; `problems` are what is wrong with it, and `command`
    installs one.
    """
    return MissingToolError(
        f"Found no adapter ({ADAPTER_SONAME}) in the CANN installed here.",
        cause=" ".join(problems) or f"no tfplugin/ and no npu_bridge/ in {', '.join(looked_at)}",
        cure=f"{command}; or name the directory that holds tfplugin/ with cann_root, or use --adapter PATH",
    )


def adapter_at(named: Path, cann_version: str, wheels: Path | None = None, *, digest: bool = True) -> Adapter:
    """The adapter in that file, or in that wheel, which is unpacked below `wheels` if that is given.

    Without `digest` its sha256 is "": to read all of a large file takes longer than to check it.

    Raises AdapterError where it is missing, unreadable, or not one for this machine.
    """
    path, wheel = named, None
    if "\0" in str(path):
        raise AdapterError(
            f"The adapter's path {str(path)!r} contains a NUL byte.",
            cause="it was mistyped: no path can contain one",
            cure="check the path",
        )
    try:
        if path.is_dir():
            raise _error_for_directory(path)
        if not path.exists():
            raise AdapterError(f"The adapter {path} does not exist.", cure="check the path, or use --adapter auto")
        if wheels is not None and is_wheel(path):
            wheel = path
            path = unpacked(wheel, wheels)
        elf = read_elf(path, digest=digest)
    except (ElfError, FileAccessError) as error:
        if wheel is not None and isinstance(error, FileAccessError):
            raise  # of the place where it is unpacked: no other adapter changes that
        closed = file_access.refused_at(path)
        if closed is not None:
            raise _closed_to_this_user(path, closed) from error
        raise AdapterError(
            error.what, cause=error.cause, cure="use --adapter with the path of a _tf_adapter.so, or of its wheel"
        ) from error
    except OSError as error:  # a closed directory, a name that is too long
        closed = file_access.refused_at(path) if error.errno == errno.EACCES else None
        if closed is not None:
            raise _closed_to_this_user(path, closed) from error
        raise AdapterError(
            f"The adapter {path!s:.200} can't be read ({error}).", cure="check the path and its permissions"
        ) from error
    shown = named if wheel is None else f"{ADAPTER_SONAME} in {named}"
    if elf.type != "DYN":
        raise AdapterError(f"{shown} is not a shared library.", cure="use --adapter with the path of a _tf_adapter.so")
    if elf.machine != platform.machine():
        package = packages()["tfplugin"]
        is_wheel_there = wheel is not None or is_from_release_wheel(path)
        command = package.install_command("" if is_wheel_there else cann_version or version_around(path))
        raise AdapterError(
            f"{shown} is built for {elf.machine}, but this machine is {platform.machine()}.",
            cause="it comes from a package for the other architecture",
            cure=f"use {package.wheel.name}" if wheel is not None and package.wheel is not None else command,
        )
    return Adapter(path, elf.sha256, cann_version or version_around(path), elf.machine, wheel, elf)


def _closed_to_this_user(path: Path, closed: Path) -> AdapterError:
    where = "" if closed == path else f": {closed} refuses"
    return AdapterError(
        f"The adapter {path} can't be read by this user{where} ({file_access.whose(closed)}).",
        cause="CANN was installed for one user or group, without --install-for-all",
        cure=file_access.cure_for(closed),
    )


def _error_for_directory(path: Path) -> AdapterError:
    """The error for an adapter that is a directory, with the way to the file.

    In a source tree of TF Adapter without its package it is the guide's 6.7.3. The script CI_Build builds the plug-in
    for TensorFlow 2 where the machine is an x86_64; where there is no TensorFlow 2 it succeeds without making the wheel
    that the package asks for. The guide's "xxx" is any name that is not the machine's own: the script makes an
    empty wheel then.
    """
    tree = next((place for place in (path, *list(path.parents)[:2]) if (place / _CI_BUILD).is_file()), None)
    what = f"{path} is a directory, not an adapter."
    if tree is None:
        return AdapterError(what, cure=f"name the library in it: --adapter {path / ADAPTER_SONAME}")
    package = tree / _PACKAGE
    if package.is_file():
        return AdapterError(
            what,
            cause=f"{tree} is a source tree of TF Adapter; the library is in the wheel npu_bridge in {package}",
            cure=f"unpack both (tar -xf, python3 -m zipfile -e), then use --adapter …/npu_bridge/{ADAPTER_SONAME}",
        )
    script = shell_word(tree / _CI_BUILD)
    return AdapterError(
        what,
        cause=f"{tree} is a source tree of TF Adapter whose build made no {package}: {_CI_BUILD} stops silently "
        "where TensorFlow 2 is not installed (guide 6.7.3)",
        cure=f'sed -i \'s/!= "x86_64"/!= "none"/\' {script}, then build TF Adapter again',
    )
