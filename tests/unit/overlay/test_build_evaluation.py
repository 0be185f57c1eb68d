"""The evaluation of BUILD files: what it finds out is what a real interpreter finds, and no file takes the machine."""

from __future__ import annotations

import pytest
import starlark
from hypothesis import given
from hypothesis import strategies as st

from npu_serving.errors import BuildFileError
from npu_serving.overlay.build_evaluation import evaluate_build
from npu_serving.overlay.buildfile import add_deps, canonical, read_deps, remove_deps
from npu_serving.overlay.starlark_text import StarlarkSource

PACKAGE = "tensorflow_serving/model_servers"
LABELS = (
    "//third_party/tf_adapter:tf_adapter",
    "//third_party/tf_adapter:tf_python",
    "@org_tensorflow//tensorflow/compiler/jit:xla_cpu_jit",
)


def targets(text, files=None):
    return evaluate_build(StarlarkSource(text, "BUILD"), PACKAGE, files)


def deps_of(text):
    (target,) = targets(text)
    return target.deps


def value_of(expression, before=""):
    """A value, seen through the deps of a target: a list's elements."""
    deps = deps_of(f'{before}\nr(name = "x", deps = {expression})\n')
    assert not deps.unknown, deps.unknown
    (term,) = deps.terms
    return list(term.labels)


# ---- what Starlark says

EXPRESSIONS = [
    '["a"] + ["b"]',
    '["a", "b"] * 2',
    '["a" * 3]',
    '["x%sy%d%%" % ("a", 3)]',
    '["%s" % n for n in ["a", "b"]]',
    '["%s" % None]',
    '["{}{}{{}}".format("a", 1)]',
    '["{1}{0}{k}".format("a", "b", k = "c")]',
    '[a + b for a in ["x", "y"] for b in ["1", "2"] if a + b != "x2"]',
    '[k + v for k, v in {"a": "b"}.items()]',
    '[n for n in {"a": 1, "b": 2}]',
    '{"a": ["b"]}["a"]',
    '{"a": ["b"]}.get("z", ["c"])',
    '{n: [n] for n in ["a"]}["a"]',
    'dict(a = ["b"])["a"]',
    'dict([("a", ["b"])])["a"]',
    '["a", "b", "c"][1:]',
    '["a", "b", "c"][::-1]',
    '[["a"], ["b"]][-1]',
    '["abc"[1]]',
    '["abc"[0:2]]',
    'sorted(["b", "a"])',
    'sorted(["b", "a"], reverse = True)',
    'list(("a", "b"))',
    'list({"a": 1})',
    '[str(n) for n in range(3)]',
    '[str(n) for n in range(1, 10, 4)]',
    '[str(len(["a", "b"]))]',
    '[str(7 // 2), str(7 % 4), str(2 - 5), str(-3)]',
    '[str(max(1, 2)), str(min([3, 2]))]',
    '[a + str(b) for b, a in enumerate(["x"])]',
    '[a + b for a, b in zip(["x"], ["y"])]',
    'reversed(["a", "b"])',
    '["a"] if "a" in ["a"] else ["b"]',
    '["a"] if "a" not in "abc" else ["b"]',
    '["a"] if not [] and (1 < 2 or fail("no")) else ["b"]',
    '[] or ["b"]',
    '["a"] and ["b"]',
    '["a"] if any([False]) or all([]) == False else ["b"]',
    '["a"] if bool("") else ["b"]',
    '["a,b".split(",")[1], "a,b".partition(",")[2], "a,b".rpartition(",")[0]]',
    '[" a ".strip(), "Ab".lower(), "ab".upper(), "ab".title(), "ab".capitalize()]',
    '["abab".replace("a", "c"), "abab".replace("a", "c", 1)]',
    '["-".join(["a", "b"])]',
    '["a"] if "abc".startswith("a") and "abc".endswith("c") else []',
    '[str("abc".find("c")), str("abcb".rfind("b")), str("aa".count("a"))]',
    '[str(int("3") + 1)]',
    '["a" + "b" + "c" + "d"]',
    '[r"\\a", """b""", \'c\']',
    '["a" if n % 2 == 0 else "b" for n in range(3)]',
    'list(X)',
    'X + X[:1]',
    'Y["k"] + D[1]',
    'A + B',
]  # fmt: skip
BEFORE = """
X = ["a"]
X += ["b"]
X.append("c")
X.extend(["d"])
X.insert(0, "e")
X.remove("b")
Y = {"k": ["a"]}
Y["k"] += ["b"]
Y.update({"z": ["x"]})
D = [["a"], ["b"]]
D[1] = ["c"]
A, (B, C) = ["a"], (["b"], 1)
"""


