"""C++ names as a person reads them, where c++filt is at hand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from npu_serving import process
from npu_serving.errors import NpuServingError

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_INNERMOST_TEMPLATE = re.compile(r"<[^<>]*>")
_ABI_TAG = re.compile(r"\[abi:\w+\]")
_NAMES_AT_ONCE = 200
_LONGEST_NAME = 4000  # so that 200 of them fit into an argument list


def demangled(names: Iterable[str]) -> Mapping[str, str]:
    """Each name with its C++ spelling; the name itself where it has none, or where c++filt is missing or fails."""
    result = {name: name for name in names}
    mangled = [name for name in result if name.startswith("_Z") and len(name) < _LONGEST_NAME and name.isprintable()]
    program = process.find_program("c++filt")
    if program is None:
        return result
    for start in range(0, len(mangled), _NAMES_AT_ONCE):
        batch = mangled[start : start + _NAMES_AT_ONCE]
        try:
            lines = process.run([program, *batch]).stdout.splitlines()
        except NpuServingError:
            break
        if len(lines) == len(batch):
            result.update(zip(batch, lines))
    return result


def names_meant(asked: str, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that somebody means who writes `asked`: the name itself, or its C++ spelling.

    The parameters may be left out; blanks and ABI tags don't count.
    """
    known = set(names)
    if asked in known:
        return (asked,)
    function = asked.partition("(")[0]
    while _INNERMOST_TEMPLATE.search(function):
        function = _INNERMOST_TEMPLATE.sub("", function)
    last = _IDENTIFIER.findall(function)[-1:] if "operator" not in function else []
    mark = "".join(f"{len(part)}{part}" for part in last)  # how it stands in the mangled name
    possible = [name for name in known if name.startswith("_Z") and mark in name]
    wanted = _without_blanks(asked)
    spelled = {name: _without_blanks(readable) for name, readable in demangled(possible).items()}
    return tuple(
        sorted(name for name, readable in spelled.items() if wanted in (readable, _without_parameters(readable)))
    )


def _without_blanks(readable: str) -> str:
    return _ABI_TAG.sub("", readable).replace(" ", "")


def _without_parameters(readable: str) -> str:
    """tensorflow::Scope::Scope of tensorflow::Scope::Scope(int)const."""
    end = readable.rfind(")")
    depth = 0
    for at in range(end, 0, -1):
        depth += {")": 1, "(": -1}.get(readable[at], 0)
        if depth == 0:
            return readable[:at]
    return readable
