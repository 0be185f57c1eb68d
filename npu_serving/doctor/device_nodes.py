"""The files in /dev by which CANN reaches the NPU, and whether a user may use them.

The driver makes /dev/davinciN for each chip (/dev/vdavinciN for a virtual one) and the three files of MANAGEMENT; a
container has those that it was given.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from npu_serving.file_access import whose
from npu_serving.writers.shell import shell_word

MANAGEMENT = ("davinci_manager", "devmm_svm", "hisi_hdc")
_CHIP = re.compile(r"v?davinci(\d{1,4})")
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv")
_USE = stat.S_IROTH | stat.S_IWOTH


@dataclass(frozen=True)
class Account:
    """A user as the kernel sees one: the number, and those of the groups."""

    name: str
    user_id: int
    group_ids: frozenset[int]

    @staticmethod
    def named(name: str) -> Account | None:
        """The user of that name; None where this machine has none."""
        try:
            entry = pwd.getpwnam(name)
        except (KeyError, ValueError):
            return None
        return Account(name, entry.pw_uid, frozenset(os.getgrouplist(name, entry.pw_gid)))


@dataclass(frozen=True)
class DeviceNodes:
    """Those that are there. `chips` are by the number in their names."""

    chips: dict[int, Path]
    management: tuple[Path, ...]
    lacking: tuple[str, ...]
    """The names of those of MANAGEMENT that are not there."""
    is_container: bool

    def refused(self, account: Account) -> Iterator[Path]:
        """Those that the user may not read and write."""
        yield from (path for path in (*self.chips.values(), *self.management) if not may_use(path, account))


def device_nodes(root: Path = Path("/")) -> DeviceNodes:
    """The devices of the machine whose files are below `root`."""
    directory = root / "dev"
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        names = []
    found = [(int(match[1]), directory / name) for name in names if (match := _CHIP.fullmatch(name))]
    return DeviceNodes(
        dict(sorted(found)),
        tuple(directory / name for name in MANAGEMENT if name in names),
        tuple(name for name in MANAGEMENT if name not in names),
        is_container(root),
    )


def is_container(root: Path = Path("/")) -> bool:
    """Whether this is within a container of docker, podman or Kubernetes, by the file that they leave."""
    return any(os.path.lexists(root / mark) for mark in _CONTAINER_MARKS)


def may_use(path: Path, account: Account) -> bool:
    """Whether the user may read and write the file, by its owner, group and mode."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    if account.user_id == 0:
        return True
    shift = 6 if status.st_uid == account.user_id else 3 if status.st_gid in account.group_ids else 0
    return (status.st_mode >> shift) & _USE == _USE


def refused_text(path: Path, account: Account) -> str:
    """That the user may not use it, and whose it is."""
    return f"{account.name} may not read and write {path} ({whose(path)})"


def cure_for_refused(path: Path, account: Account) -> str:
    """How the user is let in: into the group that may use it, or as the owner."""
    try:
        status = os.stat(path)
    except OSError:
        return f"ls -l {shell_word(path)}"
    of_group = status.st_mode >> 3 & _USE == _USE and status.st_gid != 0
    if not of_group:
        return "install the driver again with --install-for-all, or serve as root"
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return f"docker run --group-add {status.st_gid} (the group has no name in this container)"
    return (
        f"sudo usermod -aG {shell_word(group)} {shell_word(account.name)}, then log in again "
        f"(in a container: --group-add {status.st_gid})"
    )


def device_flags(numbers: tuple[int, ...] = (0,)) -> str:
    """The flags by which docker gives a container these chips."""
    chips = [f"--device=/dev/davinci{number}" for number in numbers]
    return " ".join([*chips, *(f"--device=/dev/{name}" for name in MANAGEMENT)])