def really(expression):
    module = starlark.Module()
    dialect = starlark.Dialect.extended()
    dialect.enable_top_level_stmt = True
    found = starlark.eval(
        module, starlark.parse("BUILD", f"{BEFORE}\nlist({expression})\n", dialect), starlark.Globals.standard()
    )
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_has_the_value_that_the_real_interpreter_gives_it(expression):
    assert value_of(expression, BEFORE) == really(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "[1] - [2]", '"a" + 1', "1 / 0", "{}[1]", "[][0]", '"%d" % "a"', '"%s" % ()', '"{}".format()',
        '"{".format(1)', '"a".nothing()', "X.nothing()", "[].pop()", "sorted([1, None])", "f\"a\"", "lambda: 1",
        "{1, 2}", "1 < 2 < 3", "[[]] == [[]]", "{[]: 1}", "select([])", "int('x')", "len(1)", "range('a')",
        "1 << 3", "1.5", "-[]", "1 if select({}) else 2", "[n for n in 1]", "max()", "list(*[1])", "''.join([1])",
        "2 * {}", "dict([1])", "zip(1)", "1()", "(n for n in [])",
    ],
)  # fmt: skip
def test_what_starlark_refuses_or_is_not_understood_is_unknown_with_its_place(expression):
    deps = deps_of(f'V = {expression}\nr(name = "x", deps = [[V][0]])\n')
    (unknown,) = deps.unknown
    assert unknown.startswith(("what is written at BUILD:1:", "X, which BUILD does not define"))


def test_what_is_made_from_an_unknown_value_says_where_that_came_from():
    before = 'load("@x//:y.bzl", "U", "m")\n'
    for expression in [
        '[U + "a"]', '["%s" % U]', '["{}".format(U)]', "[U[0]]", "[U.a]", "[U.a()]", "[[1][U]]", "[{U: 1}[1]]",
        "[not U]", "[U == 1]", '["a".join(U)]', "[str(U)]", "[U and 1]", "[0 or U]", "[1 if U else 2]",
        "[n for n in [1] if U]", "[n for n in U]", "U * 2", "U[1:]", "[1][U:]", "[U for _ in [1]]", "sorted(U)",
        "select(U)", "[] + U", "U + []", "U + select({})", "[*U]", "{n: 1 for n in U}.keys()", "list(U)",
        "dict(**U).keys()", '"a".split(U)', "[][U]", "{}.get(U)",
    ]:  # fmt: skip
        unknown = deps_of(f'{before}r(name = "x", deps = {expression})\n').unknown
        assert unknown, expression
        assert all(what == "U, loaded from @x//:y.bzl" for what in unknown), (expression, unknown)


def test_what_may_be_changed_by_something_unknown_is_unknown():
    before = 'load("@x//:y.bzl", "U")\nX = ["a"]\nD = {}\n'
    for statement, expression in [
        ("X += U", "X"), ("X.extend(U)", "X"), ("X.insert(U, 1)", "X"), ("X[U] = 1", "X"), ("X.remove(U)", "X"),
        ("U(X)", "X"), ("D.update(U)", 'D["a"]'), ("D[U] = 1", 'D["a"]'), ("U(D)", 'D["a"]'),
        ("D.update(U)", "D.keys()"), ("X, Y = U", "[Y]"), ("X -= 1", "[X]"),
    ]:  # fmt: skip
        assert deps_of(f'{before}{statement}\nr(name = "x", deps = {expression})\n').unknown, statement


def test_deps_are_kept_as_they_are_when_the_target_is_declared():
    text = 'X = ["a"]\nr(name = "x", deps = X)\nX += ["b"]\n'
    assert deps_of(text).terms[0].labels == ("a",)


def test_select_keeps_its_branches_apart():
    terms = deps_of('r(name = "x", deps = ["a"] + select({"c": ["b"], "d": None}) + select({"c": ["e", "f"]}))').terms
    assert [(term.branches, term.is_select) for term in terms] == [
        ((("a",),), False),
        ((("b",), ()), True),
        ((("e", "f"),), True),
    ]


def test_the_package_is_known_and_so_are_arguments_that_come_from_a_dict():
    assert value_of('["//%s" % package_name(), native.package_name()]') == [f"//{PACKAGE}", PACKAGE]
    (target,) = targets('K = {"name": "x", "deps": ["a"]}\ncc_binary(**K)\n')
    assert (target.rule, target.names, target.deps.terms[0].labels) == ("cc_binary", ("x",), ("a",))
    assert [target.rule for target in targets("r(**U)\nr(name = 'x', **U)\n")] == ["r"]


