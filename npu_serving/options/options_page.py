"""docs/options.md, made of the tables: every option, key, variable and flag, as `./inv explain --all` has them."""

from __future__ import annotations

import itertools
import re

from npu_serving import fsutil
from npu_serving.options import explaining
from npu_serving.options.explained_entry import FLAG, KEY, OPTION, PRESET, VARIABLE, ExplainedEntry, Fact
from npu_serving.settings import PROJECT_ROOT, Settings

PAGE = PROJECT_ROOT / "docs" / "options.md"

_BEGINNING = """\
# Options of the NPU and flags of the server

What `./inv explain NAME` prints of each, on one page. `./inv lint --fix` makes it of the tables in
`npu_serving/options/`; to correct something, correct it there.

Session options stand in the `parameter_map` of NpuOptimizer, in the platform config that `./inv serve
--platform-config-file FILE` gets. TF Adapter reads a value from the field of its kind (`b`, `i` or `s`), whatever field
is set; with few exceptions a value of another kind silently reads as false, 0 or an empty text, and an unknown name is
silently ignored. Options are read when a graph is first run: at the load of a model with variables, else at its first
request. What *ends the process* then ends the whole server, with all of its models."""
_ABOUT = {
    OPTION: "The options of NpuOptimizer, from the guides and from the adapter's own source.",
    KEY: "The keys of the JSON in `profiling_options` and `PROFILING_OPTIONS`; every value is a text.",
    VARIABLE: "What the guide, CANN and the adapter read from the environment.",
    FLAG: f"The flags of tensorflow_model_server {Settings.source}.",
    PRESET: "What `presets: [NAME]` in a [deployment.yaml](deploy.md) sets, where the file says nothing.",
}
_MARKS = re.compile(r"([\\`*<~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def page_is_current() -> bool:
    """Whether the page says what the tables do."""
    return PAGE.is_file() and fsutil.read_text(PAGE) == render_page()


def write_page() -> bool:
    """Writes the page; True if that changed it."""
    return fsutil.write_file(PAGE, render_page())


def render_page() -> str:
    """docs/options.md."""
    parts = [_BEGINNING]
    for family, entries in itertools.groupby(explaining.all_explanations(), lambda each: each.family):
        parts += [f"## {family.capitalize()}s", _ABOUT[family]]
        group = ""
        for entry in entries:
            if entry.group != group:
                group = entry.group
                parts.append(f"### {group}")
            parts += _section(entry, "####" if group else "###")
    return "\n\n".join(parts) + "\n"


def _section(entry: ExplainedEntry, heading: str) -> list[str]:
    facts = "\n".join(line for fact in entry.facts for line in _fact_lines(fact))
    terms = "、".join(term for term in entry.terms if term)
    found = [f"Found by: {terms}"] if terms else []
    example = [f"```\n{entry.example}\n```"] if entry.example else []
    return [f"{heading} {_plain(entry.name)}", _plain(entry.entry.meaning), facts, *found, *example]


def _fact_lines(fact: Fact) -> list[str]:
    heading, said = fact
    if isinstance(said, str):
        return [f"- {heading}: {_plain(said)}"]
    return [f"- {heading}:", *(f"  - {_plain(each)}" for each in said)]


def _plain(text: str) -> str:
    """The text with a backslash before what Markdown would take for a mark."""
    return _MARKS.sub(r"\\\1", text)
