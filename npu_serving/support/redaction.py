"""What must not leave the machine in a support bundle: secrets, taken out of every text that goes in.

Three ways, since none of them is enough: values that are known to be secret are replaced wherever they stand, however
they are quoted; what looks like NAME_TOKEN=... or a URL with a login is masked (shown_text.py); private keys go whole.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving.documents import read_document
from npu_serving.shown_text import HIDDEN, masked, masked_variable, masked_words
from npu_serving.writers.shell import shell_word

TABLE = Path(__file__).with_name("shown_environment.yaml")
SHORTEST_SECRET = 4
"""A value that is shorter is not replaced elsewhere: "1" stands in too many places."""
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_URL_LOGIN = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,30}://([^/\s?#]*)@")


@dataclass(frozen=True)
class _ShownEnvironment:
    """shown_environment.yaml, whose head says what the keys mean."""

    shown: tuple[str, ...]
    hidden: tuple[str, ...]


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
        for name, value in environment.items() if isinstance(environment, dict) else ():
            if not is_shown(str(name)):
                self.learn([str(value)])

    def learn_values(self, values: Iterable[str]) -> None:
        """What --set says of the environment, PATH=VALUE each."""
        for value in values:
            key, _, text = value.partition("=")
            if not key.startswith("environment.") or not is_shown(key.partition(".")[2]):
                self.learn([text.strip("'\"")] if key.startswith("environment.") else [])

    def learn_arguments(self, words: Iterable[str]) -> None:
        """The secrets among the words of a command."""
        given = list(words)
        for word, shown in zip(given, masked_words(given)):
            if word != shown:
                self.learn([word.partition("=")[2] or word])
                self.learn(login for found in _URL_LOGIN.findall(word) for login in [found, *found.split(":", 1)[1:]])

    def text(self, text: str) -> str:
        """The text without secrets."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return masked(_PRIVATE_KEY.sub(f"({HIDDEN}: a private key)", text))

    def document(self, value: Any) -> Any:
        """A JSON value without them: each text, and the value of a key that is called like a secret."""
        if isinstance(value, dict):
            return {
                self.text(str(key)): HIDDEN
                if isinstance(item, str) and masked_variable(str(key), item) == HIDDEN
                else self.document(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            if value and all(isinstance(item, str) for item in value):
                return [self.text(word) for word in masked_words(value)]
            return [self.document(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _item(self, key: str, item: Any) -> Any:
        is_secret = isinstance(item, str) and masked_variable(key, item) == HIDDEN
        return HIDDEN if is_secret else self.document(item)

    def shown_environment(self, environment: Mapping[str, str]) -> dict[str, object]:
        """The variables that may be shown, and the names of the others."""
        shown = {
            name: self.text(masked_variable(name, value))
            for name, value in sorted(environment.items())
            if is_shown(name)
        }
        return {"shown": shown, "names_only": sorted(name for name in environment if name not in shown)}


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
