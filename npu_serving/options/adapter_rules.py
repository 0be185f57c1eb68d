"""What TF Adapter refuses of session options or silently passes over, by its source and by what it did when run.

What shows in one value alone is not written here: it stands with the option, in session_options.yaml.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator

from npu_serving.findings import WARNING, Finding
from npu_serving.options.adapter_release import kind_in
from npu_serving.options.asked_options import (
    ENDS_THE_PROCESS,
    FAILS_THE_RUN,
    GEARS,
    NOT_READ_HERE,
    RUNS_ON_THE_CPU,
    UNKNOWN,
    WRONG_KIND,
    AskedOptions,
    AskedValue,
    known_options,
    refused,
)
from npu_serving.options.catalogue import KINDS, NOT_READ, EnforcedRule, SessionOption, session_options
from npu_serving.writers.shell import shell_word

_MIXED = ("allow_mix_precision", "allow_mix_precision_fp16", "allow_mix_precision_bf16")
_MIXED_V2 = ("mixed_float16", "mixed_bfloat16", "mixed_hif8")
_MOST_DUMPED = 100
_RANGES = r"(data|getnext):[^;]*(;(data|getnext):[^;]*)?"
_LIKE = 0.85
_WRITE = {"b": "b: true or b: false", "i": "i: NUMBER", "s": 's: "TEXT"'}
_ENDS = {"process": ENDS_THE_PROCESS, "session": FAILS_THE_RUN}


# ---- what shows in one option alone


def _names(asked: AskedOptions) -> Iterator[Finding]:
    for name in asked.options:
        option = session_options().get(name)
        if option is None:
            near = difflib.get_close_matches(name, session_options(), n=1, cutoff=_LIKE)
            cure = f"write {near[0]}" if near else "leave it out, or look it up: ./inv explain --all"
            yield Finding(f"NpuOptimizer has no option {name!r}: it is silently ignored", cure, WARNING, UNKNOWN, name)
        elif not asked.is_read(option):
            yield Finding(
                f"{name} is not read by the adapter of {asked.release}: it is silently ignored",
                _cure_for_unread(option),
                WARNING,
                NOT_READ_HERE,
                name,
            )


def _cure_for_unread(option: SessionOption) -> str:
    if option.name == "precision_mode_v2":
        return "write precision_mode in its place, such as force_fp16"
    return f"leave it out, or install a CANN that reads it: ./inv explain {option.name}"


def _kinds(asked: AskedOptions) -> Iterator[Finding]:
    for option, value in known_options(asked):
        wanted = kind_in(option, asked.release)
        if wanted == NOT_READ or _kind_of(value) == wanted:
            continue
        meaning, read_as = KINDS[wanted]
        cure = f"write value {{ {_WRITE[wanted]} }}"
        if option.name == "use_off_line":
            yield refused(
                RUNS_ON_THE_CPU,
                option.name,
                f"{option.name} is not written as b (true or false), and so reads as false",
                cure,
            )
        elif not any(rule.of_another_kind and asked.is_in(since=rule.since) for rule in option.enforced):
            yield Finding(
                f"{option.name} is not written as {wanted} ({meaning}): it silently reads as {read_as}",
                cure,
                WARNING,
                WRONG_KIND,
                option.name,
            )


def _kind_of(value: AskedValue) -> str:
    return "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "s" if isinstance(value, str) else ""


def _values(asked: AskedOptions) -> Iterator[Finding]:
    """What the adapter refuses of one value, by the rules that stand with the option."""
    for option, value in known_options(asked):
        if not asked.is_read(option):
            continue
        for rule in option.enforced:
            is_now = not rule.only_while or asked.is_on(rule.only_while)
            if is_now and asked.is_in(since=rule.since, until=rule.until) and _breaks(rule, option, value, asked):
                # as the data say it, and what the letter of the kind means
                kind = f" ({KINDS[kind_in(option, asked.release)][0]})" if rule.of_another_kind else ""
                what = f"{option.name}: {rule.when}{kind}"
                yield refused(_ENDS[rule.ends], option.name, what, _cure_for(option, asked))
                break


def _breaks(rule: EnforcedRule, option: SessionOption, value: AskedValue, asked: AskedOptions) -> bool:
    kind = [kind for kind in option.kinds.values() if kind != NOT_READ][-1]
    if rule.of_another_kind:
        return _kind_of(value) != kind
    if option.kind_checked and _kind_of(value) != kind:
        return False  # refused already, or ignored
    number, text = asked.number(option.name), asked.text(option.name)
    if rule.listed:
        return (str(number) if kind == "i" else text) not in _allowed(option, asked)
    if rule.lowest is not None and number < rule.lowest:
        return True
    if rule.highest is not None and number > rule.highest:
        return True
    return bool(rule.pattern) and re.fullmatch(rule.pattern, text, re.ASCII) is None


def _allowed(option: SessionOption, asked: AskedOptions) -> list[str]:
    """The values that the release takes."""
    since, until = option.values_since, option.values_until
    return [value for value in option.values if asked.is_in(since=since.get(value, ""), until=until.get(value, ""))]


def _cure_for(option: SessionOption, asked: AskedOptions) -> str:
    if option.values and not option.form:
        return f"write one of {', '.join(_allowed(option, asked))}, or leave it out"
    return f"write it as ./inv explain {option.name} says, or leave it out"


# ---- what the adapter refuses of several options


def _gears(asked: AskedOptions) -> Iterator[Finding]:
    missing = [name for name in GEARS if not asked.has(name)]
    if not asked.has_gears:
        return
    there = next(name for name in GEARS if asked.has(name))
    if missing:
        yield refused(
            ENDS_THE_PROCESS,
            there,
            f"{there} is there without {' and '.join(missing)}, and gears take all three",
            f"add {' and '.join(missing)}, or leave {there} out",
        )
    for name in ("input_shape", "dynamic_dims"):
        if asked.has(name) and not asked.text(name):
            yield refused(ENDS_THE_PROCESS, name, f"{name} is empty", f"write it as ./inv explain {name} says")
    if asked.is_on("mix_compile_mode"):
        yield refused(
            ENDS_THE_PROCESS,
            "mix_compile_mode",
            f"mix_compile_mode is true beside {there}, and gears do not work in mixed computing",
            "leave out mix_compile_mode, or the three options of gears",
        )


def _shapes(asked: AskedOptions) -> Iterator[Finding]:
    """Shapes that are dynamic throughout, which 9.0.0 knows."""
    if not asked.is_in(since="9.0.0"):
        return
    if asked.is_on("compile_dynamic_mode"):
        other = next((name for name in (*GEARS, "dynamic_input") if asked.has(name)), "")
        if all(asked.has(name) for name in GEARS) or asked.is_on("dynamic_input"):
            yield refused(
                FAILS_THE_RUN,
                "compile_dynamic_mode",
                f"compile_dynamic_mode is true beside {other}",
                "leave one of the two out",
            )
    if not asked.has("compile_hybrid_mode"):
        return
    mode = asked.number("compile_hybrid_mode")
    complete = all(asked.has(name) for name in GEARS)
    cure = "leave it out, or add the three options of gears, with dynamic_node_type 1"
    if mode == 1 and not (complete and asked.number("dynamic_node_type") == 1):
        yield refused(
            FAILS_THE_RUN, "compile_hybrid_mode", "compile_hybrid_mode is 1 without gears for placeholders", cure
        )
    elif mode not in (0, 1) and complete:
        yield refused(FAILS_THE_RUN, "compile_hybrid_mode", "compile_hybrid_mode is neither 0 nor 1", "write 0 or 1")


def _dynamic_input(asked: AskedOptions) -> Iterator[Finding]:
    if not asked.is_on("dynamic_input"):
        return
    mode = asked.text("dynamic_graph_execute_mode", "dynamic_execute")
    ranges = "dynamic_inputs_shape_range"
    is_read = mode == "dynamic_execute" and bool(asked.text(ranges))
    if is_read and re.fullmatch(_RANGES, asked.text(ranges), re.DOTALL) is None:
        yield refused(
            ENDS_THE_PROCESS,
            ranges,
            f"{ranges} has a group without data: or getnext:, or more than two groups",
            "write commas, not semicolons, between the shapes of one group",
        )
    if mode == "lazy_recompile" and asked.number("iterations_per_loop", 1) > 1:
        yield refused(
            FAILS_THE_RUN,
            "iterations_per_loop",
            "iterations_per_loop is more than 1 with lazy_recompile",
            "leave iterations_per_loop out",
        )


def _precision(asked: AskedOptions) -> Iterator[Finding]:
    if (
        asked.has("precision_mode")
        and asked.has("precision_mode_v2")
        and asked.is_read(session_options()["precision_mode_v2"])
    ):
        yield refused(
            FAILS_THE_RUN,
            "precision_mode",
            "precision_mode and precision_mode_v2 are both there, and set the same thing",
            "leave out precision_mode, the older of the two",
        )
    if not asked.has("modify_mixlist"):
        return
    old, new = asked.text("precision_mode"), asked.text("precision_mode_v2")
    newer = asked.is_in(since="6.3.RC2")
    fits_new = old in _MIXED or (new in _MIXED_V2 and (new != "mixed_hif8" or asked.is_in(since="9.0.0")))
    if not (fits_new if newer else old == "allow_mix_precision"):
        cure = "write precision_mode allow_mix_precision, which every release takes, and leave out precision_mode_v2"
        only = "" if newer else " (up to 6.3.RC2.alpha003 it takes precision_mode allow_mix_precision and no other)"
        yield refused(FAILS_THE_RUN, "modify_mixlist", f"modify_mixlist is there without a mixed precision{only}", cure)


def _mixed_computing(asked: AskedOptions) -> Iterator[Finding]:
    if not asked.has("in_out_pair") or not asked.text("in_out_pair"):
        return
    if not asked.is_on("mix_compile_mode"):
        yield refused(
            FAILS_THE_RUN,
            "in_out_pair",
            "in_out_pair is there, and mix_compile_mode is not true",
            "set mix_compile_mode to true",
        )
    elif not _has_pair(asked.text("in_out_pair")):
        yield refused(
            FAILS_THE_RUN,
            "in_out_pair",
            "in_out_pair has no pair that can be used",
            "write three levels of brackets, such as [[['first'],['last']]]",
        )


def _has_pair(text: str) -> bool:
    """Whether a pair has a list of first and one of last operators, within three brackets, as the adapter reads it."""
    plain = re.sub(r"[ \t']", "", text)
    return plain.startswith("[[[") and re.search(r"\[\[[^\[\]]*\],\[[^\[\]]*\]", plain) is not None


def _dumps(asked: AskedOptions) -> Iterator[Finding]:
    switch = next((name for name in ("enable_dump", "enable_dump_debug") if asked.is_on(name)), "")
    if not switch:
        return
    path = asked.text("dump_path")
    if not path:
        yield refused(
            FAILS_THE_RUN, switch, f"{switch} is true without dump_path", "add dump_path, a directory that exists"
        )
    else:
        yield from _directory(asked, "dump_path", path, FAILS_THE_RUN)
    if asked.is_on("enable_dump") and asked.has("dump_step"):
        yield from _steps(asked)


def _directory(asked: AskedOptions, name: str, path: str, kind: str) -> Iterator[Finding]:
    """A directory that the adapter looks at; it takes a link to one for something else, as it asks by lstat."""
    if asked.directory is None:
        return
    place = os.path.join(asked.directory, path)  # noqa: PTH118 - os.path answers for a path that is not valid too
    if os.path.islink(place):  # noqa: PTH114
        real = os.path.realpath(place)
        yield refused(kind, name, f"{name} {path} is a link", f"write the path that it leads to, {real}")
    else:
        what, cure = directory_trouble(place, path)
        if what:
            yield refused(kind, name, f"{name} {path} {what}", cure)


def directory_trouble(place: str, shown: str) -> tuple[str, str]:
    """What keeps this user from reading and writing a directory, and the cure; "" where nothing does."""
    if os.path.isdir(place):  # noqa: PTH112
        is_open = os.access(place, os.R_OK | os.W_OK)
        return ("", "") if is_open else ("can't be read and written by this user", f"chmod u+rwx {shell_word(shown)}")
    if os.path.exists(place):  # noqa: PTH110
        return (
            "is not a directory",
            f"name another one, or move it away: mv {shell_word(shown)} {shell_word(shown)}.kept",
        )
    return "does not exist", f"make the directory: mkdir -p {shell_word(shown)}"


def _steps(asked: AskedOptions) -> Iterator[Finding]:
    text = asked.text("dump_step")
    strict = asked.is_in(until="6.3.RC2")
    kind = ENDS_THE_PROCESS if strict else FAILS_THE_RUN
    cure = "write steps and rising ranges with | between them, at most 100, such as 0|3-5|10"
    items = text.split("|") if strict else [item for item in text.split("|") if item]
    if len(items) > _MOST_DUMPED:
        yield refused(kind, "dump_step", f"dump_step has {len(items)} items, and {_MOST_DUMPED} are the most", cure)
    for item in items:
        ends = item.split("-") if strict else [part for part in item.split("-") if part]
        if len(ends) > 2 or not all(re.fullmatch(r"[0-9]{1,19}", part) for part in ends):
            yield refused(kind, "dump_step", f"dump_step has {item!r}, which is not a step or a range", cure)
        elif len(ends) == 2 and int(ends[0]) >= int(ends[1]):
            yield refused(kind, "dump_step", f"dump_step has the range {item}, which does not rise", cure)
        else:
            continue
        return


def _tuning(asked: AskedOptions) -> Iterator[Finding]:
    option = session_options()["aoe_mode"]
    is_set = asked.has("aoe_mode")
    mode = asked.text("aoe_mode") if is_set else asked.environment.get("AOE_MODE", "")
    if not mode:
        return
    name = "aoe_mode" if is_set else "AOE_MODE"
    if mode not in _allowed(option, asked):
        yield refused(FAILS_THE_RUN, name, f"{name} is {mode!r}", "leave it out: a server must not tune")
    elif asked.text("work_path"):
        yield from _directory(asked, "work_path", asked.text("work_path"), ENDS_THE_PROCESS)


def _compressed_weights(asked: AskedOptions) -> Iterator[Finding]:
    if asked.has("enable_compress_weight") and asked.has("compress_weight_conf"):
        yield refused(
            ENDS_THE_PROCESS,
            "enable_compress_weight",
            "enable_compress_weight and compress_weight_conf are both there, and that they are counts, not the value",
            "leave one of the two out",
        )


def _implementations(asked: AskedOptions) -> Iterator[Finding]:
    if asked.has("optypelist_for_implmode") and not asked.has("op_select_implmode"):
        yield refused(
            ENDS_THE_PROCESS,
            "optypelist_for_implmode",
            "optypelist_for_implmode is there without op_select_implmode",
            "leave it out, and use op_precision_mode",
        )


def _left_to_the_cpu(asked: AskedOptions) -> Iterator[Finding]:
    if asked.options.get("use_off_line") is False:
        yield refused(RUNS_ON_THE_CPU, "use_off_line", "use_off_line is false", "write true")
    if asked.text("job") in ("ps", "default"):
        yield refused(RUNS_ON_THE_CPU, "job", f"job is {asked.text('job')}", "leave job out")
    operators = asked.environment.get("ASCEND_OPP_PATH", "")
    if operators and asked.directory is not None and not os.path.isdir(operators):  # noqa: PTH112
        yield refused(
            RUNS_ON_THE_CPU, "ASCEND_OPP_PATH", f"ASCEND_OPP_PATH is {operators}, which is not a directory", "unset it"
        )


def _devices(asked: AskedOptions) -> Iterator[Finding]:
    name = "ASCEND_DEVICE_ID" if asked.environment.get("ASCEND_DEVICE_ID") else "DEVICE_ID"
    value = asked.environment.get(name, "")
    if value and re.fullmatch(r"\+?[0-9]{1,9}", value) is None:
        yield refused(ENDS_THE_PROCESS, name, f"{name} is {value!r}", f"export {name}=0, or unset it")


ADAPTER_RULES = (
    _names,
    _kinds,
    _values,
    _gears,
    _shapes,
    _dynamic_input,
    _precision,
    _mixed_computing,
    _dumps,
    _tuning,
    _compressed_weights,
    _implementations,
    _left_to_the_cpu,
    _devices,
)
