"""Values in systemd's unit files, which has three ways to read one (systemd.syntax(7), systemd.service(5), 252)."""

from __future__ import annotations

from npu_serving.errors import UnwritableValueError


def systemd_line(value: str) -> str:
    """The value of a setting that takes the rest of its line as it is, such as WorkingDirectory= or PathChanged=.

    Only `%` has a meaning there; blanks at the ends are stripped and a backslash at the end joins the next line, so
    such values are refused, like those with control characters.
    """
    text = _printable(value)
    if text != text.strip() or text.endswith("\\"):
        raise _refused(value, "it begins or ends with a space, or ends with a backslash")
    return text.replace("%", "%%")


def systemd_word(value: str) -> str:
    """The value as one word of a list, such as an assignment in Environment=: in double quotes."""
    text = _printable(value).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{text}"'


def systemd_argument(value: str) -> str:
    """The value as an argument of ExecStart=, where `$` begins a variable as well.

    Not for the program itself: its `$` would stay doubled.
    """
    return systemd_word(value).replace("$", "$$")


def _printable(value: str) -> str:
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in value):
        raise _refused(value, "it contains control characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _refused(value, "it is not UTF-8") from error
    return value


def _refused(value: str, why: str) -> UnwritableValueError:
    return UnwritableValueError(
        f"{value!r} can't be written into a systemd unit: {why}.",
        cause="systemd's syntax has no way to quote it",
        cure="use a path without such characters",
    )
