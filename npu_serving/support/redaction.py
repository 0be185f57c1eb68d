"""What must not leave the machine in a support bundle: secrets, taken out of every text that goes in.

Three ways, since none of them is enough: values that are known to be secret are replaced wherever they stand, however
they are quoted; what looks like NAME_TOKEN=..., a URL with a login or the key of a service is masked (looks_secret.yaml
and shown_text.py); private keys go whole.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import json
import os
import re
import shlex
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving.documents import read_document
from npu_serving.documents.layers import set_value
from npu_serving.documents.syntax import YAML, find_places
from npu_serving.errors import NpuServingError
from npu_serving.shown_text import HIDDEN, masked, masked_variable, masked_words
from npu_serving.writers.shell import shell_word

TABLE = Path(__file__).with_name("shown_environment.yaml")
PATTERNS = Path(__file__).with_name("looks_secret.yaml")
SHORTEST_SECRET = 4
"""A value that is shorter is not replaced elsewhere: "1" stands in too many places."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,20}[A-Za-z]")
_ASSIGNMENT = re.compile(r"(?:export )?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_NO_SECRETS = frozenset(("true", "false", "null", "none", "auto", "info", "debug", "warning", "error", "localhost"))
_URL_LOGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,30}://([^/\s?#]*)@")


@dataclass(frozen=True)
class _ShownEnvironment:
    """shown_environment.yaml, whose head says what the keys mean."""

    shown: tuple[str, ...]
    hidden: tuple[str, ...]


@dataclass(frozen=True)
class _SecretPatterns:
    """looks_secret.yaml, whose head says what the keys mean."""

    patterns: tuple[str, ...]


@functools.cache
def _patterns() -> tuple[re.Pattern[str], ...]:
    found = read_document(PATTERNS, _SecretPatterns).patterns
    return tuple(re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in found)


@functools.cache
def _table() -> _ShownEnvironment:
    return read_document(TABLE, _ShownEnvironment)


def is_shown(name: str) -> bool:
    """Whether the value of an environment variable may be shown."""
    if any(fnmatch.fnmatchcase(name.upper(), pattern) for pattern in _table().hidden):
        return False
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _table().shown)