# ---- files that somebody else wrote

BOMBS = {
    "a text": 'X = "a" * 1000000000',
    "a list": "X = [0] * 1000000000",
    "doubling": 'X = "a"\n' + "X += X\n" * 60,
    "doubling a list": "X = [1]\n" + "X.extend(X)\n" * 60,
    "a number squared": "X = 12345678901234567890\n" + "X = X * X\n" * 60,
    "a range": "X = list(range(1000000000000))",
    "loops": "X = [1 for a in range(9999) for b in range(9999) for c in range(9999)]",
    "loops that keep nothing": "X = [1 for a in range(9999) for b in range(9999) if False]",
    "a join": 'X = ("a" * 10000).join(["b" * 10000] * 10000)',
    "a format": 'X = ("{0}" * 10000).format("a" * 10000)',
    "a percent": 'X = ("%s" * 10000) % tuple(["a" * 10000] * 10000)',
    "a width": 'X = "{:>1000000000}".format(1)',
    "a replace": 'X = ("a" * 10000).replace("a", "b" * 10000)',
    "lists of lists": "X = [1]\n" + "X = [X, X]\n" * 60 + "Y = X == X\nZ = str(X)\nf(X)\n",
    "a list in itself": 'X = []\nX.append(X)\nY = "%s" % X\nr(name = "y", deps = X)\n',
    "a key of keys": "X = (1,)\n" + "X = (X, X)\n" * 60 + "Y = {X: 1}\n",
    "a search": 'X = ("a" * 100000 + "b") in ("a" * 1000000)\nY = ("a" * 1000000).count("a" * 100000 + "b")\n',
    "brackets": "X = " + "[" * 100000 + "]" * 100000,
    "additions": "X = " + "+".join(["1"] * 100000),
    "a chain": "X = 1" + "\nX = [X]" * 20000 + "\nf(X)\n",
    "negations": "X = " + "not " * 100000 + "1",
    "attributes": "X = a" + ".b" * 450,
    "a long file": "X = 1\n" * 100000,
    "one line": "; ".join(f"r(name = 'x{n}')" for n in range(20000)),
    "unknown values": "X = " + "[" + "U, " * 100000 + "]",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_no_file_takes_more_than_a_moment_or_ends_in_a_traceback(bomb):
    """That it ends is the test: each of these takes hours, or all memory, where nothing bounds it."""
    try:
        assert targets(bomb + '\nr(name = "x")\n')[-1].names == ("x",)
    except BuildFileError as error:
        assert error.what
        assert error.cure


@given(st.text(alphabet="rX(name='x',deps=[]){}%.+*\\\n\r\t\f#0 fornilambd\ufeff\ud800\0é", max_size=80))
def test_no_text_whatever_ends_in_a_traceback(text):
    try:
        targets(text)
    except BuildFileError as error:
        assert error.what


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_place_counts_characters_whatever_they_are(newline, bom):
    text = f'{bom}("é\udcff", cc_binary (name = "x")){newline}M = 0644{newline}[(cc_binary)(name = "ä")]'.replace(
        "\n", newline
    )
    for target in targets(text):
        assert text[: target.function_end].endswith("cc_binary")
    assert [target.names for target in targets(text)] == [("x",), ("ä",)]


# ---- random ways to write deps, against the real interpreter

names = st.sampled_from(["a", "b", "c", "lib_d", "e_f"])
ours = st.sampled_from([*LABELS, "//third_party/tf_adapter", "@//third_party/tf_adapter:tf_python"])
labels = st.one_of(names.map(":{}".format), names.map("//pkg:{}".format), ours)


@st.composite
def written_lists(draw, variables):
    """An expression whose value is a list, and that list; statements that it needs go into `variables`."""
    items = draw(st.lists(labels, max_size=3, unique=True))
    literal = "[" + ", ".join(f'"{item}"' for item in items) + "]"
    way = draw(st.integers(0, 13))
    new = f"V{len(variables)}"
    cut = draw(st.integers(0, len(items)))
    first, second = (str(part).replace("'", '"') for part in (items[:cut], items[cut:]))
    halves = ", ".join(f'("{item[:4]}", "{item[4:]}")' for item in items)
    if way <= 1:
        return literal, items
    if way == 2:
        return f'["%s%s" % pair for pair in [{halves}]]', items
    if way == 3:
        return f'["{{}}{{}}".format(p, q) for p, q in [{halves}]]', items
    if way == 4:
        return "[" + ", ".join(f'"{item[:5]}" + "{item[5:]}"' for item in items) + "]", items
    statements = {
        5: f"{new} = {literal}",
        6: f"{new} = {first} + {second}",
        7: f"{new} = {first}\n{new} += {second}",
        8: f"{new} = {first}\n{new}b = {new}\n{new}b.extend({second})",
        9: f"{new} = [n for n in {literal} if n]",
        10: f'{new} = "|".join({literal}).split("|") if {literal} else []',
        11: f"{new}, {new}b = {literal}, 1",
        12: f'{new}d = {{"k": {first}}}\n{new}d["k"] += {second}\n{new} = {new}d["k"]',
        13: f'{new} = ({first} + [":no"] + {second})\n{new}.remove(":no")',
    }
    variables.append(statements[way])
    return new, items


@st.composite
def variants(draw):
    """A BUILD file, and its deps: lists, and tuples of lists for select()s."""
    variables: list[str] = []
    terms, meant = [], []
    for _ in range(draw(st.integers(1, 3))):
        if draw(st.integers(0, 3)):
            expression, items = draw(written_lists(variables))
            terms.append(expression)
            meant.append([items])
        else:
            branches = [draw(written_lists(variables)) for _ in range(draw(st.integers(1, 2)))]
            inner = ", ".join(f'"//c:{n}": {expression}' for n, (expression, _) in enumerate(branches))
            terms.append(f"select({{{inner}}})")
            meant.append([items for _, items in branches])
    deps = " + ".join(terms)
    if draw(st.booleans()):
        variables.append(f"ALL = {deps}")
        deps = "ALL"
    name = draw(
        st.sampled_from(['"tensorflow_model_server"', '"tensorflow_" + S', '"%s_server" % "tensorflow_model"', "N"])
    )
    head = 'S = "model_server"\nN = "tensorflow_{}".format(S)\n'
    other = '[cc_library(name = "x" + n, deps = [":" + n]) for n in ["p", "q"]]\n'
    server = f"cc_binary(\n    name = {name},\n    deps = {deps},\n)\n"
    return head + "".join(f"{line}\n" for line in variables) + server + other, meant


def interpreted(text):
    """The deps of the targets as the real interpreter has them: by name, plain labels and the branches of select()s."""
    prelude = (
        "def select(branches):\n    return [branches]\n"
        "def cc_library(**arguments):\n    declared(arguments)\n"
        "def cc_binary(**arguments):\n    declared(arguments)\n"
    )
    found = {}

    def declared(arguments):
        deps = arguments["deps"]
        plain = [item for item in deps if isinstance(item, str)]
        selects = [list(map(list, item.values())) for item in deps if not isinstance(item, str)]
        found[arguments["name"]] = (plain, selects)

    module = starlark.Module()
    module.add_callable("declared", declared)
    dialect = starlark.Dialect.extended()
    dialect.enable_top_level_stmt = True
    starlark.eval(module, starlark.parse("BUILD", prelude + text, dialect), starlark.Globals.standard())
    return found


def meant_by(label):
    return canonical(label, PACKAGE)


@given(variants())
def test_random_ways_to_write_deps_get_each_label_once_and_come_back_whole(drawn):
    text, terms = drawn
    before = interpreted(text)
    held = [{meant_by(label) for branch in term for label in branch} for term in terms]
    twice = [
        label
        for label in map(meant_by, LABELS)
        if sum(label in term for term in held) > 1
        or any(list(map(meant_by, branch)).count(label) > 1 for term in terms for branch in term)
    ]
    selects = before["tensorflow_model_server"][1]
    conditional = {meant_by(label) for branches in selects for branch in branches for label in branch}
    if twice or conditional & set(map(meant_by, LABELS)):
        with pytest.raises(BuildFileError, match="listed twice"):
            add_deps(text, labels=LABELS)
        return

    added = add_deps(text, labels=LABELS)

    plain, had = before["tensorflow_model_server"]
    missing = [label for label in LABELS if label not in set(map(meant_by, plain))]
    after = interpreted(added)
    now, has = after.pop("tensorflow_model_server")
    assert sorted(now) == sorted([*plain, *missing])
    assert has == had
    assert after == {name: deps for name, deps in before.items() if name != "tensorflow_model_server"}
    assert set(missing) <= set(read_deps(added))
    assert add_deps(added, labels=LABELS) == added
    assert remove_deps(added, labels=missing) == text
