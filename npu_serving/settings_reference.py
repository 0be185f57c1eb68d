"""What `./inv settings` prints: each setting with its value here, or the commented invoke.yaml with all of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npu_serving.debugging import masked
from npu_serving.settings import (
    PROJECT_ROOT,
    SECTION,
    SETTINGS_FILE,
    Setting,
    Settings,
    settings_file,
    stated_in_file,
    table_of,
)

COLUMNS = 120
HEAD = f"""\
# Every setting, at its default. A flag of the same meaning wins over what stands here; what is left out is as here.
# Relative paths are relative to this file. {SETTINGS_FILE} names another file in its place.
# This text is made by: ./inv settings --reference
{SECTION}:
"""


@dataclass(frozen=True)
class SettingInForce:
    """A setting, its value, the file that states it (None where none does), and the tasks that take its flag."""

    setting: Setting
    value: object
    stated_in: Path | None
    tasks: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """All of it, with the value and the default as YAML has them."""
        return {
            "name": self.setting.name,
            "help": self.setting.help,
            "kind": "list" if self.setting.kind is tuple else self.setting.kind.__name__.lower(),
            "choices": list(self.setting.choices),
            "default": _plain(self.setting.default),
            "value": _without_secrets(_plain(self.value)),
            "from": str(self.stated_in) if self.stated_in is not None else "default",
            "flag": f"--{self.setting.flag}" if self.tasks else None,
            "tasks": list(self.tasks),
        }

    def text(self) -> str:
        """A paragraph."""
        default = _yaml(_plain(self.setting.default))
        if self.stated_in is None:
            origin = "the default"
        elif self.value == self.setting.default:
            origin = f"the default, as {self.stated_in.name} says"
        else:
            origin = f"from {self.stated_in}; the default is {default}"
        lines = [f"{self.setting.name}: {_yaml(_without_secrets(_plain(self.value)))}  ({origin})"]
        lines += _wrapped(_sentence(self.setting), "    ")
        if self.tasks:
            lines += _wrapped(f"--{self.setting.flag}: {', '.join(self.tasks)}", "    ")
        return "\n".join(lines)


@dataclass(frozen=True)
class SettingsInForce:
    """All settings, in the order of the table."""

    settings: tuple[SettingInForce, ...]

    def to_json(self) -> dict[str, object]:
        """Under one key."""
        return {"settings": [each.to_json() for each in self.settings]}

    def text(self) -> str:
        """A paragraph for each."""
        return "\n".join(each.text() for each in self.settings)


@dataclass(frozen=True)
class Reference:
    """An invoke.yaml with every setting of a table at its default, and what each is for."""

    table: type[Any] = Settings

    def to_json(self) -> dict[str, object]:
        """The text under one key."""
        return {"reference": self.text()}

    def text(self) -> str:
        """The file, but for its last line end."""
        rows = (_row_text(row) for row in table_of(self.table).values())
        return HEAD + "\n".join(rows)


def settings_in_force(offered: Mapping[str, tuple[str, ...]], table: type[Any] = Settings) -> SettingsInForce:
    """Each setting with its value here; `offered` says which settings each task takes as flags.

    SettingsError for an invoke.yaml that can't be meant as it stands.
    """
    file = settings_file()
    stated = stated_in_file(file, table)
    return SettingsInForce(
        tuple(
            SettingInForce(
                setting=row,
                value=stated.get(row.name, row.default),
                stated_in=file if row.name in stated else None,
                tasks=tuple(sorted(task for task, names in offered.items() if row.name in names)),
            )
            for row in table_of(table).values()
        )
    )


def _row_text(row: Setting) -> str:
    default = row.default
    if isinstance(default, Path) and default.is_relative_to(PROJECT_ROOT):
        default = default.relative_to(PROJECT_ROOT)
    return "\n".join([*_wrapped(_sentence(row), "  # "), f"  {row.name}: {_yaml(_plain(default))}"])


def _sentence(row: Setting) -> str:
    said = row.help if row.help.startswith("_") else row.help[0].upper() + row.help[1:]
    return f"{said}. One of: {', '.join(row.choices)}." if row.choices else f"{said}."


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, COLUMNS, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _plain(value: object) -> object:
    """The value as YAML and JSON have it."""
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def _without_secrets(value: object) -> object:
    if isinstance(value, list):
        return [_without_secrets(item) for item in value]
    return masked(value) if isinstance(value, str) else value


def _yaml(value: object) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()
