"""The session options of a script: those of its features and those that were asked for, judged by the rules."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from npu_serving.cann.install import cann_of
from npu_serving.deploy.older_precision import NEWER, in_older, is_older
from npu_serving.deploy.range_checks import check_ranges
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.findings import Finding
from npu_serving.models.saved_model import MetaGraph
from npu_serving.options.adapter_release import LOOKED_INTO, kind_in
from npu_serving.options.asked_options import EFFECT, ENDS_THE_PROCESS, FAILS_THE_RUN, RUNS_ON_THE_CPU
from npu_serving.options.catalogue import NOT_READ, OptionValue, session_options
from npu_serving.options.rules import check_options
from npu_serving.options.session_options import complete_options
from npu_serving.sample.sample_settings import with_sample
from npu_serving.scripts.features import ScriptFeature
from npu_serving.settings import Settings

RANGES = "dynamic_inputs_shape_range"
_RANGE_OPTIONS = ("dynamic_input", "dynamic_graph_execute_mode", RANGES)
_OLDER = "precision_mode"
_KEEPING = {_OLDER: "must_keep_origin_dtype", NEWER: "origin"}
_IN_A_SCRIPT = {
    ENDS_THE_PROCESS: "the adapter would end the whole process",
    FAILS_THE_RUN: "the adapter would refuse it, and the run would fail",
    RUNS_ON_THE_CPU: "the model would silently run on the CPU",
}


@dataclass(frozen=True)
class ScriptOptions:
    """The options of the session, complete, and the ranges that one graph gets in place of the session."""

    session: Mapping[str, OptionValue]
    ranges: str = ""
    notes: tuple[str, ...] = ()
    """What the rules warn of."""


def asked_options(words: Sequence[str]) -> dict[str, OptionValue]:
    """The options of `--option NAME=VALUE`, each as the kind that the adapter reads. RequestError for others."""
    found: dict[str, OptionValue] = {}
    for text in words:
        name, equals, value = text.partition("=")
        option = session_options().get(name)
        if not equals:
            raise RequestError(f"--option {text!r} is not NAME=VALUE.", cure="write it like --option deterministic=1")
        if option is None:
            (meant,) = difflib.get_close_matches(name, session_options(), n=1) or [""]
            raise RequestError(
                f"NpuOptimizer has no option {name!r}.",
                cause="the adapter would silently ignore it",
                cure=f"--option {meant}=VALUE" if meant else "look it up: ./inv explain --all",
            )
        if name in found:
            raise RequestError(f"--option {name} is given twice.", cure="leave one of the two out")
        kinds = [kind for kind in option.kinds.values() if kind != NOT_READ]
        newest = kind_in(option, LOOKED_INTO[-1])
        found[name] = _value(name, value, kinds[-1] if newest == NOT_READ else newest)
    return found


def script_options(
    features: Sequence[ScriptFeature], asked: Mapping[str, OptionValue], settings: Settings
) -> ScriptOptions:
    """The options of these features with those that were asked for, for the adapter that is installed.

    The precision stands in the option that this adapter reads. RequestError for what the rules refuse.
    """
    names = {feature.name for feature in features}
    chosen: dict[str, OptionValue] = {}
    for feature in features:
        chosen |= feature.session_options
        missing = [name for name in feature.needs if name not in asked]
        if missing:
            raise RequestError(
                f"The feature {feature.name} needs {' and '.join(missing)}.",
                cause=f"{feature.meaning}",
                cure=f"give it as well: --option {missing[0]}=VALUE; ./inv explain {missing[0]} has its form",
            )
    if _OLDER in asked:
        chosen.pop(NEWER, None)
    chosen |= asked
    ranges = ""
    if "graph-exec-config" in names:
        ranges = str(chosen.get(RANGES, ""))
        chosen = {name: value for name, value in chosen.items() if name not in _RANGE_OPTIONS}
    if is_older(settings):
        chosen = {**{name: value for name, value in chosen.items() if name != NEWER}, **in_older(chosen)}
    _refuse_contradictions(names, chosen)
    whole = complete_options(chosen)
    found = _findings(whole, settings)
    if ranges:
        of_graph: dict[str, OptionValue] = {
            "dynamic_input": True,
            "dynamic_graph_execute_mode": "dynamic_execute",
            RANGES: ranges,
        }
        found += [item for item in _findings({**whole, **of_graph}, settings) if item.where in _RANGE_OPTIONS]
    refuse_findings(found)
    return ScriptOptions(whole, ranges, tuple(_in_a_script(item) for item in found if not item.needs_action))


def check_names_of_ranges(options: Mapping[str, OptionValue], graph: MetaGraph) -> tuple[str, ...]:
    """What is to be said of the operators that in_out_pair names; RequestError where the model has none of them."""
    found = list(check_ranges(options, graph, "--option"))
    refuse_findings(found)
    return tuple(" ".join((item.what, *item.details)) for item in found)


def refuse_findings(found: Sequence[Finding]) -> None:
    """RequestError with all of those that need action."""
    wrong = [item for item in found if item.needs_action]
    if wrong:
        what = "; ".join(_in_a_script(item).rstrip(".") for item in wrong)
        details = "; ".join(detail for item in wrong for detail in item.details)
        raise RequestError(
            f"The script would not run as meant: {what}.",
            cause=details,
            cure="; ".join(dict.fromkeys(item.cure for item in wrong)),
        )


def _refuse_contradictions(names: set[str], options: Mapping[str, OptionValue]) -> None:
    kept = next((f"{name} {value}" for name, value in _KEEPING.items() if options.get(name) == value), "")
    if "keep-dtypes" in names and kept:
        raise RequestError(
            f"keep-dtypes has no effect with {kept}.",
            cause="every operator then has the data type of the graph anyway (the guide, 7.2)",
            cure="leave one of the two out",
        )
    mode = str(options.get(_OLDER, options.get(NEWER, "")))
    if "mixed-precision" in names and "mix" not in mode:
        raise RequestError(
            f"mixed-precision contradicts the precision {mode}.",
            cause="that is another precision for the whole network",
            cure="leave the feature out, or choose mixed_float16 or allow_mix_precision",
        )


def _findings(options: Mapping[str, OptionValue], settings: Settings) -> list[Finding]:
    return check_options(options, _release(settings), directory=None)  # directories are made by the script


def _release(settings: Settings) -> str:
    """The release of CANN that is installed; "" where there is none."""
    try:
        installation = cann_of(with_sample(settings)).installation
    except NpuServingError:
        return ""
    return installation.version if installation is not None else ""


def _in_a_script(finding: Finding) -> str:
    """What was found, in the words for a script: the effects are said of servers."""
    what = finding.what
    for kind, of_server in EFFECT.items():
        what = what.replace(of_server, _IN_A_SCRIPT[kind])
    return what


def _value(name: str, text: str, kind: str) -> OptionValue:
    if kind == "b":
        if text.casefold() not in ("true", "false"):
            raise RequestError(f"--option {name} must be true or false, not {text!r}.", cure=f"--option {name}=true")
        return text.casefold() == "true"
    if kind == "i":
        try:
            return int(text)
        except ValueError:
            raise RequestError(
                f"--option {name} must be a whole number, not {text!r}.", cure=f"./inv explain {name}"
            ) from None
    return text