class Redactor:
    """Takes secrets out of texts: those that it has learned, and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: set[str] = set()
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Values that are secret; each line of one that has several, and the ways in which a file may quote it."""
        for secret in secrets:
            for part in {secret, *secret.splitlines()}:
                if len(part.strip()) >= SHORTEST_SECRET:
                    self._secrets |= _quoted(part.strip())

    def learn_environment(self, environment: Mapping[str, str]) -> None:
        """The values of a process' environment that look secret, but for paths of files that are there."""
        for name, value in environment.items():
            self.learn(login for found in _URL_LOGIN.findall(value) for login in [found, *found.split(":", 1)[1:]])
            looks_secret = masked_variable(name, value) == HIDDEN or any(
                fnmatch.fnmatchcase(name.upper(), pattern) for pattern in _table().hidden
            )
            if looks_secret and not os.path.exists(value):  # noqa: PTH110 - a value may be anything
                self.learn([value])

    def learn_deployment(self, document: Any) -> None:
        """What a deployment's `environment:` sets, but for the variables that may be shown."""
        environment = document.get("environment") if isinstance(document, dict) else None
        self._learn_variables(environment)

    def _learn_variables(self, environment: Any) -> None:
        for name, value in environment.items() if isinstance(environment, dict) else ():
            if not is_shown(str(name)):
                self._learn_unknown(_texts_in(value))

    def _learn_unknown(self, values: Iterable[str]) -> None:
        """Values of variables that may be harmless: a word that stands everywhere is left."""
        self.learn(value for value in values if value.strip("'\"").lower() not in _NO_SECRETS)

    def learn_values(self, values: Iterable[str]) -> None:
        """What --set says of the environment, PATH=VALUE each: as it was typed, and as it is read."""
        for text in values:
            typed = text.partition("=")[2].strip()
            try:
                keys, value = set_value(text)
            except NpuServingError:
                self.learn([typed, typed.strip("'\"")])
                continue
            if keys[0].strip() != "environment" or (len(keys) > 1 and is_shown(keys[1])):
                continue
            self._learn_unknown([typed, typed.strip("'\"")])
            self._learn_variables({keys[1]: value} if len(keys) > 1 else value)

    def learn_variables_of(self, text: str) -> None:
        """What a file of `NAME=VALUE` or `export NAME=VALUE` sets, but for the variables that may be shown.

        Such a file outlives the deployment that it was written by.
        """
        for line in text.splitlines():
            found = _ASSIGNMENT.fullmatch(line.strip())
            if found is None or is_shown(found[1]):
                continue
            with contextlib.suppress(ValueError):
                self._learn_unknown(["".join(shlex.split(found[2]))])
            self._learn_unknown([found[2], found[2].strip("'\"")])

    def learn_arguments(self, words: Iterable[str]) -> None:
        """The secrets among the words of a command."""
        given = list(words)
        for word, shown in zip(given, masked_words(given)):
            if word != shown:
                self.learn([word.partition("=")[2] or word])
                self.learn(login for found in _URL_LOGIN.findall(word) for login in [found, *found.split(":", 1)[1:]])

    def text(self, text: str) -> str:
        """The text without secrets."""
        text = _PRIVATE_KEY.sub(f"({HIDDEN}: a private key)", _COLOUR.sub("", text))
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        for pattern in _patterns():
            text = pattern.sub(_without_group, text)
        return masked(text)

    def deployment(self, text: str) -> str:
        """The text of a deployment file without its secrets: of the values in `environment:`, all that they span.

        A value of YAML may go over several lines and have escapes. Raises UnreadableError.
        """
        places = find_places(text, YAML)
        lines = [0, *(found.end() for found in re.finditer("\n", text))]

        def position(place: tuple[int, int]) -> int:
            return lines[min(place[0], len(lines)) - 1] + place[1] - 1

        keys = sorted(position(place) for place in places.keys.values())
        for path, place in sorted(places.values.items(), key=lambda item: item[1], reverse=True):
            if len(path) == 2 and path[0] == "environment" and not is_shown(str(path[1])):
                begin = position(place)
                # a new line before what follows, but where that is in the same line: {A: ..., B: ...}
                end = next((key for key in keys if key > begin), len(text))
                line = text.rfind("\n", begin, end) + 1
                indentation = text[line:end]
                between = f"\n{indentation}" if line and not indentation.strip() else ", "
                text = text[:begin] + HIDDEN + between + text[end:]
        return self.text(text)

    def document(self, value: Any) -> Any:
        """A JSON value without them: each text, and the value of a key that is called like a secret."""
        if isinstance(value, dict):
            is_secret = "value" in value and _is_secret_name(value.get("name"))  # a variable as a container has it
            return {
                self.text(str(key)): _hidden(item)
                if _is_secret_name(key) or (is_secret and key == "value")
                else self.document(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            shown = iter(masked_words([item for item in value if isinstance(item, str)]))
            return [self.text(next(shown)) if isinstance(item, str) else self.document(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def shown_environment(self, environment: Mapping[str, str]) -> dict[str, object]:
        """The variables that may be shown, and the names of the others."""
        shown = {
            name: self.text(masked_variable(name, value))
            for name, value in sorted(environment.items())
            if is_shown(name)
        }
        return {"shown": shown, "names_only": sorted(name for name in environment if name not in shown)}


def _without_group(found: re.Match[str]) -> str:
    begin, end = found.start("secret") - found.start(), found.end("secret") - found.start()
    whole = found[0]
    return f"{whole[:begin]}{HIDDEN}{whole[end:]}" if end > begin else whole


def _is_secret_name(name: object) -> bool:
    return isinstance(name, str) and masked_variable(name, "x") == HIDDEN


def _hidden(value: Any) -> Any:
    """What is shown of a secret: whether there is one, and of a list or mapping its form."""
    if isinstance(value, dict):
        return {str(key): _hidden(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(item) for item in value]
    return value if value is None or isinstance(value, bool) else HIDDEN


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts_in(item)]
    return [str(value)]


def _quoted(value: str) -> set[str]:
    """The value as JSON, YAML, a shell, a URL and a systemd unit write it."""
    ways = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], shell_word(value)}
    ways |= {
        value.replace("'", "''"),
        value.replace("%", "%%"),
        value.replace("$", "$$"),
        urllib.parse.quote(value, safe=""),
    }
    ways |= {json.dumps(way)[1:-1] for way in list(ways)} | {
        way.replace("%", "%%").replace("$", "$$") for way in list(ways)
    }
    return {way for way in ways if way}
