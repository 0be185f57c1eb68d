"""What the guide forbids of session options and TF Adapter does not check: slow, wrong or without effect in service."""

from __future__ import annotations

import re
from collections.abc import Iterator

from npu_serving.findings import PROBLEM, WARNING, Finding
from npu_serving.options import catalogue
from npu_serving.options.asked_options import (
    DEPRECATED,
    GEARS,
    GUIDE_FORBIDS,
    WITHOUT_EFFECT,
    AskedOptions,
    AskedValue,
    forbidden,
    known_options,
)
from npu_serving.options.catalogue import SessionOption, session_options
from npu_serving.options.profiling_rules import PROFILING_RULES

SHARED_MEMORY = (1, 2, 4)
"""The values of static_memory_policy with which the graphs of a session share memory."""

_SIZE = r"(?:-1|[0-9]{1,18}(?:~(?:-1|[0-9]{1,18}))?)"
_SHAPE = rf"\[(?:{_SIZE}(?:,{_SIZE})*)?\]"
_RANGES = re.compile(rf"(?:data|getnext):{_SHAPE}(?:,{_SHAPE})*(?:;(?:data|getnext):{_SHAPE}(?:,{_SHAPE})*)?", re.ASCII)
_KEEPING = ("must_keep_origin_dtype", "origin")  # under the one name or the other
_OFF = (False, 0, "", None)


def _on_values(asked: AskedOptions) -> Iterator[Finding]:
    for option, value in known_options(asked):
        listed = option.values and not option.form and not any(key.endswith(":N") for key in option.values)
        shown = str(value).lower() if isinstance(value, bool) else str(value)
        if listed and value is not None and shown not in option.values:
            yield forbidden(
                option, f"{option.name} is {shown!r}", f"write one of {', '.join(option.values)}, or leave it out"
            )
    if asked.options.get("graph_run_mode", 1) == 1:
        option = session_options()["graph_run_mode"]
        missing = "" if asked.has("graph_run_mode") else "is left out, and so "
        severity = PROBLEM if asked.has("graph_run_mode") else WARNING
        yield forbidden(option, f"graph_run_mode {missing}is 1, for training", "write graph_run_mode 0", severity)


def _on_training(asked: AskedOptions) -> Iterator[Finding]:
    for option, value in known_options(asked):
        if option.scenes == ("training",) and value != option.default:
            yield forbidden(option, f"{option.name} is for training", "leave it out", PROBLEM)


def _on_gears(asked: AskedOptions) -> Iterator[Finding]:
    if not all(asked.has(name) for name in GEARS):
        return
    shapes, gears = asked.text("input_shape"), asked.text("dynamic_dims")
    entries = [entry for entry in shapes.split(";") if entry]
    sizes = [size for entry in entries for size in entry.rpartition(":")[2].split(",")]
    names = [entry.rpartition(":")[0] for entry in entries]
    option = session_options()["input_shape"]
    below = [size for size in sizes if size.startswith("-") and size != "-1"]
    lengths = {len(gear.split(",")) for gear in gears.split(";") if gear}
    cure = "give each gear one value for each -1"
    if below:
        yield forbidden(option, f"input_shape has the size {below[0]}", "write -1 for a size that changes", PROBLEM)
    elif lengths and lengths != {sizes.count("-1")}:
        yield forbidden(
            option, f"input_shape has -1 {sizes.count('-1')} times, and the gears have other lengths", cure, PROBLEM
        )
    if len([gear for gear in gears.split(";") if gear]) == 1:
        yield forbidden(
            session_options()["dynamic_dims"], "dynamic_dims has one gear", "write two gears or more", PROBLEM
        )
    if names != sorted(names, key=lambda name: name.encode("utf-8", "surrogatepass")):
        order = "order the entries by the bytes of their names: the adapter gives the first to the first input"
        yield forbidden(option, "input_shape is not in the order of its names", order, PROBLEM)
    if any(":" in name for name in names):
        yield forbidden(option, "input_shape has a name with ':'", "leave :0 out of the name", PROBLEM)


