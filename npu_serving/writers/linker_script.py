"""Values in GNU ld's linker scripts and lists of symbols."""

from __future__ import annotations

import re
from collections.abc import Iterable

from npu_serving.errors import UnwritableValueError

NOTHING = "npu_serving.nothing"
_SYMBOL = re.compile(r"[A-Za-z_.$][A-Za-z0-9_.$]*\Z")


def extern_script(symbols: Iterable[str], comment: str) -> str:
    """A script that asks for each symbol, so that archive members which define it are linked in (EXTERN).

    Raises UnwritableValueError for a symbol whose name a script can't hold unquoted.
    """
    return "\n".join([f"/* {comment} */", *(f"EXTERN({_checked(symbol)})" for symbol in symbols)]) + "\n"


def dynamic_list(symbols: Iterable[str], comment: str) -> str:
    """A file for --dynamic-list: a program exports each of the symbols that it defines, beside what it exports anyway.

    The names are quoted, so that none of them counts as a word of the format or as a pattern. bfd and gold refuse a
    list without a name; it gets one then that no program defines. Raises UnwritableValueError as extern_script().
    """
    names = [_checked(symbol) for symbol in symbols] or [NOTHING]
    return "\n".join([f"/* {comment} */", "{", *(f'  "{name}";' for name in names), "};"]) + "\n"


def _checked(symbol: str) -> str:
    if _SYMBOL.match(symbol):
        return symbol
    raise UnwritableValueError(
        f"{symbol!r} can't be written into a linker script.",
        cause="the adapter has an unusual symbol name, or is damaged",
        cure="check the adapter with: ./inv verify-serving",
    )
