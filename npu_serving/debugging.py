"""What `./inv --debug` and NPU_SERVING_DEBUG=1 show on standard error, and how secrets are kept out of it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence

DEBUG_VARIABLE = "NPU_SERVING_DEBUG"
HIDDEN = "***"

_CONFIDENTIAL = r"(?:token|passw|passphrase|secret|credential|authorization|api[_-]?key|private[_-]?key)"
_SECRET_NAME = re.compile(_CONFIDENTIAL, re.IGNORECASE)
_SECRET_FLAG = re.compile(rf"--?[\w.-]*{_CONFIDENTIAL}[\w.-]*", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^\s/]*@")  # up to the last @ before the path: a password may hold one
_SECRET_SETTING = re.compile(
    rf"(?P<name>[\w.-]*{_CONFIDENTIAL}[\w.-]*[\"']?\s*[=:]\s*)"
    r"(?:(?:basic|bearer)\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s'\"&]+)",
    re.IGNORECASE,
)


def debugging() -> bool:
    """Whether tracebacks of handled errors and the programs that are started are to be shown."""
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def switch_on() -> None:
    """From now on they are shown, also by the programs of this project that are started."""
    os.environ[DEBUG_VARIABLE] = "1"


def masked(text: str) -> str:
    """The text without its secrets: user and password of a URL, the value of NAME_TOKEN=... and so on."""
    without_users = _CREDENTIALS.sub(f"{HIDDEN}@", text)
    return _SECRET_SETTING.sub(lambda found: found["name"] + HIDDEN, without_users)


def masked_words(argv: Sequence[str]) -> list[str]:
    """The words of a command without their secrets; the word behind a flag such as --token is one."""
    return [HIDDEN if _SECRET_FLAG.fullmatch(former) else masked_word(word) for former, word in zip(["", *argv], argv)]


def masked_word(word: str) -> str:
    """A word without its secrets; in NAME_TOKEN=..., all that follows, blanks and quotes included."""
    name, separator, value = word.partition("=")
    if separator and value and _SECRET_NAME.search(name) and not re.search(r"\s|://", name):
        return f"{name}={HIDDEN}"
    return masked(word)


def show_start(argv: Sequence[str], where: str, env: Mapping[str, str]) -> None:
    """Shows a program that is being started, where, and with which environment."""
    if not debugging():
        return
    _show(f"starts {shlex.join(masked_words(argv))}")
    _show(f"    in {where}")
    for name, value in sorted(env.items()):
        _show(f"    {name}={HIDDEN}" if _SECRET_NAME.search(name) else f"    {name}={shlex.quote(masked(value))}")


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
    shown = masked(line).encode("utf-8", "backslashreplace").decode()
    sys.stderr.write(f"debug: {shown}\n")
    sys.stderr.flush()
