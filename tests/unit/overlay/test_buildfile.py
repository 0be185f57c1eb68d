"""Edits of BUILD files: the right target, the right place, and not a byte elsewhere."""

from __future__ import annotations

import difflib

import pytest
import starlark
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import BuildFileError
from npu_serving.overlay.buildfile import add_deps, canonical, read_deps, remove_deps

LABELS = (
    "//third_party/tf_adapter:tf_adapter",
    "//third_party/tf_adapter:tf_python",
    "@org_tensorflow//tensorflow/compiler/jit:xla_cpu_jit",
)
UPSTREAM = """\
cc_binary(
    name = "tensorflow_model_server",
    stamp = 1,
    visibility = [
        ":testing",
        "//tensorflow_serving:internal",
    ],
    deps = [
        ":tensorflow_model_server_main_lib",
    ],
)
"""


def changed_lines(before, after):
    return [
        line
        for line in difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
        if line[:3] not in ("---", "+++") and not line.startswith("@@")
    ]


def server(deps, before="", after=""):
    return f'{before}cc_binary(\n    name = "tensorflow_model_server",\n    deps = {deps},\n)\n{after}'


def test_the_upstream_target_gets_the_three_labels_as_added_lines_and_nothing_else():
    assert changed_lines(UPSTREAM, add_deps(UPSTREAM, labels=LABELS)) == [f'+        "{label}",' for label in LABELS]


@pytest.mark.parametrize(
    "deps",
    [
        '[\n        ":a",\n    ]',
        '[\n        ":a"\n    ]',
        '[\n        ":a",  # why a\n        # and this stays\n    ]',
        '[":a", ":b"]',
        '[":a", ":b",]',
        '[ ":a" ]',
        "[]",
        "[ ]",
        "[\n    ]",
        "[\n        # nothing yet\n    ]",
        '[":a",\n            ":b"]',
        '["a" + "b"]',
        '["""a"""]',
        "VAR",
        'VAR + [\n        ":a",\n    ]',
        '[":a"] + VAR',
        'select({"//c": [":a"], "//conditions:default": []})',
        '[":a"] + select({"//c": [":b"]})',
        'VAR + select({"//c": [":b"]})',
        '[x for x in ["a"]]',
        "(VAR + OTHER)",
        'glob(["a"]) + if_mkl([":b"])',
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_every_way_of_writing_deps_is_extended_once_and_restored_byte_for_byte(deps, newline, bom):
    text = bom + server(deps, before="VAR = []\n", after='cc_library(name = "x")\n').replace("\n", newline)

    added = add_deps(text, labels=LABELS)

    assert set(LABELS) <= set(read_deps(added))
    assert add_deps(added, labels=LABELS) == added
    assert remove_deps(added, labels=LABELS) == text
    assert added.count("\n") == added.count(newline)
    starlark.parse("BUILD", added.lstrip("\ufeff").replace("\r\n", "\n"))


@pytest.mark.parametrize(
    "text",
    [
        'cc_binary(\n    name = "tensorflow_model_server",\n    stamp = 1,\n)\n',
        'cc_binary(\n    name = "tensorflow_model_server"\n)\n',
        'cc_binary(name = "tensorflow_model_server")\n',
        'cc_binary(name = "tensorflow_model_server",)\n',
        'cc_binary(name = "tensorflow_" + "model_server",  # split\n)\n',
        'native.cc_binary(name = r"tensorflow_model_server", srcs = [\n    "a",\n])',
        'cc_binary(\n    name = "tensorflow_model_server", stamp = 1)',
    ],
)
def test_a_target_without_deps_gets_the_attribute_and_loses_it_again(text):
    added = add_deps(text, labels=LABELS)

    assert read_deps(added) == LABELS
    assert add_deps(added, labels=LABELS) == added
    assert remove_deps(added, labels=LABELS) == text
    starlark.parse("BUILD", added.replace("native.", ""))


def test_an_empty_list_that_was_there_before_is_still_there_after_removal():
    text = server("[]")
    assert remove_deps(add_deps(text, labels=LABELS), labels=LABELS) == text


def test_a_file_patched_by_hand_in_other_spellings_is_left_as_it_is():
    text = server(
        '[\n        "//third_party/tf_adapter",\n        "@//third_party/tf_adapter:tf_python",\n'
        '        "@org_tensorflow//tensorflow/compiler/jit:xla_cpu_jit",\n    ]'
    )
    assert add_deps(text, labels=LABELS) == text


def test_only_the_labels_that_are_missing_are_added():
    text = server(f'[\n        "{LABELS[1]}",\n    ]')
    assert changed_lines(text, add_deps(text, labels=LABELS)) == [
        f'+        "{LABELS[0]}",',
        f'+        "{LABELS[2]}",',
    ]


def test_a_label_that_a_variable_of_the_same_file_brings_is_not_added_twice():
    text = server("ADAPTER", before=f'ADAPTER = [\n    "{LABELS[0]}",\n]\n')
    assert read_deps(add_deps(text, labels=LABELS)) == LABELS[1:]


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        (":x", "//p:x"),
        ("x", "//p:x"),
        ("//a/b", "//a/b:b"),
        ("@//a/b:c", "//a/b:c"),
        ("@r//a", "@r//a:a"),
        ("@r", "@r//:r"),
        ("@r//:r", "@r//:r"),
    ],
)
def test_each_spelling_of_a_label_has_one_canonical_form(spelling, meant):
    assert canonical(spelling, "p") == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('cc_binary(name = "tensorflow_model_serverr", deps = [])', "tensorflow_model_serverr"),
        ("", "has no cc_binary named 'tensorflow_model_server'"),
        (UPSTREAM + UPSTREAM, "2 targets"),
        (UPSTREAM.replace("cc_binary", "tf_cc_binary"), "tf_cc_binary"),
        ('cc_binary("tensorflow_model_server", deps = [])', "without `name =`"),
        ('cc_binary(name = "tensorflow_model_server", **kw)', "kwargs"),
        (server('["a"] if X else ["b"]'), "expression"),
        (server("{}"), "expression"),
        (server('"a"'), "expression"),
        (server("None"), "expression"),
        (server("[] +"), "not a valid expression"),
        (server(f'select({{"//c": ["{LABELS[0]}"]}})'), "listed twice"),
        ("cc_binary(\n  deps = [\n", "BUILD:2:10"),
        ("x = (1]\n", "BUILD:1:7"),
        (")", "no open bracket for ')'"),
        ('x = "abc\ny = 1\n', "BUILD:1:5"),
        ("x = '''abc\n", "never closed"),
    ],
)
def test_a_file_that_does_not_allow_the_edit_is_refused_with_its_reason(text, said):
    with pytest.raises(BuildFileError) as refusal:
        add_deps(text, labels=LABELS)
    assert said in str(refusal.value)


