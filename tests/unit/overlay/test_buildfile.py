"""Edits of BUILD files: the right target, the right place, and not a byte elsewhere."""

from __future__ import annotations

import difflib

import pytest
import starlark
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import BuildFileError
from npu_serving.lock.starlark_files import DirectoryTree
from npu_serving.overlay import buildfile
from npu_serving.overlay.buildfile import FILE, add_deps, canonical, read_deps, remove_deps

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
    before = 'load("@org_tensorflow//:mkl.bzl", "if_mkl")\nVAR = []\nOTHER = []\n'
    text = bom + server(deps, before=before, after='cc_library(name = "x")\n').replace("\n", newline)

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


# ---- what is evaluated

HELD = "//third_party/tf_adapter:tf_adapter"
WAYS_TO_HOLD = {
    "a variable of a variable": ("X", f'Y = ["{HELD}"]\nX = Y\n'),
    "a concatenation": ("X", f'X = [":a"] + ["{HELD}"]\n'),
    "a concatenation of variables": ("X", f'Y = ["{HELD}"]\nX = [":a"] + Y\n'),
    "a label put together": ('["//third_party/tf_adapter" + S]', 'S = ":tf_adapter"\n'),
    "an addition in place": ("X", f'X = [":a"]\nX += ["{HELD}"]\n'),
    "an addition under another name": ("X", f'X = [":a"]\nY = X\nY += ["{HELD}"]\n'),
    "append": ("X", f'X = [":a"]\nX.append("{HELD}")\n'),
    "extend": ("X", f'X = [":a"]\nX.extend(["{HELD}"])\n'),
    "insert": ("X", f'X = [":a"]\nX.insert(0, "{HELD}")\n'),
    "percent": ("X", 'X = ["//third_party/%s:%s" % ("tf_adapter", "tf_adapter")]\n'),
    "percent in the list itself": ('["//third_party/%s" % "tf_adapter"]', ""),
    "format": ("X", 'X = ["//{0}/{name}:{name}".format("third_party", name = "tf_adapter")]\n'),
    "a comprehension": ("X", 'X = ["//third_party/" + n for n in ["tf_adapter", "other"] if n != "other"]\n'),
    "a comprehension in the deps": ('[":a"] + ["//third_party/" + n for n in ["tf_adapter"]]', ""),
    "a dict": ('D["x"]', f'D = {{"x": ["{HELD}"]}}\n'),
    "a dict comprehension": ('D["tf_adapter"]', 'D = {n: ["//third_party/" + n] for n in ["tf_adapter"]}\n'),
    "a dict that is changed": ('D["x"]', f'D = {{}}\nD["x"] = ["{HELD}"]\n'),
    "an if expression": ("X", f'X = ["{HELD}"] if 1 < 2 else []\n'),
    "split": ("X", f'X = "{HELD},:b".split(",")\n'),
    "a join": ("X", 'X = ["".join(["//third_party/", "tf_adapter"])]\n'),
    "a replaced text": ("X", 'X = ["//third_party/tf_x".replace("x", "adapter")]\n'),
    "unpacking": ("X", f'X, Y = ["{HELD}"], []\n'),
    "a slice": ("X[1:]", f'X = [":a", "{HELD}"]\n'),
    "another spelling": ("X", 'X = [":a"] + ["@//third_party/tf_adapter"]\n'),
    "sorted": ("X", f'X = sorted([":a", "{HELD}"])\n'),
    "beside a select": ("X", f'X = ["{HELD}"] + select({{"//c": [":b"]}})\n'),
    "a function of every file": ("list(X)", f'X = ("{HELD}",)\n'),
}


@pytest.mark.parametrize(("deps", "before"), WAYS_TO_HOLD.values(), ids=WAYS_TO_HOLD)
def test_a_label_that_the_value_of_the_deps_holds_is_never_added(deps, before):
    text = server(deps, before=before)
    added = add_deps(text, labels=LABELS)
    assert added.count(f'"{HELD}"') == text.count(f'"{HELD}"')
    assert set(LABELS[1:]) <= set(read_deps(added))
    assert HELD not in set(read_deps(added)) - set(read_deps(text))
    assert add_deps(added, labels=LABELS) == added
    assert remove_deps(added, labels=LABELS[1:]) == text


UNDER_A_CONDITION = {
    "a select": ("X", f'X = select({{"//c": ["{HELD}"], "//conditions:default": []}})\n'),
    "a select of a variable": ("select(D)", f'D = {{"//c": [":a"], "//d": ["{HELD}"]}}\n'),
    "a select added in place": ("X", f'X = []\nX += select({{"//c": ["{HELD}"]}})\n'),
    "a function of TensorFlow's": ("X", f'load("@org_tensorflow//:mkl.bzl", "if_mkl")\nX = if_mkl(["{HELD}"])\n'),
}