def _on_pairs(asked: AskedOptions) -> Iterator[Finding]:
    """Options that need others, or exclude them, where both are on; two that exclude each other are said once."""
    said: set[frozenset[str]] = set()
    for option, value in known_options(asked):
        if not _is_on(option, value):
            continue
        for other, why in option.needs.items():
            if other in session_options() and not asked.has(other) and not _is_met(option.name, other, asked):
                yield forbidden(
                    option, f"{option.name} is there without {other} ({why})", f"add {other}, or leave it out"
                )
        for other, why in option.conflicts.items():
            both = frozenset((option.name, other))
            if other not in asked.options or both in said or not _is_on(session_options()[other], asked.options[other]):
                continue
            if _do_conflict(option.name, other, asked):
                said.add(both)
                yield forbidden(option, f"{option.name} is there beside {other} ({why})", "leave one of the two out")


def _on_variables(asked: AskedOptions) -> Iterator[Finding]:
    """Options that a variable sets as well, to something else."""
    for option, value in known_options(asked):
        for variable in (*option.conflicts, *option.beats):
            theirs = asked.environment.get(variable, "")
            if theirs and theirs != (str(value).lower() if isinstance(value, bool) else str(value)):
                what = f"{option.name} and the variable {variable} are both set, and differ"
                yield forbidden(option, what, f"unset {variable}", PROBLEM)


def _on_values_of_variables(asked: AskedOptions) -> Iterator[Finding]:
    """Variables with a value that the guide does not give them; most are then silently taken as not set."""
    known = catalogue.environment_variables() if asked.environment else {}
    for name, value in asked.environment.items():
        variable = known.get(name)
        if variable is None or not value:
            continue
        low, high = variable.lowest, variable.highest
        if low is not None or high is not None:
            is_within = re.fullmatch("[0-9]{1,18}", value) is not None and (low or 0) <= int(value) <= (
                high if high is not None else int(value)
            )
            wanted = f"a number from {low or 0}" + (f" to {high}" if high is not None else " on")
        elif variable.pattern:
            is_within = re.fullmatch(variable.pattern, value, re.ASCII) is not None
            wanted = variable.form
        else:
            is_within = not variable.values or bool(variable.form) or value in variable.values
            wanted = f"one of {', '.join(variable.values)}"
        if not is_within:
            section = f" (section {variable.section})" if variable.section else ""
            yield Finding(
                f"{name} is {value!r}, which is not among the values that it has{section}",
                f"write {wanted}, or leave it out",
                WARNING,
                GUIDE_FORBIDS,
                name,
            )


def _on_types_for_a_mode(asked: AskedOptions) -> Iterator[Finding]:
    option = session_options()["optypelist_for_implmode"]
    others = [name for name in asked.text(option.name).split(",") if name.strip() not in ("", *option.values)]
    if others:
        what = f"optypelist_for_implmode has {others[0].strip()!r}"
        cure = f"write some of {', '.join(option.values)}; op_precision_mode takes other operators"
        yield forbidden(option, what, cure)


def _on_ranges_of_shapes(asked: AskedOptions) -> Iterator[Finding]:
    """What stands between the brackets, which the adapter hands on; blanks do not count."""
    option = session_options()["dynamic_inputs_shape_range"]
    text = re.sub(r"\s", "", asked.text(option.name))
    reversed_ones = [
        size
        for size in re.findall("[0-9]{1,18}~[0-9]{1,18}", text)
        if int(size.split("~")[0]) > int(size.split("~")[1])
    ]
    if text and _RANGES.fullmatch(text) is None:
        cure = "write a shape for each input, such as data:[1~32,224,224,3],[-1],[]"
        yield forbidden(option, f"dynamic_inputs_shape_range is {asked.text(option.name)!r}", cure)
    elif reversed_ones:
        cure = "write the lower size before the ~"
        yield forbidden(option, f"dynamic_inputs_shape_range has the range {reversed_ones[0]}", cure)


