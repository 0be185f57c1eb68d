"""What `./inv explain` prints of an operator: whether the adapter gives it to the NPU, and what CANN's library says.

An operator of TensorFlow becomes one of Ascend IR, often of the same name; both are looked up.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Union

from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import cann_of
from npu_serving.cann.operator_library import (
    BLACK,
    GREY,
    MODES,
    WHITE,
    DescribedOperator,
    OperatorParameter,
    directory_of_operators,
    implementation_modes,
    operator_in_library,
    operator_library,
)
from npu_serving.cann.operator_list import COMPUTES_NOTHING, OperatorLists, operator_lists
from npu_serving.errors import NpuServingError, RequestError
from npu_serving.models.dangerous_operators import dangerous_operators
from npu_serving.options.explained_entry import Fact, paragraph
from npu_serving.options.explaining import ExplainedEntries, explain, explain_exactly
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import Settings

FAMILY = "operator"
_NAME = re.compile(r"_?[A-Za-z][A-Za-z0-9_]{1,100}", re.ASCII)
_NEAREST = 5
_INSTALL = "./inv cann-info says how to install it, or where it is: --cann-root DIRECTORY"
_LISTED = {
    WHITE: "white: with mixed precision it computes in float16",
    BLACK: "black: with mixed precision it stays in float32",
    GREY: "grey (CANN says nothing of it): with mixed precision it does as the operator before it",
}


@dataclass(frozen=True)
class InstalledOperators:
    """What the CANN that is found has of operators; `release` is "" where it does not say which it is."""

    opp: Path
    lists: OperatorLists
    release: str = ""

    @property
    def are_there(self) -> bool:
        """Whether there is anything to look an operator up in."""
        return not self.lists.are_empty or self.opp.is_dir()


@dataclass(frozen=True)
class ExplainedOperator:
    """What is known of an operator, with an example to paste where the library describes it."""

    name: str
    meaning: str
    facts: tuple[Fact, ...]
    example: str = ""
    on_npu: bool | None = None
    """Whether the adapter gives it to the NPU; None where no CANN is found, and for a type that TensorFlow has not."""
    described: tuple[DescribedOperator, ...] = ()
    modes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """All of it, in the form of the other entries."""
        return {
            "family": FAMILY,
            "name": self.name,
            "meaning": self.meaning,
            "on_npu": self.on_npu,
            "library": [
                {
                    "chip": each.chip,
                    "file": str(each.file),
                    "mixed_precision_list": each.listed,
                    "inputs": [_parameter_json(item) for item in each.inputs],
                    "outputs": [_parameter_json(item) for item in each.outputs],
                }
                for each in self.described
            ],
            "implementation_modes": list(self.modes),
            "facts": {heading: said if isinstance(said, str) else list(said) for heading, said in self.facts},
            "paste": self.example,
        }


@dataclass(frozen=True)
class ExplainedOperators:
    """The operators that were found under a name; `is_exact` where it is the name itself."""

    asked: str
    found: tuple[ExplainedOperator, ...]
    is_exact: bool

    def to_json(self) -> dict[str, object]:
        """All of them."""
        entries = [each.to_json() for each in self.found]
        return {"asked": self.asked, "exact": self.is_exact, "entries": entries}

    def text(self) -> str:
        """The one that was meant, or a line for each that may be."""
        shown = [paragraph(f"{each.name} ({FAMILY})", each.meaning, each.facts, each.example) for each in self.found]
        if self.is_exact:
            return "\n\n".join(shown)
        if len(shown) == 1:
            return f"Nothing is called {self.asked!r}. The nearest is:\n\n{shown[0]}"
        lines = [f"  {each.name} ({FAMILY}): {each.meaning}" for each in self.found]
        return "\n".join([f"Nothing is called {self.asked!r}. Near to it are:", *lines, "Next: ./inv explain NAME"])


Explained = Union[ExplainedEntries, ExplainedOperators]


def explain_name(settings: Settings, name: str) -> Explained:
    """What is called that, an option before an operator; else what is near to it. RequestError for nothing.

    The installation is looked at only where no option, variable, key or flag has the name itself.
    """
    exact = explain_exactly(name)
    wanted = name.strip()
    if exact is not None or _NAME.fullmatch(wanted) is None:
        return exact or explain(name)
    installed: InstalledOperators | None = None
    if wanted[0].isupper():  # as operators are written, and few other words
        installed = installed_operators(settings)
        if _is_called(wanted, installed):
            return ExplainedOperators(name, (_explained(wanted, installed),), is_exact=True)
    by_word: ExplainedEntries | None = None
    try:
        by_word = explain(name)
    except NpuServingError as error:
        unknown = error
    if by_word is not None and any(wanted.casefold() in entry.name.casefold() for entry in by_word.found):
        return by_word
    installed = installed or installed_operators(settings)
    operator = _meant(wanted, installed)
    if operator:
        return ExplainedOperators(name, (_explained(operator, installed),), operator == wanted)
    if by_word is not None:
        return by_word
    near = _near(wanted, installed)
    if near:
        return ExplainedOperators(name, tuple(_explained(each, installed) for each in near), is_exact=False)
    if not installed.are_there and wanted[0].isupper():
        raise RequestError(
            f"No option, variable, profiling key or flag is found by {name!r}, and no CANN to look an operator up in.",
            cause="which operators run on the NPU, and how, only an installed CANN says",
            cure=_INSTALL,
        )
    raise unknown


def installed_operators(settings: Settings) -> InstalledOperators:
    """What a server that is started now would find."""
    try:
        installation = cann_of(with_sample(settings)).installation
    except NpuServingError:
        installation = None
    environ = cann_environment(installation, os.environ).added_to(os.environ)
    release = installation.version if installation is not None else ""
    return InstalledOperators(directory_of_operators(environ), operator_lists(environ), release)


def _is_called(wanted: str, installed: InstalledOperators) -> bool:
    """Whether an operator has that name."""
    known = (*installed.lists.names, *_known_without_cann())
    return wanted in known or OperatorLists.never_taken(wanted) or bool(operator_in_library(installed.opp, wanted))


def _meant(wanted: str, installed: InstalledOperators) -> str:
    """The operator of that name, whatever the case; "" where there is none."""
    if _is_called(wanted, installed):
        return wanted
    known = sorted({*installed.lists.names, *_known_without_cann()})
    return next((name for name in known if name.casefold() == wanted.casefold()), "")


def _near(wanted: str, installed: InstalledOperators) -> list[str]:
    """Those that are spelled nearly so, of the lists and of the library."""
    library = operator_library({"ASCEND_OPP_PATH": str(installed.opp)}).operators
    plain = {name.casefold(): name for name in sorted({*installed.lists.names, *_known_without_cann(), *library})}
    if wanted.casefold() in plain:
        return [plain[wanted.casefold()]]
    close = difflib.get_close_matches(wanted.casefold(), plain, n=_NEAREST, cutoff=0.75)
    if not close and len(wanted) > 3:
        close = [name for name in plain if wanted.casefold() in name][:_NEAREST]
    return [plain[name] for name in close]


def _known_without_cann() -> Iterable[str]:
    table = dangerous_operators()
    return (*COMPUTES_NOTHING, *table.files, *table.python)


def _explained(name: str, installed: InstalledOperators) -> ExplainedOperator:
    described = operator_in_library(installed.opp, name)
    all_modes = implementation_modes(installed.opp)
    modes = (all_modes or {}).get(name, ())
    unlisted = "high_performance only, as CANN lists no others" if all_modes else f"not known: {MODES} is not there"
    on_npu = _on_npu(name, installed, described)
    table = dangerous_operators()
    facts: list[Fact] = [
        *_on_the_npu(name, installed, is_type=bool(described)),
        *([("on a server", f"it {table.files[name]}")] if name in table.files else []),
        *([("on a server", f"it can't run: {table.python[name]}")] if name in table.python else []),
        *_library_facts(described, modes or (unlisted,), installed),
        ("looked up in", f"CANN {installed.release}: {installed.opp}" if installed.release else str(installed.opp)),
    ]
    meaning = {
        True: "The adapter gives it to the NPU.",
        False: "The adapter leaves it to the CPU.",
        None: "A type of Ascend IR, into which operators of TensorFlow are compiled for the NPU."
        if described
        else "Whether it runs on the NPU is not known here: no CANN is found.",
    }[on_npu]
    example = f"modify_mixlist: {{black-list: {{to-add: [{name}]}}}}" if described else ""
    if not installed.are_there:
        facts[-1] = ("next", _INSTALL)
    return ExplainedOperator(name, meaning, tuple(facts), example, on_npu, described, modes)


def _on_npu(name: str, installed: InstalledOperators, described: Sequence[DescribedOperator]) -> bool | None:
    """Whether the adapter gives it to the NPU; None where that is not known, and for what TensorFlow does not have."""
    if OperatorLists.never_taken(name):
        return False
    if name in installed.lists.names:
        return True
    return None if described or not installed.are_there else False


def _on_the_npu(name: str, installed: InstalledOperators, *, is_type: bool) -> list[Fact]:
    lists = installed.lists
    facts: list[Fact] = []
    if lists.never_taken(name):
        facts.append(
            ("on the NPU", "never: the adapter leaves datasets, _Arg, _Retval and StringJoin out of its lists")
        )
    elif not installed.are_there:
        pass
    elif name not in lists.names:
        missing = lists.trouble or f"{lists.path} does not have it, nor does a list of custom operators"
        instead = "an operator of TensorFlow of that name would stay on the CPU" if is_type else "it stays on the CPU"
        facts.append(("on the adapter's lists", f"no: {missing}; {instead}"))
    else:
        where = [str(each.path) for each in lists.custom if name in each.names]
        facts.append(("on the NPU", f"it is in {' and '.join(where) or lists.path}"))
        mixed = "no: it is marked isGray" if name in lists.gray else "yes"
        facts.append(("on the NPU with mix_compile_mode", mixed))
    if name in COMPUTES_NOTHING:
        facts.append(("as it computes nothing", "it runs where the operators beside it run, and counts for no share"))
    return facts


def _library_facts(
    described: Sequence[DescribedOperator], modes: Sequence[str], installed: InstalledOperators
) -> list[Fact]:
    if not described:
        if not installed.are_there:
            return []
        what = "no type of that name: it is compiled into one of another name, or runs on the AI CPU"
        return [("in the library of the AI Core", what)]
    facts: list[Fact] = [
        ("list of mixed precision", _by_chip({each.chip: _LISTED[each.listed] for each in described})),
        ("data types", _by_chip({each.chip: _dtypes(each) for each in described})),
    ]
    return [*facts, ("implementation modes, for op_precision_mode", ", ".join(modes))]


def _by_chip(said: Mapping[str, str]) -> tuple[str, ...]:
    """Each thing that is said, with the chips that it is said of."""
    chips: dict[str, list[str]] = {}
    for chip, text in said.items():
        chips.setdefault(text, []).append(chip)
    return tuple(f"{', '.join(names)}: {text}" for text, names in chips.items())


def _dtypes(described: DescribedOperator) -> str:
    if not described.dtypes_are_known:
        return "chosen by a program of CANN's, by shapes and formats"
    kinds = (("inputs", described.inputs), ("outputs", described.outputs))
    return "; ".join(f"{kind} {', '.join(map(_parameter, parameters))}" for kind, parameters in kinds if parameters)


def _parameter(parameter: OperatorParameter) -> str:
    many = ", any number of them" if parameter.is_dynamic else ""
    return f"{parameter.name or 'one'} ({' | '.join(dict.fromkeys(parameter.dtypes))}{many})"


def _parameter_json(parameter: OperatorParameter) -> dict[str, object]:
    return {"name": parameter.name, "dtypes": list(parameter.dtypes), "any_number": parameter.is_dynamic}