@pytest.mark.parametrize(("deps", "before"), UNDER_A_CONDITION.values(), ids=UNDER_A_CONDITION)
def test_a_label_that_is_there_under_a_condition_only_is_refused_by_its_name(deps, before):
    with pytest.raises(BuildFileError, match="listed twice") as refusal:
        add_deps(server(deps, before=before), labels=LABELS)
    assert f"{HELD} is in a part" in refusal.value.what
    assert refusal.value.cure == f"take {HELD} out of that part"


@pytest.mark.parametrize(
    "deps",
    [
        f'["{HELD}"] + X',
        f'X + select({{"//c": ["{HELD}"]}})',
        f'select({{"//c": ["{HELD}"], "//d": []}}) + select({{"//c": [], "//d": ["{HELD}"]}})',
        f'["{HELD}", "//third_party/" + "tf_adapter"]',
        f'select({{"//c": ["{HELD}"] + X}})',
    ],
)
def test_a_label_that_bazel_finds_twice_already_is_refused_by_its_name(deps):
    with pytest.raises(BuildFileError, match="listed twice") as refusal:
        add_deps(server(deps, before=f'X = [":a", "{HELD}"]\n'), labels=LABELS)
    assert refusal.value.cure == f"leave {HELD} in one place"


UNKNOWN = {
    "of another repository": ("X", 'load("@other//x:y.bzl", "X")\n', "X, loaded from @other//x:y.bzl"),
    "under another name": ("X", 'load("@other//x:y.bzl", X = "Y")\n', "Y, loaded from @other//x:y.bzl"),
    "of a file that is missing": ("[] + X", 'load("//x:y.bzl", "X")\n', "X, loaded from //x:y.bzl"),
    "in a variable": ("Y", 'load("@other//x:y.bzl", "X")\nY = [":a"] + X\n', "X, loaded from"),
    "an element": ("[X]", 'load("@other//x:y.bzl", "X")\n', "X, loaded from"),
    "formatted": ('["//%s" % X]', 'load("@other//x:y.bzl", "X")\n', "X, loaded from"),
    "in a branch": ('select({"//c": X})', 'load("@other//x:y.bzl", "X")\n', "X, loaded from"),
    "looped over": ('[n + ":x" for n in X]', 'load("@other//x:y.bzl", "X")\n', "X, loaded from"),
    "a condition": ("Y", 'load("@other//x:y.bzl", "X")\nY = [":a"] if X else []\n', "X, loaded from"),
    "added in place": ("Y", 'load("@other//x:y.bzl", "X")\nZ = []\nY = Z\nZ += X\n', "X, loaded from"),
    "appended": ("Y", 'load("@other//x:y.bzl", "X")\nY = []\nY.append(X)\n', "X, loaded from"),
    "what a function gives": ('f([":a"])', 'load("@other//x:y.bzl", "f")\n', "f(), loaded from @other//x:y.bzl"),
    "what a function changed": ("Y", 'load("@other//x:y.bzl", "f")\nY = []\nf(Y)\n', "f(), loaded from"),
    "not defined": ("[] + NOWHERE", "", f"NOWHERE, which {FILE} does not define"),
    "not understood": ("X", "X = [1, 2] - [3]\n", f"what is written at {FILE}:1:5"),
}


@pytest.mark.parametrize(("deps", "before", "said"), UNKNOWN.values(), ids=UNKNOWN)
def test_deps_that_may_hold_a_label_are_refused_by_the_name_of_what_is_unknown_and_the_cure_helps(deps, before, said):
    with pytest.raises(BuildFileError, match="it is not known whether") as refusal:
        add_deps(server(deps, before=before), labels=LABELS)
    assert said in refusal.value.what
    assert refusal.value.cure.endswith(", ".join(LABELS))
    by_hand = server(f"{deps} + {list(LABELS)}", before=before)
    assert add_deps(by_hand, labels=LABELS) == by_hand


def test_what_a_file_of_the_same_tree_assigns_is_known_and_what_it_computes_in_functions_is_not(tmp_path):
    texts = {
        "x/y.bzl": 'load(":z.bzl", "Z")\n\ndef f():\n    return []\n\nX = [":a"] + Z\nF = f()\nif X:\n    I = []\n',
        "x/z.bzl": f'Z = ["{HELD}"]\n',
        "x/loop.bzl": 'load(":loop.bzl", "X")\nX = X\n',
        "x/broken.bzl": "X = (\n",
    }
    (tmp_path / "x").mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    files = DirectoryTree(tmp_path)

    text = server("X", before='load("//x:y.bzl", "X")\n')
    added = add_deps(text, labels=LABELS, files=files)
    assert read_deps(added, files=files) == LABELS[1:]
    for deps, load in {
        "F": '"//x:y.bzl", "F"',
        "f()": '"//x:y.bzl", "f"',
        "I": '"//x:y.bzl", "I"',
        "X": '"//x:loop.bzl", "X"',
        "[X]": '"//x:broken.bzl", "X"',
        "X + []": '"//../x:y.bzl", "X"',
    }.items():
        with pytest.raises(BuildFileError, match="it is not known whether"):
            add_deps(server(deps, before=f"load({load})\n"), labels=LABELS, files=files)


