"""What may be shown to a person: text without passwords, and without characters that a terminal would obey."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Callable

HIDDEN = "***"
SHOWN_OF_A_WORD = 200

_CONFIDENTIAL = r"(?:token|passw|passphrase|secret|credential|authorization|api[_-]?key|access[_-]?key|private[_-]?key)"
_SECRET_NAME = re.compile(_CONFIDENTIAL, re.IGNORECASE)
_SECRET_FLAG = re.compile(rf"--?[\w.-]*{_CONFIDENTIAL}[\w.-]*", re.IGNORECASE)
# The bounds, here and in _URL, keep a long word from being looked through again at each of its letters.
_SECRET_SETTING = re.compile(
    rf"(?P<name>{_CONFIDENTIAL}[\w.-]{{0,200}}[\"']?\s*[=:]\s*)"
    r"(?:(?:basic|bearer)\s+)?(?:\"[^\"]*\"|'[^']*'|[^\s'\"&]+)",
    re.IGNORECASE,
)
_SECRET_SETTING_BEGINS = re.compile(rf"{_CONFIDENTIAL}[\w.-]{{0,100}}[\"']?\s*[=:]", re.IGNORECASE)
# A URL in a text ends at a blank, at the end of a quoted item of a list, and where the next URL of a list begins. One
# that was taken for a path has lost a slash.
_OTHER_URL = r"[=,;|](?:https?|ftp|grpcs?|socks\w*|file)://"
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,30}://|(?:https?|ftp|grpcs?|socks5h?|s3|gs|hdfs):/)"
    rf"(?P<rest>(?:(?![\"'][,\]}})])(?!{_OTHER_URL})\S)*)",
    re.IGNORECASE,
)
_NEXT_URL = re.compile(rf"(?={_OTHER_URL})", re.IGNORECASE)
_LONG_WORD = re.compile(r"\S{500,}")
_HOST_AND_PORT = re.compile(r"[^:@]*:[0-9]{0,5}")
_BEGINNING = re.compile(r"(?P<scheme>[=,;|]?[a-z][a-z0-9+.-]*://)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
# Control characters but for the end of a line and a tab, and those that make later text run the other way.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def fit_to_show(text: str) -> str:
    """The text as a note or an error may show it: printable(), and without_login() for each URL in it."""
    return printable(without_login(text))


def printable(text: str) -> str:
    """The text with each character that a terminal would obey written as Python writes it, with a backslash."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def shortened(text: str) -> str:
    """The text with each word cut off that no screen holds: a person still sees which one is meant."""
    return _LONG_WORD.sub(lambda found: f"{found[0][:SHOWN_OF_A_WORD]}...", text)


def in_a_line(text: str) -> str:
    """The text as printable() writes it, and line ends so too: a name from a file can't look like a line of ours."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def without_login(text: str, *, instead: str = f"{HIDDEN}@") -> str:
    """The text without user and password of the URLs in it; `instead` is "" for a URL that is written down.

    A password may hold what should have been written as %40, %2F or %23: as a URL with a user has an `@` behind it,
    all up to the last `@` is hidden. The `@` of HOST:PORT/@scope/package and of HOST/a@b belongs to the path.
    """
    return _URL.sub(lambda found: found["scheme"] + _without_user(found["rest"], instead), text)


def shown_url(value: str) -> str:
    """A value that was given for a URL, or NEW=OLD, be it one or not: before its last `@` a password may stand."""
    return "".join(_without_user_if_any(part) for part in _NEXT_URL.split(value))


def masked(text: str) -> str:
    """The text without its secrets: user and password of a URL, the value of NAME_TOKEN=... and so on."""
    return _SECRET_SETTING.sub(lambda found: found["name"] + HIDDEN, without_login(text))


def masked_words(argv: Sequence[str]) -> list[str]:
    """The words of a command without their secrets; the word behind a flag such as --token is one."""
    return [HIDDEN if _SECRET_FLAG.fullmatch(former) else masked_word(word) for former, word in zip(["", *argv], argv)]


def hiding(argv: Sequence[str]) -> Callable[[str], str]:
    """What hides the secrets of a command in what its program prints, which may repeat the words it was given."""
    hidden = [(word, shown) for word, shown in zip(argv, masked_words(argv)) if word != shown]

    def hide(text: str) -> str:
        for word, shown in hidden:
            text = text.replace(word, shown)
        return text

    return hide


def masked_word(word: str) -> str:
    """A word without its secrets; in NAME_TOKEN=..., all that follows, blanks and quotes included."""
    name, separator, value = word.partition("=")
    if separator and value and _SECRET_NAME.search(name) and not re.search(r"\s|://", name):
        return f"{name}={HIDDEN}"
    return masked(word)


def masked_setting(text: str) -> str:
    """KEY=VALUE of a --set without its secrets: of a value that has a secret somewhere in it, nothing is shown.

    A value is YAML, in which neither the end of a secret nor its name need look like it does elsewhere.
    """
    key, separator, _ = text.partition("=")
    plain = re.sub(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))", lambda found: chr(int(found[1] or found[2], 16)), text)
    is_named = _SECRET_NAME.search(plain.partition("=")[0]) or _SECRET_SETTING_BEGINS.search(plain)
    if separator and is_named:
        return f"{key}={HIDDEN}"
    return masked(text)


def masked_variable(name: str, value: str) -> str:
    """The value of an environment variable without its secrets; a proxy's may be written without `http://`."""
    if _SECRET_NAME.search(name):
        return HIDDEN
    return shown_url(value) if name.lower().endswith("_proxy") else masked(value)


def _without_user_if_any(value: str) -> str:
    found = _BEGINNING.fullmatch(value)
    if found:
        return found["scheme"] + _without_user(found["rest"], f"{HIDDEN}@")
    return f"{HIDDEN}@{value.rpartition('@')[2]}" if "@" in value else value


def _without_user(rest: str, instead: str) -> str:
    """What follows `://`, without the user."""
    _, at, host = rest.rpartition("@")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not at:
        return rest
    if "@" not in authority:
        if ":" not in authority:
            return rest
        if _HOST_AND_PORT.fullmatch(authority) and not re.search("[^/]@", rest):
            return rest
    return instead + host
