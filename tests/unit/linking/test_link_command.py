"""A link's command of the event log, split."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.linking.link_command import (
    LinkWords,
    bare_command,
    files_named,
    linker_of,
    parameter_file,
    split_command,
    split_shown,
    words_for_linker,
)
from npu_serving.linking.linker_words import libraries_among, search_directories

AT = "-Wl,@server-2.params"


@st.composite
def commands(draw: st.DrawFn) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """What a driver was started with, the lines of the parameter file, and how the event log lists both."""
    kept, lines, listed = ["gcc", "-o", "server"], [], ["gcc", "-o", "server"]
    words = st.sampled_from(["a", "b", "rpath", "$ORIGIN/../lib", "now", "start-lib"]) | st.text("xyz-=/ü ", min_size=1)
    for _ in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["kept", "object", "library", "joined"]))
        if kind == "kept":
            word = draw(st.sampled_from(["-L", "-Wl,--keep=", "-B", "-f"])) + draw(words)
            kept.append(word)
            listed.append(word)
        elif kind == "object":
            word = "o/" + draw(words) + draw(st.sampled_from([".o", ".a", ".so"]))
            lines.append(word)
            listed.append(word)
        elif kind == "library":
            word = "-l" + draw(words)
            lines.append(word)
            listed.append(word)
        else:
            several = ["--" + draw(words) for _ in range(draw(st.integers(1, 4)))]
            lines += several
            listed.append("-Wl," + ",".join(several))
    return (*kept, AT), tuple(lines), (*listed, AT)


@given(commands())
def test_what_was_run_comes_back_whatever_the_words_and_however_they_are_joined(
    command: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]],
) -> None:
    kept, lines, listed = command
    if not lines:
        kept = listed
    assert split_command(listed, lines) == LinkWords(kept, lines)


@given(st.lists(st.sampled_from(["-lx", "-Wl,-lx", "-Wl,-lx,-lx", "-Wl,-ly", "a.o", "-Wl,a.o"]), max_size=8), st.data())
def test_each_line_of_the_file_is_accounted_for_once_and_in_order(words: list[str], data: st.DataObject) -> None:
    """Also where an argument that stays reads like one that is a line: all that the log lists is run, and once."""
    moved = [data.draw(st.booleans()) for _ in words]
    lines = [part for word, is_line in zip(words, moved) if is_line for part in word.replace("-Wl,", "").split(",")]
    found = split_command(["gcc", *words, AT], lines)
    assert found is not None
    reached = {(1, 0)}  # how much of what stays, and of the lines, the arguments so far may be
    for word in [*words, AT]:
        parts = word.replace("-Wl,", "").split(",")
        stays = {(kept + 1, line) for kept, line in reached if found.command[kept : kept + 1] == (word,)}
        is_line = {(kept, line + len(parts)) for kept, line in reached if lines[line : line + len(parts)] == parts}
        reached = stays | is_line
    assert (len(found.command), len(lines)) in reached


def test_a_library_that_bazel_leaves_on_the_command_line_stays_there_though_the_file_has_a_line_like_it() -> None:
    """The adapter stands behind `-Wl,` so that Bazel leaves it where it is."""
    listed = ["gcc", "-l_tf_adapter", "-Wl,--no-as-needed", "-Wl,-l_tf_adapter", "-lm", AT]
    expected = LinkWords(("gcc", "-Wl,--no-as-needed", "-Wl,-l_tf_adapter", AT), ("-l_tf_adapter", "-lm"))
    assert split_command(listed, ["-l_tf_adapter", "-lm"]) == expected
    listed = ["gcc", "-Wl,-lm", "-lm", AT]
    assert split_command(listed, ["-lm"]) == LinkWords(("gcc", "-Wl,-lm", AT), ("-lm",))


def test_lines_that_are_not_among_the_arguments_are_no_link_that_can_be_saved() -> None:
    assert split_command(["gcc", "a.o", AT], ["a.o", "b.o"]) is None
    assert split_command(["gcc", "b.o", "a.o", AT], ["a.o", "b.o"]) is None


def test_a_command_of_thousands_of_objects_is_taken_apart_where_four_lines_were_joined_against_the_rule() -> None:
    objects = [f"o/{n}.o" for n in range(4000)]
    listed = ["gcc", "-Wl,--start-lib", *objects, "-Wl,-z,relro,-z,now", "-Wl,--end-lib", "-lm", AT]
    lines = ["--start-lib", *objects, "-z", "relro", "-z", "now", "--end-lib", "-lm"]
    assert split_command(listed, lines) == LinkWords(("gcc", AT), tuple(lines))


def test_the_files_that_a_link_reads_are_found_among_its_words() -> None:
    words = LinkWords(
        (
            "gcc",
            "-o",
            "server",
            "-Lout/lib",
            "-Wl,-rpath,$ORIGIN/../lib",
            "-Wl,third_party/needed.lds",
            "-B/usr/bin",
            "-Wl,--dynamic-list=exported.list",
            "-Wl,-z,relro,-z,now",
            "-Xlinker",
            "plain.o",
            "-fuse-ld=gold",
            AT,
        ),
        ("--start-lib", "a.o", "b.o", "--end-lib", "-l_tf_adapter", "-z", "now", "--version-script", "v.map"),
    )
    assert files_named(words) == (
        ("third_party/needed.lds", "exported.list", "plain.o", "server-2.params", "a.o", "b.o", "v.map")
    )
    assert [library.name for library in libraries_among(words_for_linker(words))] == ["_tf_adapter"]
    assert search_directories(words_for_linker(words)) == ("out/lib",)
    assert (linker_of(words.command), linker_of(["gcc"])) == ("gold", "bfd")
    assert parameter_file(words.command) == "server-2.params"


def test_the_word_of_an_option_is_no_file_whichever_way_gcc_hands_it_on() -> None:
    command = ["gcc", "-Xlinker", "-rpath", "-Xlinker", "$ORIGIN", "-u", "kept", "-z", "now", "-B", "/opt/bin"]
    command += ["-wrapper", "sh,x", "-Wl,--wrap", "-Wl,malloc", "-T", "a.lds", "-l", "m", "-L", "lib", "-pie", "main.o"]
    handed_on = "-rpath $ORIGIN -u kept -z now --wrap malloc -T a.lds -l m -L lib main.o"
    assert words_for_linker(LinkWords(tuple(command))) == tuple(handed_on.split())
    assert files_named(LinkWords(tuple(command))) == ("a.lds", "main.o")


def test_a_parameter_file_that_gcc_reads_itself_has_words_for_gcc() -> None:
    words = LinkWords(("gcc", "@p", "z.o"), ("a.o", "-Wl,--start-lib", "-Wl,b.lds", "-Wl,-rpath,lib", "-lm"))
    assert files_named(words) == ("p", "a.o", "b.lds", "z.o")
    assert words_for_linker(LinkWords(("gcc", "-Wl,@p"), ("--start-lib", "b.o"))) == ("@p", "--start-lib", "b.o")


@pytest.mark.parametrize("printed", ["", "gcc version 12\n", " 'not closed\n"])
def test_a_driver_that_prints_no_command_has_none(printed: str) -> None:
    assert bare_command(printed) == ()


def test_of_what_a_driver_prints_the_last_linker_is_the_command() -> None:
    printed = ' /usr/lib/cc1 a.c\n /usr/lib/collect2 -o x "\\$ORIGIN" "a b"\nCOLLECT_GCC_OPTIONS=\'-o\'\n'
    assert bare_command(printed) == ("/usr/lib/collect2", "-o", "x", "$ORIGIN", "a b")


@given(words=st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1), min_size=1))
def test_the_words_that_gcc_shows_are_taken_apart_as_it_wrote_them(words: list[str]) -> None:
    plain = set("-_/=+.@:,")  # gcc.c, execute(): anything else is put into quotes

    def shown(word: str) -> str:
        if all(letter.isalnum() or letter in plain for letter in word):
            return word
        escaped = "".join(f"\\{letter}" if letter in '"\\$' else letter for letter in word)
        return f'"{escaped}"'

    assert split_shown(" " + " ".join(map(shown, words))) == words