@pytest.mark.parametrize(
    ("other", "place"),
    [
        ('cc_library(name = "tensorflow_" + "model_server")\n', "7:11"),
        ('NAME = "tensorflow_model_server"\ncc_library(name = NAME)\n', "8:11"),
        ('cc_library(name = "%s_server" % "tensorflow_model")\n', "7:11"),
        ('cc_library(name = "tensorflow_{}".format("model_server"))\n', "7:11"),
        ('[cc_library(name = "tensorflow_" + n) for n in ["model_server", "x"]]\n', "7:12"),
        ('rule = cc_library\nrule(name = "".join(["tensorflow_", "model_server"]))\n', "8:5"),
        ('load("@x//:y.bzl", "U")\nU and cc_library(name = "tensorflow_model_server")\n', "8:17"),
        ('load("@x//:y.bzl", "U")\n[] if U else cc_library(name = "tensorflow_model_server")\n', "8:24"),
        ('load("@x//:y.bzl", "U")\n[cc_library(name = "tensorflow_model_server") for _ in U]\n', "8:12"),
    ],
)
def test_two_targets_of_the_name_are_refused_with_both_places_however_it_is_computed(other, place):
    with pytest.raises(BuildFileError, match="2 targets are named 'tensorflow_model_server'") as refusal:
        add_deps("\n" + server("[]") + "\n" + other, labels=LABELS)
    assert f"{FILE}:2:10 and {FILE}:{place}." in refusal.value.what


@pytest.mark.parametrize(
    "name", ['"tensorflow_" + S', '"tensorflow_%s" % S', '"tensorflow_{}".format(S)', '["tensorflow_model_server"][0]']
)
def test_a_server_whose_name_is_computed_is_found(name):
    text = f'S = "model_server"\ncc_library(name = S)\ncc_binary(\n    name = {name},\n    deps = [],\n)\n'
    added = add_deps(text, labels=LABELS)
    assert read_deps(added) == LABELS
    assert remove_deps(added, labels=LABELS) == text


def test_a_server_that_a_comprehension_makes_beside_others_is_refused_with_their_names():
    text = '[cc_binary(name = n, deps = []) for n in ["tensorflow_model_server", "sibling"]]\n'
    with pytest.raises(BuildFileError, match="makes sibling, which would get what is added, too"):
        add_deps(text, labels=LABELS)


@pytest.mark.parametrize(("keyword", "value"), [("deps", "[]"), ("name", '"x"'), ("stamp", "1")])
def test_an_argument_that_is_given_twice_is_refused_with_both_places(keyword, value):
    rest = '    name = "tensorflow_model_server",\n    stamp = 1,\n    deps = [],\n'
    text = f"cc_binary(\n    {keyword} = {value},\n{rest})\n"
    with pytest.raises(BuildFileError, match=f"is given {keyword} twice: {FILE}:2:5 and {FILE}:[345]:5") as refusal:
        add_deps(text, labels=LABELS)
    assert refusal.value.cure == f"make one {keyword} of them, then run the same command again"


@pytest.mark.parametrize("wrong", [(": []", ': ["x"]'), ('"tensorflow_model_server"', '"x"'), ("= []", '= [":a"]')])
def test_an_edit_that_would_do_anything_else_is_not_handed_out(monkeypatch, wrong):
    """A net under the edit itself: what it wrote is evaluated as well, with all other targets."""
    text = server("X", before='X = []\ncc_library(name = "l", deps = {"k": []}["k"])\n')
    honest = buildfile._with_added
    monkeypatch.setattr(buildfile, "_with_added", lambda deps, literals: honest(deps, literals).replace(*wrong))
    with pytest.raises(BuildFileError, match=r"would not say what is meant|has no cc_binary named"):
        add_deps(text, labels=LABELS)


@pytest.mark.parametrize(
    ("value", "said"),
    [("None", "None"), ('(":a",)', "a tuple"), ('":a"', "a text"), ("{}", "a dict"), ("1", "a number")],
)
def test_a_variable_to_which_no_list_can_be_added_is_refused(value, said):
    with pytest.raises(BuildFileError, match=f"their value is {said}, to which no list can be added"):
        add_deps(server("X", before=f"X = {value}\n"), labels=LABELS)


def test_a_statement_that_bazel_does_not_take_in_a_build_file_is_refused_with_its_place():
    with pytest.raises(BuildFileError, match=f"{FILE}:1:1: this statement is not allowed in a BUILD file"):
        add_deps(server("[]", before="for n in []:\n    pass\n"), labels=LABELS)


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
    before, after = ["VAR = []", *draw(others)], draw(others)
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