def test_the_target_named_in_comments_and_strings_does_not_count():
    noise = '# cc_binary(name = "tensorflow_model_server")\nX = """\ncc_binary(name = "tensorflow_model_server")\n"""\n'
    text = noise + UPSTREAM
    assert changed_lines(text, add_deps(text, labels=LABELS)) == [f'+        "{label}",' for label in LABELS]


# ---- random files

names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
labels = st.one_of(names.map(":{}".format), names.map("//pkg:{}".format), names.map("@repo//a:{}".format))
quotes = st.sampled_from(['"{}"', "'{}'", '"""{}"""', 'r"{}"'])
comments = st.sampled_from(["", "  # why", '  # "quoted" [ ( {'])


@st.composite
def lists(draw):
    items = [draw(quotes).format(item) for item in draw(st.lists(labels, max_size=4, unique=True))]
    style = draw(st.sampled_from(["lines", "one line", "mixed"]))
    trailing = "," if draw(st.booleans()) and items else ""
    if style == "one line":
        return "[" + ", ".join(items) + trailing + draw(st.sampled_from(["", " "])) + "]"
    indent = draw(st.sampled_from(["        ", "      ", "  "]))
    lines = [f"{indent}{item}{',' if n + 1 < len(items) else trailing}{draw(comments)}" for n, item in enumerate(items)]
    lines += draw(st.lists(st.sampled_from([f"{indent}# note", ""]), max_size=2))
    first = draw(comments) if style == "lines" else ""
    return "[" + first + "\n" + "".join(f"{line}\n" for line in lines) + "    ]"


@st.composite
def values(draw):
    terms = st.one_of(
        lists(), lists().map("select({{\n        '//c': {},\n    }})".format), st.just("VAR"), st.just("glob(['a*'])")
    )
    return " + ".join(draw(st.lists(terms, min_size=1, max_size=3)))


@st.composite
def build_files(draw):
    attributes = [("stamp", "1"), ("visibility", draw(lists()))][: draw(st.integers(0, 2))]
    if draw(st.booleans()):
        attributes.insert(draw(st.integers(0, len(attributes))), ("deps", draw(values())))
    attributes.insert(draw(st.integers(0, len(attributes))), ("name", '"tensorflow_model_server"'))
    parts = [f"{key} = {value}" for key, value in attributes]
    if draw(st.booleans()):
        call = (
            "cc_binary(\n" + ",\n".join(f"    {part}" for part in parts) + draw(st.sampled_from([",\n)", "\n)", ")"]))
        )
    else:
        call = "cc_binary(" + ", ".join(parts) + draw(st.sampled_from([",)", ")", " )"]))
    others = st.lists(
        st.one_of(
            names.map('cc_library(\n    name = "lib_{}",\n    deps = [":x"],\n)'.format),
            names.map("# cc_binary(name = '{}')".format),
            names.map('DOC_{} = """\n"quoted" ] ) #\n"""'.format),
        ),
        max_size=3,
    )
    before, after = draw(others), draw(others)
    text = "\n".join([*before, call, *after]) + draw(st.sampled_from(["\n", "", "\n\n"]))
    newline = draw(st.sampled_from(["\n", "\n", "\r\n"]))
    return draw(st.sampled_from(["", "\ufeff"])) + text.replace("\n", newline), before, after, newline


@given(build_files())
def test_random_files_keep_every_other_byte_and_come_back_whole(drawn):
    text, before, after, newline = drawn

    added = add_deps(text, labels=LABELS)

    assert set(LABELS) <= set(read_deps(added))
    assert add_deps(added, labels=LABELS) == added
    assert remove_deps(added, labels=LABELS) == text
    assert added.lstrip("\ufeff").startswith(newline.join(part.replace("\n", newline) for part in before))
    assert added.rstrip("\r\n").endswith(newline.join(part.replace("\n", newline) for part in after))
    kept = iter(added)
    assert all(character in kept for character in text), "something that was there is gone"
    starlark.parse("BUILD", added.lstrip("\ufeff").replace("\r\n", "\n"))


@given(st.text(alphabet='cc_binary(name="tensorflow_model_server",deps[]){}\'\\\n#r+ ', max_size=120))
def test_no_text_whatever_ends_in_a_traceback(text):
    try:
        add_deps(text, labels=LABELS)
    except BuildFileError as error:
        assert error.what
