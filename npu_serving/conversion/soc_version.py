"""Which chip an om is compiled for: the one that was said, that of this machine, or the one that CANN is set up for.

ATC's --soc_version is Ascend and the name that npu-smi shows (Ascend910B4); those of CANN's platform_config/ are all
that an installation can compile for.
"""

from __future__ import annotations

import difflib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import process
from npu_serving.cann.install import CannInstallation
from npu_serving.doctor.checks_npu import PLACES, PROGRAM
from npu_serving.doctor.npu_smi import parse_npu_smi
from npu_serving.errors import NpuServingError, RequestError

SECONDS = 30.0
"""How long npu-smi may take; a driver that is stuck answers never."""
_CONFIGURATIONS = ("{machine}-linux/data/platform_config", "data/platform_config", "compiler/data/platform_config")
_CHIP = "Ascend"
_BOARD_NAME = re.compile(r"^\s*(?:NPU Name|Chip Name)\s*:\s*(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class SocVersion:
    """A chip such as Ascend910B4, and where that was found; `found` is "" where it was said by a flag."""

    name: str
    found: str = ""


def known_soc_versions(installation: CannInstallation | None) -> tuple[str, ...]:
    """The chips that this CANN has a platform_config for, in their order; none where it has no such directory."""
    runtime = installation.runtime if installation is not None else None
    if runtime is None:
        return ()
    for place in _CONFIGURATIONS:
        names = sorted(path.stem for path in (runtime.path / place.format(machine=platform.machine())).glob("*.ini"))
        if names:
            return tuple(names)
    return ()


def chosen_soc_version(asked: str, installation: CannInstallation | None, root: Path = Path("/")) -> SocVersion:
    """The chip that was asked for, or else that of this machine. `root` is where npu-smi is looked for as well.

    RequestError for one that this CANN has no configuration for, and where none is found.
    """
    known = known_soc_versions(installation)
    if asked:
        return SocVersion(_checked(asked, known))
    found = _of_this_machine(root)
    if found:
        return SocVersion(found, f"as {PROGRAM} shows")
    if len(known) == 1:
        return SocVersion(known[0], "the only chip that this CANN has a configuration for")
    several = f"CANN can compile for {', '.join(known[:20])}" if known else "for example Ascend910B4 or Ascend310P3"
    raise RequestError(
        "Which chip the om is for is not known.",
        cause=f"{PROGRAM} shows no NPU here",
        cure=f"--soc-version CHIP: {_CHIP} and the name that {PROGRAM} info shows where the server will run; {several}",
    )


def _checked(asked: str, known: tuple[str, ...]) -> str:
    if not asked.startswith(_CHIP) or not re.fullmatch(r"[A-Za-z0-9_]+", asked):
        name = f"{_CHIP}{asked.lstrip('-')}"
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0) if known else [name]
        raise RequestError(
            f"--soc-version {asked!r} is not the name of a chip.",
            cause=f"they begin with {_CHIP}, and have letters, digits and '_'",
            cure=f"--soc-version {near[0]}",
        )
    if known and asked not in known:
        near = difflib.get_close_matches(asked, known, n=3, cutoff=0.0)
        raise RequestError(
            f"--soc-version {asked} is not a chip that this CANN can compile for.",
            cause=f"its platform_config has {', '.join(known[:20])}{', …' if len(known) > 20 else ''}",
            cure=f"--soc-version {near[0]}, or install the CANN for {asked}",
        )
    return asked


def _of_this_machine(root: Path) -> str:
    """The chip that npu-smi shows; "" where it is not there, or says nothing of use."""
    beside = next((path for place in PLACES if (path := root / place).is_file()), None)
    program = process.find_program(PROGRAM) or beside
    if program is None:
        return ""
    output = _asked(program, "info")
    chips = parse_npu_smi(output).chips
    if not chips:
        return ""
    first = chips[0]
    if not first.name.startswith(_CHIP):
        return f"{_CHIP}{first.name}"
    board = dict.fromkeys(
        _BOARD_NAME.findall(_asked(program, "info", "-t", "board", "-i", str(first.card), "-c", str(first.chip)))
    )
    parts = [name for name in board if name != _CHIP]
    return "_".join([first.name, *(part for part in parts if part != first.name)])


def _asked(program: Path, *arguments: str) -> str:
    env: Mapping[str, str] = {**process.base_environment(), **_libraries()}
    try:
        return process.run([program, *arguments], env=env, check=False, timeout_s=SECONDS).stdout
    except NpuServingError:
        return ""


def _libraries() -> dict[str, str]:
    path = os.environ.get("LD_LIBRARY_PATH")
    return {"LD_LIBRARY_PATH": path} if path else {}
