"""Symbols in what a linker reads are names and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.elf.symbols import read_elf
from npu_serving.errors import UnwritableValueError
from npu_serving.writers.linker_script import NOTHING, dynamic_list, extern_script

NAMES = st.from_regex(r"[A-Za-z_.$][A-Za-z0-9_.$]{0,20}", fullmatch=True)
LINKERS = ("bfd", "gold", "lld")


def test_each_symbol_is_asked_for() -> None:
    assert extern_script(["_ZN2ge3runEv", "a.b$c"], "why") == "/* why */\nEXTERN(_ZN2ge3runEv)\nEXTERN(a.b$c)\n"


@pytest.mark.parametrize("symbol", ["", "a b", "a)", "1a", "a\n", "*/", "é", 'a"', "a*", "a?", "[a]", "a;", "a\\"])
@pytest.mark.parametrize("write", [extern_script, dynamic_list])
def test_a_name_that_would_become_syntax_is_refused(write, symbol: str) -> None:
    with pytest.raises(UnwritableValueError, match="linker script"):
        write(["good", symbol], "why")


@given(st.lists(NAMES, min_size=1))
def test_a_dynamic_list_names_each_symbol_in_its_order_and_no_other(symbols: list[str]) -> None:
    text = dynamic_list(symbols, "why")
    assert re.findall(r'^  "([^"]*)";$', text, re.MULTILINE) == symbols
    assert len(text.splitlines()) == len(symbols) + 3


@given(st.text())
def test_whatever_the_name_it_is_written_as_a_name_or_refused(symbol: str) -> None:
    try:
        text = dynamic_list([symbol], "why")
    except UnwritableValueError:
        return
    assert text == f'/* why */\n{{\n  "{symbol}";\n}};\n'
    assert not set(symbol) & set('"*?[]{};\\ \n')


@pytest.mark.parametrize("linker", LINKERS)
def test_linkers_export_what_a_list_names_even_words_of_its_format_and_nothing_else(
    tmp_path: Path, linker: str
) -> None:
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"there is no {linker} here")
    names = ("global", "local", "plain", "data")
    (tmp_path / "main.c").write_text(
        "int global(void){return 1;} int local(void){return 1;} int plain(void){return 1;} int data = 2;"
        "int hidden(void){return 1;} int main(void){return 0;}"
    )
    (tmp_path / "listed.lds").write_text(dynamic_list((*names, "nobody_defines_it"), "why"))
    (tmp_path / "nothing.lds").write_text(dynamic_list((), "why"))
    for name in ("listed", "nothing"):
        link = ["gcc", f"-fuse-ld={linker}", "main.c", f"-Wl,--dynamic-list={name}.lds", "-o", name]
        subprocess.run(link, cwd=tmp_path, check=True)

    exported, ours = {*names, "hidden", "main", "nobody_defines_it", NOTHING}, set(names)
    assert read_elf(tmp_path / "listed").defined_names & exported == ours
    assert not read_elf(tmp_path / "nothing").defined_names & exported
