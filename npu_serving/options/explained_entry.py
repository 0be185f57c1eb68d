"""What is known of an option, a profiling key, a variable, a flag or a preset, as `./inv explain` prints it."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Union

from npu_serving.options import catalogue
from npu_serving.options.catalogue import EnvironmentVariable, OptionValue, Preset, ProfilingKey, SessionOption
from npu_serving.options.server_environment import known_variables
from npu_serving.options.server_flags import ServerFlag
from npu_serving.writers.shell import command_line
from npu_serving.writers.text_proto import attr_value, textproto_string

COLUMNS = 120
OPTION, KEY, VARIABLE, FLAG = "session option", "profiling key", "environment variable", "server flag"
PRESET = "preset"

Entry = Union[SessionOption, ProfilingKey, EnvironmentVariable, ServerFlag, Preset]
Fact = tuple[str, Union[str, tuple[str, ...]]]
"""What is known under one heading: a text, or several."""

_REACH = {
    "process": "the whole process (its first session decides)",
    "session": "each session",
    "graph": "each graph",
    "adapter": "the adapter's own work on a graph",
}
_ENDS = {"process": "ends the process", "session": "fails the run, so that the model does not load"}
_SERVE = "./inv serve --model-base-path /models/resnet --platform-config-file /models/config.cfg"
_BY_TASK = {
    "port": "--port 8500",
    "rest_api_port": "--rest-api-port 8501",
    "model_name": "--model-name resnet",
    "model_base_path": "",
    "platform_config_file": "",
}
_FLAG_EXAMPLES = {"bool": "true", "int32": "1", "int64": "1", "float": "0.5", "string": "VALUE"}


@dataclass(frozen=True)
class ExplainedEntry:
    """One entry of a family: what it means, all that is known of it, and an example to paste."""

    family: str
    entry: Entry
    facts: tuple[Fact, ...]
    example: str
    group: str = ""
    terms: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What is written in a file or typed."""
        return self.entry.name

    def to_json(self) -> dict[str, object]:
        """The entry as its table has it, with its family and the example."""
        known = {key: value for key, value in dataclasses.asdict(self.entry).items() if value not in ("", (), {}, None)}
        return {**known, "family": self.family, "name": self.name, "paste": self.example}

    def line(self) -> str:
        """The entry in a list of several."""
        return f"{self.name} ({self.family}): {self.entry.meaning}"

    def text(self) -> str:
        """Everything, in a paragraph."""
        return paragraph(f"{self.name} ({self.family})", self.entry.meaning, self.facts, self.example)


def paragraph(title: str, meaning: str, facts: Iterable[Fact], example: str = "") -> str:
    """What is known of something, as it is printed: a heading, its meaning, the facts under it, an example to paste."""
    lines = [title, *wrapped(meaning, "    ")]
    for heading, said in facts:
        if isinstance(said, str):
            lines += wrapped(f"{heading}: {said}", "    ", "        ")
        else:
            lines.append(f"    {heading}:")
            lines += [line for each in said for line in wrapped(f"- {each}", "        ", "          ")]
    if example:
        lines += ["    example:", *textwrap.indent(example, "        ").split("\n")]
    return "\n".join(lines)


def explained(entry: Entry) -> ExplainedEntry:
    """The entry with all that is known of it."""
    if isinstance(entry, SessionOption):
        return _option(entry)
    if isinstance(entry, ProfilingKey):
        return _key(entry)
    if isinstance(entry, Preset):
        return _preset(entry)
    return _variable(entry) if isinstance(entry, EnvironmentVariable) else _flag(entry)


# ---- what is known of an entry of each family


def _option(option: SessionOption) -> ExplainedEntry:
    group = catalogue.option_groups()[option.group]
    facts: list[Fact | None] = [
        _fact("kind", _kinds(option)),
        *_values(option),
        _fact("default", option_default(option)),
        _fact("on a server", _on_a_server(option)),
        _fact("for an adapter that does not read it", _in_older(option)),
        _fact("for", " and ".join(option.scenes)),
        _fact("counts for", option_reach(option)),
        *_related(option),
        _fact("takes precedence over", _listed(option.beats)),
        _fact("the adapter takes", option.accepted or _unchecked(option)),
        _fact("the adapter refuses", tuple(_rule(rule) for rule in option.enforced)),
        _fact("how the adapter behaves", option.adapter),
        _fact("advice", option.advice),
        _fact("deprecated", _deprecated(option)),
        _fact("described in", _guides(option)),
    ]
    pasted = [
        f"parameter_map {{ key: {textproto_string(name)} value {{ {attr_value(name, value)} }} }}"
        for name, value in option.example.items()
    ]
    return ExplainedEntry(OPTION, option, _known(facts), "\n".join(pasted), group.title, (*option.terms, *group.terms))


