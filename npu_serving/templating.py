"""Files written from templates/: every value goes through the filter that quotes it for the file's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from npu_serving.settings import PROJECT_ROOT

TEMPLATES = PROJECT_ROOT / "templates"


def render(template: str, filters: Mapping[str, Callable[[str], str]], **values: object) -> str:
    """The template with these values; one that it names and that isn't given is an error, not an empty text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=False,  # noqa: S701 - no HTML: the filters quote
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters)
    return environment.get_template(template).render(**values)
