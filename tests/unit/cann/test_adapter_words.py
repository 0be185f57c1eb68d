"""The names that stand in an adapter's file."""

from __future__ import annotations

from pathlib import Path

from npu_serving.cann.adapter_words import unknown_words


def test_a_name_that_does_not_stand_in_the_adapter_is_unknown_to_it(tmp_path: Path) -> None:
    adapter = tmp_path / "_tf_adapter.so"
    adapter.write_bytes(b"\x7fELF\0use_off_line\0enable_dump\0jit_compile_x\0")
    assert unknown_words(adapter, ["enable_dump", "jit_compile", "foo"]) == ("jit_compile", "foo")


def test_nothing_is_said_of_an_adapter_whose_texts_were_compiled_away(tmp_path: Path) -> None:
    adapter = tmp_path / "_tf_adapter.so"
    adapter.write_bytes(b"\x7fELF\0enable_dump\0")
    assert unknown_words(adapter, ["foo"]) == ()