def _key(key: ProfilingKey) -> ExplainedEntry:
    facts = [
        *_values(key),
        _fact("default", _shown(key.default)),
        _fact("in online inference", key.online_inference or "the guide does not say whether it is supported"),
        _fact("chips", key.chips),
        _fact("conflicts with", ", ".join(key.conflicts)),
        _fact("advice", key.advice),
        _fact("described in", f"the guide of 6.3, {key.section}"),
    ]
    document = json.dumps({"output": "/home/user/profiling", key.name: key.example})
    pasted = "\n".join(
        f"parameter_map {{ key: {textproto_string(name)} value {{ {attr_value(name, value)} }} }}"
        for name, value in (("profiling_mode", True), ("profiling_options", document))
    )
    return ExplainedEntry(KEY, key, _known(facts), pasted, "", (*key.terms, "Profiling"))


def _variable(variable: EnvironmentVariable) -> ExplainedEntry:
    facts = [
        *_values(variable),
        _fact("default", _shown(variable.default)),
        *_related(variable),
        _fact("advice", variable.advice),
        _fact("deprecated", f"write {variable.successor} in its place" if variable.successor else ""),
        _fact("in ./inv serve", _in_serve(variable.name)),
        _fact("described in", f"the guide of 6.3, {variable.section}" if variable.section else ""),
    ]
    pasted = f"export {variable.name}={command_line([variable.example])}" if variable.example else ""
    return ExplainedEntry(VARIABLE, variable, _known(facts), pasted, "", variable.terms)


def _flag(flag: ServerFlag) -> ExplainedEntry:
    facts = [
        _fact("type", flag.type),
        _fact("default", "computed" if flag.default is None else _shown(flag.default) or "empty"),
        _fact("value", "a path" + (" of a file that exists" if flag.must_exist else "") if flag.path else ""),
        _fact("value", "NAME=VALUE, separated by commas; an entry without = ends the server" if flag.pairs else ""),
        _fact(
            "with a platform config",
            "silently ignored: it has to stand in that file" if flag.ignored_with_platform_config else "",
        ),
        _fact("in ./inv serve", "a flag of its own, or set by it: it can't be passed on" if flag.set_by_plan else ""),
    ]
    if flag.name in _BY_TASK:
        pasted = f"{_SERVE} {_BY_TASK[flag.name]}".rstrip()
    elif flag.set_by_plan:
        pasted = ""
    else:
        value = "/models/FILE" if flag.path else "grpc.max_connection_age_ms=2000" if flag.pairs else ""
        pasted = f"{_SERVE} --flag=--{flag.name}={value or _FLAG_EXAMPLES[flag.type]}"
    return ExplainedEntry(FLAG, flag, _known(facts), pasted)


def _preset(preset: Preset) -> ExplainedEntry:
    facts = [
        _fact("sets", tuple(preset_options(preset, preset.options))),
        _fact("asks for", ", ".join(preset.needs)),
        _fact("conflicts with", _listed(preset.conflicts)),
        _fact("advice", preset.advice),
        _fact("described in", f"the guide of 6.3, {preset.section}" if preset.section else ""),
    ]
    return ExplainedEntry(PRESET, preset, _known(facts), f"presets: [{preset.name}]", "", preset.terms)


def preset_options(preset: Preset, written: Mapping[str, OptionValue | None]) -> Iterator[str]:
    """What becomes of the preset's options where these are written; a value that the preset did not set says so."""
    for name, value in preset.options.items():
        there = written.get(name)
        filled = "[^/]+".join(re.escape(part) for part in catalogue.PLACEHOLDER.split(str(value))[::2])
        its_own = there == value or (isinstance(there, str) and re.fullmatch(filled, there) is not None)
        if there is None and _is_in_older(name, value, written):
            yield f"{name} {_shown(value)}, in the option that this adapter reads"
            continue
        yield f"{name} {_shown(there) or 'left out'}{'' if its_own else ', which the file says itself'}"


def _is_in_older(name: str, value: OptionValue, written: Mapping[str, OptionValue | None]) -> bool:
    option = catalogue.session_option(name)
    return (
        option is not None and option.older in written and written[option.older] == option.counterparts.get(str(value))
    )


