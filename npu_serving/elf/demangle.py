"""C++ names as a person reads them, where c++filt is at hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from npu_serving import process
from npu_serving.errors import NpuServingError

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
