"""Files written from templates: every value goes through the filter that quotes it for the file's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from npu_serving.settings import PROJECT_ROOT
from npu_serving.writers.cmake import cmake_string
from npu_serving.writers.groovy import groovy_string
from npu_serving.writers.shell import shell_word
from npu_serving.writers.starlark import starlark_string
from npu_serving.writers.systemd import systemd_argument, systemd_line, systemd_word
from npu_serving.writers.text_proto import textproto_string
from npu_serving.writers.yaml import yaml_string

FILTERS: Mapping[str, Callable[[str], str]] = {
    "cmake": cmake_string,
    "groovy": groovy_string,
    "shell": shell_word,
    "starlark": starlark_string,
    "systemd_argument": systemd_argument,
    "systemd_line": systemd_line,
    "systemd_word": systemd_word,
    "textproto": textproto_string,
    "yaml": yaml_string,
}


def render(template: str, further: Mapping[str, Callable[[str], str]] | None = None, /, **values: object) -> str:
    """The template, by its path within the project, with these values.

    A value that it names and that isn't given is an error, not an empty text. `further` are filters of its own.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PROJECT_ROOT),
        autoescape=False,  # noqa: S701 - no HTML: the filters quote
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(FILTERS, **(further or {}))
    return environment.get_template(template).render(**values)
