"""What `./inv --debug` and NPU_SERVING_DEBUG=1 show on standard error, without the secrets in it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence

from npu_serving.shown_text import HIDDEN, masked, masked_variable, masked_words, printable

DEBUG_VARIABLE = "NPU_SERVING_DEBUG"


def debugging() -> bool:
    """Whether tracebacks of handled errors and the programs that are started are to be shown."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def switch_on() -> None:
    """From now on they are shown, also by the programs of this project that are started."""
    os.environ[DEBUG_VARIABLE] = "1"


def show_start(argv: Sequence[str], where: str, env: Mapping[str, str]) -> None:
    """Shows a program that is being started, where, and with which environment."""
    if not debugging():
        return
    _show(f"starts {shlex.join(masked_words(argv))}")
    _show(f"    in {where}")
    for name, value in sorted(env.items()):
        shown = masked_variable(name, value)
        _show(f"    {name}={shown if shown == HIDDEN else shlex.quote(shown)}")


def show_end(argv: Sequence[str], how: str, seconds: float) -> None:
    """Shows how a program ended, and after which time."""
    if debugging():
        _show(f"{argv[0]} {how} after {seconds:.3f} s")


def show_traceback(error: BaseException) -> None:
    """Shows where an error that is handled came from."""
    if not debugging():
        return
    import traceback

    for line in "".join(traceback.format_exception(type(error), error, error.__traceback__)).splitlines():
        _show(line)


def _show(line: str) -> None:
    shown = printable(masked(line)).encode("utf-8", "backslashreplace").decode()
    sys.stderr.write(f"debug: {shown}\n")
    sys.stderr.flush()
