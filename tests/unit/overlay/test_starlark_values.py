"""Values that may be unknown: what an operation takes is counted before it is done, and doubt never gets lost."""

from __future__ import annotations

import pytest

from npu_serving.overlay import starlark_values as values
from npu_serving.overlay.starlark_values import (
    BoundMethod,
    BuiltinFunction,
    CannotEvaluateError,
    Effort,
    EffortSpentError,
    SelectValue,
    SumValue,
    UnknownValue,
)

UNKNOWN = UnknownValue("U, loaded from somewhere", "U")
HUGE = "a" * 900


def method(value, name, *args):
    return values.call_method(BoundMethod(value, name), list(args), {}, Effort(1_000))


@pytest.mark.parametrize(
    "operation",
    [
        lambda: values.binary("Mult", "a", 1 << 62, Effort(1_000)),
        lambda: values.binary("Mult", 1 << 62, [1], Effort(1_000)),
        lambda: values.plus([1] * 900, [1] * 900, Effort(1_000)),
        lambda: values.plus_in_place([], [1] * 1_001, Effort(1_000)),
        lambda: values.binary("Mod", "%s%s", (HUGE, HUGE), Effort(1_000)),
        lambda: values.call_function(BuiltinFunction("range"), [1 << 62], {}, Effort(1_000)),
        lambda: method("{0}{0}", "format", HUGE),
        lambda: method(HUGE, "join", ["a", "b", "c"]),
        lambda: method("aaa", "replace", "a", HUGE),
        lambda: method(["a"] * 1_001, "index", "b"),
    ],
)
def test_an_operation_that_takes_too_much_is_not_begun(operation):
    with pytest.raises(EffortSpentError):
        operation()


def test_a_number_stays_as_small_as_any_real_one():
    with pytest.raises(CannotEvaluateError):
        values.binary("Mult", 1 << 40, 1 << 40, Effort())


@pytest.mark.parametrize("sign", ["Sub", "Mult", "Mod", "FloorDiv"])
@pytest.mark.parametrize("other", [1, "%s", ["a"], SumValue((["a"],))])
def test_what_an_operator_makes_of_something_unknown_is_that_unknown_thing(sign, other):
    assert values.binary(sign, other, UNKNOWN, Effort()) is UNKNOWN
    assert values.binary(sign, UNKNOWN, other, Effort()) is UNKNOWN
    assert values.compared("Eq", [[other, UNKNOWN]], other, Effort()) is UNKNOWN


def test_a_list_keeps_what_is_known_beside_what_is_not():
    assert values.plus(["a"], UNKNOWN, Effort()) == ["a", UNKNOWN]
    assert values.plus(UNKNOWN, ["a"], Effort()) == [UNKNOWN, "a"]
    grown = ["a"]
    assert values.plus_in_place(grown, UNKNOWN, Effort()) is grown
    assert grown == ["a", UNKNOWN]
    assert values.subscript(grown, 0, Effort()) is UNKNOWN  # what is added may be empty, or come first


def test_lists_and_selects_are_added_up_apart():
    select = values.call_function(BuiltinFunction("select"), [{"//c": ["b"]}], {}, Effort())
    total = values.plus(values.plus(["a"], select, Effort()), ["c"], Effort())
    assert [part.branches if isinstance(part, SelectValue) else part for part in total.parts] == [
        ["a"],
        (["b"],),
        ["c"],
    ]
    for refused in (
        lambda: values.truth(total),
        lambda: values.elements(total),
        lambda: values.plus(total, "a", Effort()),
    ):
        with pytest.raises(CannotEvaluateError):
            refused()


def test_a_conditional_function_gives_one_of_its_lists_or_nothing():
    (part,) = values.conditional_call([["a"], ["b"]], Effort()).parts
    assert part.branches == (["a"], ["b"], [])
    with pytest.raises(CannotEvaluateError):
        values.conditional_call(["a"], Effort())
