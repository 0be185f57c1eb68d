"""Values in GNU ld's linker scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from npu_serving.errors import UnwritableValueError

_SYMBOL = re.compile(r"[A-Za-z_.$][A-Za-z0-9_.$]*\Z")


def extern_script(symbols: Iterable[str], comment: str) -> str:
    """A script that asks for each symbol, so that archive members which define it are linked in (EXTERN).

    Raises UnwritableValueError for a symbol whose name a script can't hold unquoted.
    """
    lines = [f"/* {comment} */"]
    for symbol in symbols:
        if not _SYMBOL.match(symbol):
            raise UnwritableValueError(
                f"{symbol!r} can't be written into a linker script.",
                cause="the adapter has an unusual symbol name, or is damaged",
                cure="check the adapter with: ./inv verify-serving",
            )
        lines.append(f"EXTERN({symbol})")
    return "\n".join(lines) + "\n"
