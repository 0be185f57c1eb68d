"""What the files of session options say of operators, against CANN's own library: types, data types, modes, lists.

TF Adapter and the graph engine pass over a name that they do not know; a data type that an operator has not shows when
the graph is compiled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from npu_serving.cann.operator_library import (
    BLACK,
    WHITE,
    DescribedOperator,
    OperatorLibrary,
    OperatorParameter,
    one_name,
)
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.options.auxiliary_files import (
    CustomDtypes,
    ImplementationModes,
    MixedPrecisionLists,
    OperatorDtypes,
)

KIND, KEPT = "auxiliary-file", "kept-data-type"
_KEEPING = {"precision_mode": "must_keep_origin_dtype", "precision_mode_v2": "origin"}
_HALF, _WHOLE = "float16", "float32"
_DEFAULT_MODE = "high_performance"


def check_against_library(
    option: str, content: MixedPrecisionLists | CustomDtypes | ImplementationModes, library: OperatorLibrary
) -> Iterator[Finding]:
    """What is wrong with the content of that option's file for the CANN whose library that is; nothing without one."""
    for name, first, second in library.twice:
        what = f"{second} describes operators that {first} describes as well, such as {name}; both are loaded"
        yield Finding(what, "move the one that is a copy out of that directory", WARNING, KIND)
    if isinstance(content, MixedPrecisionLists):
        lists = (content.black_list, content.white_list)
        yield from _of_types(option, [name for each in lists for name in (*each.to_add, *each.to_remove)], library)
        yield from _of_lists(option, content, library)
    elif isinstance(content, CustomDtypes):
        yield from _of_types(option, list(content.by_type), library)
        for name, dtypes in content.by_type.items():
            yield from _of_dtypes(option, name, dtypes, library.operators.get(name, ()))
    else:
        yield from _of_types(option, list(content.by_type), library)
        yield from _of_modes(option, content.by_type, library)


def keeping_option(options: Mapping[str, object]) -> str:
    """The option by which every operator keeps its data type; "" where none says so."""
    return next((name for name, value in _KEEPING.items() if options.get(name) == value), "")


def check_kept_dtypes(option: str, operators: Iterable[str], library: OperatorLibrary) -> Iterator[Finding]:
    """Operators of a model that CANN has for float16 and not for float32, where `option` has them keep their type."""
    halves = [name for name in sorted(set(operators)) if _is_for_halves(library.operators.get(name, ()))]
    if halves:
        what = (
            f"{option} has every operator keep its data type, and CANN has {len(halves)} of the model's for {_HALF} "
            f"and not for {_WHOLE}: in {_WHOLE} they could not be compiled"
        )
        yield Finding(what, "write another precision, such as mixed_float16", WARNING, KEPT, details=tuple(halves[:8]))


def _is_for_halves(described: Sequence[DescribedOperator]) -> bool:
    """Whether that holds on each chip; an operator whose data types a program chooses may have any."""
    return bool(described) and all(
        each.dtypes_are_known and _HALF in each.dtypes and _WHOLE not in each.dtypes for each in described
    )


def _of_types(option: str, types: Sequence[str], library: OperatorLibrary) -> Iterator[Finding]:
    """Types that the library does not have, so that what is said of them has no effect."""
    for name in types if library.operators else ():
        if name not in library.operators:
            plain = {each.casefold(): each for each in sorted(library.operators)}
            near = plain.get(name.casefold()) or next(iter(get_close_matches(name, library.operators, n=1)), "")
            what = f"{option} names operators of the type {name}, and {library.directory} has none"
            cure = f"write {near}" if near else "write the type that CANN has, or leave it out"
            yield Finding(what, cure, WARNING, KIND)


def _of_lists(option: str, lists: MixedPrecisionLists, library: OperatorLibrary) -> Iterator[Finding]:
    """Changes without effect; one that counts on some chips only has one."""
    for color, changes in ((BLACK, lists.black_list), (WHITE, lists.white_list)):
        for name in changes.to_add:
            if _colors(name, library) == {color}:
                what = f"{option} adds {name} to {color}-list, which CANN has it on already: that changes nothing"
                yield Finding(what, "leave it out", NOTE, KIND)
        for name in changes.to_remove:
            colors = _colors(name, library)
            if colors and color not in colors:
                on = " and ".join(f"the {each} one" for each in sorted(colors))
                what = f"{option} takes {name} out of {color}-list, and CANN has it on {on}: that changes nothing"
                yield Finding(what, f"leave it out; ./inv explain {name} shows its list", WARNING, KIND)


def _colors(name: str, library: OperatorLibrary) -> set[str]:
    return {each.listed for each in library.operators.get(name, ())}


def _of_modes(option: str, by_type: Mapping[str, str], library: OperatorLibrary) -> Iterator[Finding]:
    """Modes that CANN's list does not have for a type."""
    for name, mode in by_type.items() if library.modes is not None and library.operators else ():
        known = (library.modes or {}).get(name, (_DEFAULT_MODE,))
        if name in library.operators and mode not in known:
            what = f"{option} gives {name} the mode {mode}, and CANN has only {', '.join(known)} for it"
            yield Finding(what, f"write {known[0]}, or leave it out", WARNING, KIND)


def _of_dtypes(
    option: str, name: str, dtypes: OperatorDtypes, described: Sequence[DescribedOperator]
) -> Iterator[Finding]:
    """Data types that no chip's description of the operator has: the graph could not be compiled."""
    if not described or not all(each.dtypes_are_known for each in described):
        return
    misfits = [_misfit(dtypes, each) for each in described]
    if all(misfits):
        severity, said = misfits[0] or (PROBLEM, "")
        effect = ": the model could not be compiled" if severity == PROBLEM else ""
        what = f"{option} gives {name} {said} ({described[0].file}){effect}"
        yield Finding(what, f"./inv explain {name} shows what it takes", severity, KIND)


def _misfit(dtypes: OperatorDtypes, described: DescribedOperator) -> tuple[str, str] | None:
    """How grave it is, and which of the data types the operator does not take; None where it may take them."""
    chosen: set[int] | None = None
    counts = ""
    for kind, asked, parameters in (
        ("input", dtypes.inputs, described.inputs),
        ("output", dtypes.outputs, described.outputs),
    ):
        if len(asked) > len(parameters) and not any(parameter.is_dynamic for parameter in parameters):
            counts = f"{len(asked)} data types for {kind}s, of which it has {len(parameters)}"
        for number, (dtype, parameter) in enumerate(_paired(asked, parameters)):
            fitting = {place for place, known in enumerate(parameter.dtypes) if known == one_name(dtype)}
            if not fitting:
                known = ", ".join(dict.fromkeys(parameter.dtypes))
                return PROBLEM, f"{dtype} for its {kind} {number}, which takes {known}"
            chosen = fitting if chosen is None else chosen & fitting
    if counts:
        return WARNING, counts
    if chosen is not None and not chosen:
        said = f"{', '.join(dtypes.inputs)} -> {', '.join(dtypes.outputs)}, a combination that it does not have"
        return WARNING, said
    return None


def _paired(asked: Sequence[str], parameters: Sequence[OperatorParameter]) -> Iterator[tuple[str, OperatorParameter]]:
    """Each data type with its parameter; none where a parameter for several tensors leaves open which it is."""
    if not any(parameter.is_dynamic for parameter in parameters):
        return zip(asked, parameters)
    return ((dtype, parameters[0]) for dtype in asked) if len(parameters) == 1 else iter(())
