"""The JSON Schema of a document's types, and that it says the same as the reader."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving.documents import JSON, NamedValues, Rule, json_schema, parse_document
from npu_serving.errors import DocumentError

Name = Annotated[str, Rule(pattern="[a-z]{1,4}", expected="a name of one to four small letters")]


Texts = Union[str, tuple[str, ...]]


@dataclass(frozen=True)
class Batching:
    size: Annotated[int, Rule(minimum=1, maximum=8)]
    wait: float = 0.5


@dataclass(frozen=True)
class Model:
    """One model of a server."""

    name: Name
    batching: Batching | None = None
    versions: Annotated[tuple[int, ...], Rule(fewest=1)] = (1,)
    policy: Literal["all", "latest"] | int = "all"


@dataclass(frozen=True)
class Server:
    """A server and its models."""

    models: tuple[Model, ...]
    rest_port: int = field(default=0, metadata={"key": "rest-port", "help": "0 for no REST API"})
    labels: Mapping[Name, bool] = field(default_factory=dict)
    rest: Any = None


@dataclass(frozen=True)
class Tree:
    name: str
    branches: tuple[Tree, ...] = ()


SCHEMA = json_schema(Server)
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def schema_accepts(document: object) -> bool:
    return bool(VALIDATOR.is_valid(document))


def reader_accepts(document: object) -> bool:
    try:
        parse_document(json.dumps(document), Server, where="x", syntax=JSON)
    except DocumentError:
        return False
    return True


def test_the_schema_is_a_valid_one_of_the_draft_of_2020_12() -> None:
    for kind in (Server, Tree):
        jsonschema.Draft202012Validator.check_schema(json_schema(kind))
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_has_names_descriptions_and_what_is_required() -> None:
    server = SCHEMA["$defs"]["Server"]
    assert server["required"] == ["models"]
    assert server["properties"]["rest-port"] == {"type": "integer", "description": "0 for no REST API"}
    assert server["description"] == "A server and its models."
    assert "description" not in SCHEMA["$defs"]["Batching"], "it has no docstring of its own"


def test_a_format_is_part_of_the_schema() -> None:
    schema = json_schema(Server, format=3)
    assert schema["$defs"]["Server"]["required"] == ["format", "models"]
    assert jsonschema.Draft202012Validator(schema).is_valid({"format": 3, "models": []})
    assert not jsonschema.Draft202012Validator(schema).is_valid({"format": 2, "models": []})


def test_a_class_may_hold_others_of_itself() -> None:
    tree = {"name": "a", "branches": [{"name": "b", "branches": [{"name": "c"}]}]}
    assert jsonschema.Draft202012Validator(json_schema(Tree)).is_valid(tree)
    read = parse_document(json.dumps(tree), Tree, where="x", syntax=JSON)
    assert read.branches[0].branches[0] == Tree("c")
    deep: dict[str, object] = {"name": "a"}
    for _ in range(300):
        deep = {"name": "a", "branches": [deep]}
    assert dataclasses.is_dataclass(parse_document(json.dumps(deep), Tree, where="x", syntax=JSON))


# Values that fit, mixed with such as don't. 1.0 is left out: JSON Schema takes it for an integer, the reader doesn't.
ODD = st.sampled_from([None, True, 0, 1, -1, 9, 0.25, "", "abc", "abcde", "A", "all", [], [1], ["a"], {}, {"a": True}])
NUMBERS = st.integers(-3, 12)
BATCHING = st.fixed_dictionaries({}, optional={"size": NUMBERS | ODD, "wait": st.sampled_from([0.25, 2]) | ODD})
MODEL = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex("[a-z]{1,4}", fullmatch=True) | ODD,
        "batching": BATCHING | ODD,
        "versions": st.lists(NUMBERS | ODD, max_size=3) | ODD,
        "policy": st.sampled_from(["all", "latest"]) | ODD,
        "polcy": ODD,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "models": st.lists(MODEL, max_size=2) | ODD,
        "rest-port": NUMBERS | ODD,
        "rest_port": NUMBERS,
        "labels": st.dictionaries(st.sampled_from(["a", "ab", "A", "abcde"]), st.booleans() | ODD, max_size=2) | ODD,
        "rest": ODD,
    },
)
GOOD = st.fixed_dictionaries(
    {
        "models": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["a", "bcd"])},
                optional={
                    "batching": st.none() | st.fixed_dictionaries({"size": st.integers(1, 8)}),
                    "versions": st.lists(NUMBERS, min_size=1, max_size=2),
                    "policy": st.sampled_from(["all", "latest", 3]),
                },
            ),
            max_size=2,
        )
    },
    optional={"rest-port": NUMBERS, "labels": st.dictionaries(st.sampled_from(["a", "b"]), st.booleans()), "rest": ODD},
)


@given(DOCUMENTS | ODD)
@settings(max_examples=500)
def test_the_schema_and_the_reader_agree_on_any_document(document: object) -> None:
    empty = document is None  # an empty file, for the reader
    assert schema_accepts(document) == reader_accepts(document) or empty


@given(GOOD)
def test_both_take_what_is_right(document: object) -> None:
    assert schema_accepts(document)
    assert reader_accepts(document)


@given(GOOD, st.data())
def test_both_refuse_a_document_with_one_thing_wrong(document: dict[str, Any], data: st.DataObject) -> None:
    wrong = data.draw(st.sampled_from([("rest-port", "1"), ("rest_port", 1), ("models", {}), ("labels", {"A": True})]))
    broken = {**document, wrong[0]: wrong[1]}
    assert not schema_accepts(broken)
    assert not reader_accepts(broken)


@dataclass(frozen=True)
class Table:
    """Keys that may be any, and one with a kind of its own."""

    values: Annotated[dict[str, Any], NamedValues({"lists": Texts}, otherwise=int)]


def test_some_keys_of_a_table_may_have_a_kind_of_their_own() -> None:
    validator = jsonschema.Draft202012Validator(json_schema(Table))
    for values, right in (
        ({"lists": ["a"], "other": 1}, True),
        ({"lists": "a"}, True),
        ({"lists": 1}, False),
        ({"other": ["a"]}, False),
    ):
        document = {"values": values}
        assert validator.is_valid(document) is right
        if right:
            assert parse_document(json.dumps(document), Table, where="x").values["lists"] in ("a", ("a",))
        else:
            with pytest.raises(DocumentError, match="must be"):
                parse_document(json.dumps(document), Table, where="x")