def _on_needs_of_variables(asked: AskedOptions) -> Iterator[Finding]:
    """Variables that are read beside another one only."""
    known = catalogue.environment_variables() if asked.environment else {}
    for name, value in asked.environment.items():
        for other, why in known[name].needs.items() if value and name in known else ():
            if other in known and not asked.environment.get(other):
                what = f"{name} is set without {other} ({why})"
                yield Finding(what, f"add {other}, or leave it out", WARNING, WITHOUT_EFFECT, name)


def _on_debugging(asked: AskedOptions) -> Iterator[Finding]:
    if asked.text("debug_dir") and not (asked.text("op_debug_config") or asked.number("op_debug_level")):
        what = "debug_dir is there without op_debug_config and op_debug_level, which write into it"
        yield forbidden(session_options()["debug_dir"], what, "add op_debug_config, or leave it out")


def _on_graphs_at_once(asked: AskedOptions) -> Iterator[Finding]:
    policy = asked.number("static_memory_policy")
    if policy in SHARED_MEMORY and asked.number("graph_max_parallel_model_num", 1) > 1:
        what = f"static_memory_policy {policy} is there beside graph_max_parallel_model_num"
        cure = "leave static_memory_policy out: memory that graphs share is not for graphs that run at the same time"
        yield forbidden(session_options()["static_memory_policy"], what, cure)


def _is_on(option: SessionOption, value: AskedValue) -> bool:
    """Whether it says anything: all that is written does, but for an "off" that would hold without it too."""
    return value not in _OFF or (option.default not in _OFF and option.default is not None)


def _is_met(name: str, needed: str, asked: AskedOptions) -> bool:
    """What the table's sentence says and a list of names can't."""
    if (name, needed) == ("modify_mixlist", "precision_mode"):
        return asked.has("precision_mode_v2")
    if name == "variable_placement":
        return asked.text(name) == "Device"
    if name == "op_compiler_cache_mode":
        return asked.text(name) in ("disable", "enable")  # nothing is kept, or as without the option
    if needed == "dynamic_inputs_shape_range":
        return asked.text("dynamic_graph_execute_mode") != "dynamic_execute"
    return False


def _do_conflict(name: str, other: str, asked: AskedOptions) -> bool:
    if "customize_dtypes" in (name, other):
        return asked.text("precision_mode") in _KEEPING or asked.text("precision_mode_v2") in _KEEPING
    if "op_compiler_cache_mode" in (name, other):
        return asked.text("op_compiler_cache_mode") != "disable"
    return True


def _tuning_by_variable(asked: AskedOptions) -> Iterator[Finding]:
    if asked.environment.get("AOE_MODE") and not asked.has("aoe_mode"):
        what = "AOE_MODE would turn the server's start into tuning"
        yield forbidden(session_options()["aoe_mode"], what, "unset AOE_MODE", PROBLEM)


def _on_effect(asked: AskedOptions) -> Iterator[Finding]:
    for option, _ in known_options(asked):
        if option.deprecated:
            cure = f"write {option.successor} in its place" if option.successor else "leave it out"
            effect = " and has no effect" if option.without_effect else ""
            yield Finding(f"{option.name} is deprecated{effect}", cure, WARNING, DEPRECATED, option.name)
    if asked.options.get("enable_small_channel") == 0 and asked.options.get("graph_run_mode") == 0:
        what = "enable_small_channel 0 has no effect: in inference it is always on"
        yield Finding(what, "leave it out", WARNING, WITHOUT_EFFECT, "enable_small_channel")


GUIDE_RULES = (
    _on_values,
    _on_training,
    _on_gears,
    _on_pairs,
    _on_debugging,
    _on_graphs_at_once,
    _on_variables,
    _on_values_of_variables,
    _on_types_for_a_mode,
    _on_ranges_of_shapes,
    _on_needs_of_variables,
    _on_effect,
    _tuning_by_variable,
    *PROFILING_RULES,
)
