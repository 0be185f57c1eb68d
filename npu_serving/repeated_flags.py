"""The next command, with the flags that it takes to mean the same: a person types it as it stands."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from npu_serving.errors import RequestError
from npu_serving.shown_text import HIDDEN, masked_setting, masked_word
from npu_serving.writers.shell import command_line

NETWORK_TASKS = ("fetch-deps", "lock-deps", "build-image")
"""Whoever is sent to one of these is to fetch something: without the --offline that was given."""

_OF_A_DEPLOYMENT = ("set", "overlay")
"""What a task that may do without --deployment refuses without it."""
_NOT_TO_RECORD = ("deployment", *_OF_A_DEPLOYMENT)
"""What smoke --record refuses: it asks a model by itself."""
_COMMAND = re.compile(r"\./inv (?P<task>[a-z][a-z-]*)(?![\w-])")
_NEXT_STEP = re.compile(
    r"(?P<before>.*?\bNext: |\s*cure\s\s+|If the build fails because of that: |To know it before: )(?P<step>.*)"
)
_STEPS_IN_JSON = ("cure", "next")


@dataclass(frozen=True)
class RepeatedFlags:
    """The flags that were typed, and which tasks take them as well."""

    typed: Mapping[str, Any] = field(default_factory=dict)
    """The value by the flag's name without dashes: a text, a list of texts, or True for a switch."""
    taken: Mapping[str, Collection[str]] = field(default_factory=dict)
    """The flags of each task, by the task's name."""

    def in_step(self, step: str, about: str = "") -> str:
        """The step, each `./inv TASK` of it with the flags that TASK takes.

        Those that the step, or the message before it, names are left out: they are what it wants to be changed. A
        secret is not shown; then the step says that it has to be typed.
        """
        hidden = False

        def with_flags(found: re.Match[str]) -> str:
            nonlocal hidden
            task = found["task"]
            words: list[str] = []
            is_there = re.search(r"--deployment[ =]\S", step) is not None
            is_repeated = bool(self.typed.get("deployment")) and "--deployment" not in f"{about}\n{step}"
            has_deployment = "deployment" not in self.taken.get(task, ()) or is_there or is_repeated
            for flag in self.taken.get(task, ()):
                value = self.typed.get(flag)
                is_named = re.search(rf"--{re.escape(flag)}(?![\w-])", f"{about}\n{step}") is not None
                if value in (None, "", (), [], False) or is_named or (flag == "offline" and task in NETWORK_TASKS):
                    continue
                if flag in _OF_A_DEPLOYMENT and not has_deployment:
                    continue
                if flag in _NOT_TO_RECORD and "--record" in step:
                    continue
                values = [True] if value is True else value if isinstance(value, (list, tuple)) else [value]
                for each in values:
                    shown = masked_setting(str(each)) if flag == "set" else masked_word(str(each))
                    hidden |= shown != str(each)
                    words += [f"--{flag}"] if each is True else _with_value(flag, shown)
            return " ".join(part for part in (found[0], command_line(words)) if part)

        whole = _COMMAND.sub(with_flags, step)
        return f"{whole}   (type the secret in place of {HIDDEN})" if hidden else whole

    def refuse_hidden(self) -> None:
        """RequestError for a flag that was copied from such a step as it stands."""
        for flag, value in self.typed.items():
            for each in value if isinstance(value, (list, tuple)) else [value]:
                if HIDDEN in str(each):
                    raise RequestError(
                        f"--{flag} has {HIDDEN} in it, which stands for a secret that was not shown.",
                        cause="the command was copied from a message",
                        cure=f"type the secret in place of {HIDDEN}",
                    )

    def in_text(self, text: str) -> str:
        """A result for a person: what follows `Next:`, and doctor's cures."""
        if not self.typed:
            return text
        return "\n".join(
            f"{found['before']}{self.in_step(found['step'])}" if (found := _NEXT_STEP.fullmatch(line)) else line
            for line in text.split("\n")
        )

    def in_json(self, value: Any) -> Any:
        """A result for a program: every cure in it."""
        if not self.typed:
            return value
        if isinstance(value, dict):
            return {
                key: self.in_step(item) if key in _STEPS_IN_JSON and isinstance(item, str) else self.in_json(item)
                for key, item in value.items()
            }
        return [self.in_json(item) for item in value] if isinstance(value, (list, tuple)) else value


def _with_value(flag: str, value: str) -> list[str]:
    """The flag and its value as they are typed; one that begins with a dash would be taken for another flag."""
    return [f"--{flag}={value}"] if value.startswith("-") else [f"--{flag}", value]


NOTHING_TYPED = RepeatedFlags()
