"""One document of several: how they are merged, and where the mistakes of each are."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from npu_serving.documents import read_layers
from npu_serving.errors import DocumentError, FileAccessError, RequestError


@dataclass(frozen=True)
class Item:
    name: str
    count: int = 1
    tags: tuple[str, ...] = ()
    options: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Whole:
    items: tuple[Item, ...] = ()
    port: int = 8500
    note: str | None = None
    options: Mapping[str, int | str] = field(default_factory=dict)


class Files:
    """Writes the layers, and reads them as one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def read(self, *texts: str, values: Sequence[str] = ()) -> Whole:
        paths = []
        for number, text in enumerate(texts):
            path = self.directory / f"{number}.yaml"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        named: Mapping[tuple[str | int, ...], str] = {("items",): "name"}
        return read_layers(paths[0], Whole, overlays=paths[1:], values=values, named_lists=named)

    def mistakes(self, *texts: str, values: Sequence[str] = ()) -> list[str]:
        with pytest.raises(DocumentError) as caught:
            self.read(*texts, values=values)
        return caught.value.what.replace(f"{self.directory}/", "").split("\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


BASE = """\
items:
  - {name: a, count: 2, tags: [x, y], options: {p: 1, q: 2}}
  - {name: b}
port: 1
note: base
options: {k: 1, l: 2}
"""


def test_mappings_are_merged_named_items_by_their_name_and_all_else_is_replaced(files: Files) -> None:
    items = "items:\n  - {name: b, count: 7}\n  - {name: a, tags: [z], options: {q: 3}}\n  - {name: c}\n"
    over = f"{items}options: {{l: x, m: 4}}\n"
    assert files.read(BASE, over) == Whole(
        (Item("a", 2, ("z",), {"p": 1, "q": 3}), Item("b", 7), Item("c")), 1, "base", {"k": 1, "l": "x", "m": 4}
    )


def test_the_last_layer_counts_and_an_empty_one_changes_nothing(files: Files) -> None:
    assert files.read(BASE, "port: 2", "", "# nothing", "port: 3").port == 3
    assert files.read(BASE, "port: 2", values=["port=4", "port=5"]).port == 5
    assert files.read("", "port: 2").port == 2


def test_a_null_takes_the_key_out_so_that_the_default_counts(files: Files) -> None:
    made = files.read(BASE, "{port: null, note: ~, options: {k: null, new: null}, items: [{name: a, count: null}]}")
    assert (made.port, made.note, made.options, made.items[0].count) == (8500, None, {"l": 2}, 1)
    assert files.read(BASE, values=["port=", "options.k=null"]) == Whole(files.read(BASE).items, 8500, "base", {"l": 2})


def test_single_values_are_yaml_reach_into_lists_by_number_and_make_what_is_missing(files: Files) -> None:
    values = [
        "items.1.count=3",
        "items.1.name=new",
        "options.a\\.b=1",
        "note=1.0.0",
        "items.0.options.r=s",
        "port=0x10",
    ]
    made = files.read(BASE, values=values)
    assert made.items[1] == Item("new", 3)
    assert made.options == {"k": 1, "l": 2, "a.b": 1}
    assert made.note == "1.0.0"
    assert made.items[0].options == {"p": 1, "q": 2, "r": "s"}
    assert made.port == 16
    assert files.read("", values=["options={a: 1, b: x}", "options.b=y=z"]).options == {"a": 1, "b": "y=z"}
    assert files.read(BASE, values=["note.deeper=1", "note=text"]).note == "text"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("port", "names no value"),
        ("=1", "names no value"),
        (".port=1", "names no value"),
        ("items..count=1", "names no value"),
        ("items.2.count=1", "there is no item '2' here"),
        ("items.-1.count=1", "there is no item '-1' here"),
        ("items.a.count=1", "there is no item 'a' here"),
        ("note=[1", "not valid YAML"),
        ("note=!!str x", "tags are not read"),
        ("note={a: 1, a: 2}", "is there twice"),
    ],
)
def test_a_value_that_can_not_be_set_is_refused_with_the_flag(files: Files, value: str, said: str) -> None:
    with pytest.raises(RequestError, match=r"--set") as caught:
        files.read(BASE, values=[value])
    assert said in caught.value.what
    assert caught.value.cure


