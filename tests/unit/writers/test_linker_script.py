"""Symbols in linker scripts are names and nothing else."""

from __future__ import annotations

import pytest

from npu_serving.errors import UnwritableValueError
from npu_serving.writers.linker_script import extern_script


def test_each_symbol_is_asked_for() -> None:
    assert extern_script(["_ZN2ge3runEv", "a.b$c"], "why") == "/* why */\nEXTERN(_ZN2ge3runEv)\nEXTERN(a.b$c)\n"


@pytest.mark.parametrize("symbol", ["", "a b", "a)", "1a", "a\n", "*/", "é"])
def test_a_name_that_would_become_syntax_is_refused(symbol: str) -> None:
    with pytest.raises(UnwritableValueError, match="linker script"):
        extern_script(["good", symbol], "why")