def _known(facts: Iterable[Fact | None]) -> tuple[Fact, ...]:
    return tuple(fact for fact in facts if fact is not None)


def _fact(heading: str, said: str | tuple[str, ...]) -> Fact | None:
    return (heading, said) if said else None


def _values(entry: SessionOption | ProfilingKey | EnvironmentVariable) -> list[Fact | None]:
    meanings = tuple(f"{value}: {meaning}" if meaning else value for value, meaning in entry.values.items())
    low, high = getattr(entry, "lowest", None), getattr(entry, "highest", None)
    within = f"{low} to {high}" if high is not None else f"{low} or more" if low is not None else ""
    return [
        _fact("values", meanings),
        _fact("form", entry.form),
        _fact("range", "" if entry.form and within in entry.form else within),
        _fact("unit", entry.unit),
    ]


def _related(entry: SessionOption | EnvironmentVariable) -> list[Fact | None]:
    return [_fact("goes with", _listed(entry.needs)), _fact("conflicts with", _listed(entry.conflicts))]


def _listed(reasons: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(f"{name}: {why}" for name, why in reasons.items())


def _kinds(option: SessionOption) -> str:
    """Which field of the value is read, and since when."""
    releases = [release.name for release in catalogue.adapter_releases()]
    parts = []
    for release, kind in option.kinds.items():
        since = "" if release == releases[0] else f" from {release} on"
        if kind == catalogue.NOT_READ:
            parts.append(f"not read{since}")
            continue
        meant, otherwise = catalogue.KINDS[kind]
        asked = "" if option.kind_checked else f", and any other kind silently reads as {otherwise}"
        parts.append(f"{kind} ({meant}{asked}){since}")
    first = next(iter(option.kinds))
    older = "" if first == releases[0] else "; older adapters silently ignore it"
    return ", ".join(parts) + older


def option_reach(option: SessionOption) -> str:
    """What an option counts for: the process, each session, each graph."""
    said = [(release, " and ".join(_REACH[each] for each in reach)) for release, reach in option.reach.items()]
    return "; ".join(f"{text}{f' from {release} on' if index else ''}" for index, (release, text) in enumerate(said))


def option_default(option: SessionOption) -> str:
    """Its default, or each with the case in which it counts; "" where none is known."""
    if option.defaults:
        return ", ".join(f"{_shown(value)} ({when})" for when, value in option.defaults.items())
    return _shown(option.default)


def _on_a_server(option: SessionOption) -> str:
    if option.always is not None:
        return f"always {_shown(option.always)}"
    if option.written is not None:
        return f"{_shown(option.written)} is written where neither it nor {', '.join(option.conflicts)} is chosen"
    return "leave it out: it is for training" if option.scenes == ("training",) else ""


def _in_older(option: SessionOption) -> str:
    pairs = ", ".join(f"{value} as {name}" for value, name in option.counterparts.items())
    return f"{option.older} is written in its place: {pairs}" if option.older else ""


def _unchecked(option: SessionOption) -> str:
    return "" if option.enforced or "b" in option.kinds.values() else "any value, and passes it on unchecked"


def _rule(rule: catalogue.EnforcedRule) -> str:
    bounds = [f"from {rule.since} on" if rule.since else "", f"up to {rule.until}" if rule.until else ""]
    releases = " ".join(bound for bound in bounds if bound)
    return f"{rule.when}: {_ENDS[rule.ends]}{f', {releases}' if releases else ''} ({rule.says!r})"


def _deprecated(option: SessionOption) -> str:
    if not option.deprecated:
        return ""
    effect = "it has no effect" if option.without_effect else "the guide advises against it"
    return f"{effect}; write {option.successor} in its place" if option.successor else f"{effect}; leave it out"


def _guides(option: SessionOption) -> str:
    described = [f"the guide of {guide}" for guide in option.guides]
    if option.section:
        described[0] += f", {option.section}"
    return "; ".join(described) or "no guide: the adapter's source only"


def _in_serve(name: str) -> str:
    line = next((line for line in known_variables() if line.fits(name)), None)
    if line is None:
        return ""
    if line.passed:
        return f"the server gets it ({line.why})"
    return f"the server does not get it: {line.instead or line.why}"


def _shown(value: OptionValue | float | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def wrapped(text: str, first: str, further: str | None = None) -> list[str]:
    """The lines of a text with these before the first one and the others."""
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=first,
        subsequent_indent=first if further is None else further,
        break_long_words=False,
        break_on_hyphens=False,
    )
