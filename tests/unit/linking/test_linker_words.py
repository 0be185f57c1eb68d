"""The linker's own words: files, libraries, directories."""

from __future__ import annotations

import pytest

from npu_serving.linking.linker_words import (
    WITH_FILE,
    WITH_VALUE,
    LinkLibrary,
    files_among,
    libraries_among,
    search_directories,
)


@pytest.mark.parametrize("option", [*WITH_VALUE, "-o", "-L", "-l", "-plugin"])
def test_what_stands_behind_an_option_that_takes_a_word_is_no_file(option: str) -> None:
    assert list(files_among([option, "word", "a.o"])) == ["a.o"]


@pytest.mark.parametrize("option", WITH_FILE)
def test_a_file_stands_behind_its_option_or_in_the_same_word(option: str) -> None:
    assert list(files_among([option, "list", f"{option}=other", "a.o"])) == ["list", "other", "a.o"]


def test_a_library_is_looked_for_in_each_directory_as_so_and_as_archive_and_behind_bstatic_as_archive_alone() -> None:
    words = ["-lm", "-Bstatic", "-l", "c", "--library=z", "-lm", "-z", "-lnone", "-Bdynamic", "-l:lib.so.3", "-lm"]
    libraries = libraries_among(words)
    assert libraries == (
        LinkLibrary("m"), LinkLibrary("c", static=True), LinkLibrary("z", static=True), LinkLibrary("m", static=True),
        LinkLibrary(":lib.so.3"),
    )  # fmt: skip
    assert libraries[0].candidates(["a", "/b"]) == ["a/libm.so", "a/libm.a", "/b/libm.so", "/b/libm.a"]
    assert libraries[1].candidates(["a"]) == ["a/libc.a"]
    assert libraries[4].candidates(["a", "/b"]) == ["a/lib.so.3", "/b/lib.so.3"]


def test_directories_are_searched_in_the_order_in_which_they_are_named() -> None:
    words = ["-Lone", "-L", "two", "--library-path=three", "-Lone", "-rpath", "-Lnone", "-L"]
    assert search_directories(words) == ("one", "two", "three")