def test_each_mistake_is_placed_in_the_layer_that_its_value_comes_from(files: Files) -> None:
    over = "items:\n  - {name: b, count: x}\n  - {nam: c}\nport: 70\noptions: {l: [1]}\n"
    assert files.mistakes("port: yes\nnote: 5\n", over, values=["items.0.count=true", "nots=1"]) == [
        "0.yaml:2:7: note: must be a text or null, not 5.",
        "1.yaml:3:6: items[1].nam: unknown key; did you mean name?",
        "1.yaml:5:14: options.l: must be a whole number or a text, not a list.",
        "--set items.0.count: items[0].count: must be a whole number, not true.",
        "--set nots: unknown key; did you mean note?",
    ]


def test_a_layer_that_is_no_yaml_is_named_with_the_mistakes_of_spelling_in_the_others(files: Files) -> None:
    found = files.mistakes("port: 1\nport: 2\n", "a: [\n", "note: !x y\n")
    assert [line.split(" ")[0] for line in found] == ["0.yaml:2:1:", "1.yaml:2:1:", "2.yaml:1:7:"]


def test_what_is_missing_in_the_whole_is_placed_at_the_item_that_lacks_it(files: Files) -> None:
    assert files.mistakes(BASE, "port: 1\nitems:\n  - {count: 3}\n") == ["1.yaml:3:5: items[2].name: is missing."]


def test_values_that_an_alias_shares_are_changed_in_one_place_only(files: Files) -> None:
    made = files.read(
        "items: [{name: a, options: &o {p: 1}}, {name: b, options: *o}]\noptions: *o\n", values=["options.p=2"]
    )
    assert [item.options for item in made.items] == [{"p": 1}, {"p": 1}]
    assert made.options == {"p": 2}
    shared = "items: [{name: a, options: &o {p: 1}}, {name: b, options: *o}]\noptions: *o\n"
    assert [item.options for item in files.read(shared, "options: {p: 2}").items] == [{"p": 1}, {"p": 1}]


def test_what_a_layer_replaces_as_a_whole_is_no_longer_placed_in_the_one_before(files: Files) -> None:
    found = files.mistakes("note: x\n", "options: {a: {b: 1}}\n", "options: 5\n", values=["options={a: {b: 2}}"])
    assert found == ["--set options: options.a: must be a whole number or a text, not keys with values."]


def test_a_layer_that_aliases_make_too_deep_is_refused_without_a_traceback(files: Files) -> None:
    deep = "".join(f"  k{number}: &k{number} {{a: *k{number - 1}}}\n" for number in range(1, 440))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    try:
        found = files.mistakes("port: 1", f"note:\n  k0: &k0 {{a: 1}}\n{deep}")
    finally:
        sys.setrecursionlimit(limit)
    assert found == ["1.yaml:1:1: is nested too deeply."]


def test_the_error_says_which_texts_to_correct_and_a_program_gets_the_source_of_each(files: Files) -> None:
    with pytest.raises(DocumentError) as caught:
        files.read("port: 1", "port: x", values=["note=[]"])
    assert caught.value.cure == f"correct {files.directory}/1.yaml and --set note"
    found = caught.value.details["mistakes"]
    assert isinstance(found, list)
    assert [item["source"] for item in found] == [f"{files.directory}/1.yaml", "--set note"]


def test_a_file_that_is_not_there_is_named(files: Files) -> None:
    with pytest.raises(FileAccessError, match=r"none\.yaml"):
        read_layers(files.directory / "none.yaml", Whole)


def test_json_is_a_layer_too_and_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbfport: 1\r\nnote: x\r\n")
    (tmp_path / "b.json").write_text('{"port": 2}')
    assert read_layers(tmp_path / "a.yaml", Whole, overlays=[tmp_path / "b.json"]) == Whole(port=2, note="x")


plain = some.recursive(
    some.integers() | some.text("ab", max_size=2),
    lambda inner: some.lists(inner, max_size=2) | some.dictionaries(some.text("abc", min_size=1, max_size=1), inner),
    max_leaves=6,
)


@dataclass(frozen=True)
class Anything:
    """A document of any content."""

    value: object = None


@given(base=some.dictionaries(some.text("abc", min_size=1, max_size=1), plain), over=plain)
@settings(max_examples=60)
def test_a_layer_merged_with_itself_is_itself_and_one_onto_nothing_is_that_one(
    tmp_path_factory: pytest.TempPathFactory, base: object, over: object
) -> None:
    directory = tmp_path_factory.mktemp("layers")
    first, second, empty = (directory / name for name in ("a.json", "b.json", "c.json"))
    first.write_text(json.dumps({"value": base}))
    second.write_text(json.dumps({"value": over}))
    empty.write_text("{}")
    assert read_layers(first, Anything, overlays=[first]).value == base
    assert read_layers(empty, Anything, overlays=[second]).value == over
    if not isinstance(over, dict):
        assert read_layers(first, Anything, overlays=[second]).value == over
