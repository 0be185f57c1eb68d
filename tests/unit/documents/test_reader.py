"""The reader of YAML and JSON: values, types, places, and every mistake of a file at once."""

from __future__ import annotations

import enum
import json
import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from npu_serving import documents
from npu_serving.documents import (
    JSON,
    YAML,
    DocumentRefusal,
    Rule,
    parse_document,
    read_document,
    syntax,
)
from npu_serving.documents.syntax import UnreadableError, find_places, parse
from npu_serving.errors import DocumentError, FileAccessError, LockFileError

Port = Annotated[int, Rule(minimum=1, maximum=65535)]
Digest = Annotated[str, Rule(pattern="[0-9a-f]{8}", expected="8 hexadecimal digits")]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Model:
    name: str
    path: Path = Path("/models")
    versions: tuple[int, ...] = ()
    share: float = 1.0
    warm: bool = False
    digest: Digest | None = None
    mode: Literal["fast", "exact"] = "fast"
    colour: Colour = Colour.RED


@dataclass(frozen=True)
class Deployment:
    port: Port
    rest_port: Port | None = field(default=None, metadata={"key": "rest-port", "help": "none: no REST API"})
    models: Annotated[tuple[Model, ...], Rule(fewest=1)] = (Model("default"),)
    labels: Mapping[str, int] = field(default_factory=dict)
    devices: Literal["all"] | int | tuple[int, ...] = "all"
    notes: Any = None

    def problems(self) -> Iterator[tuple[str | tuple[str | int, ...], str]]:
        if self.port == self.rest_port:
            yield "rest-port", f"is {self.port}, and so is port"
        names = [model.name for model in self.models]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield ("models", index, "name"), f"{name} is there twice"


def read(text: str, kind: type = Deployment, **more: Any) -> Any:
    return parse_document(text, kind, where="d.yaml", **more)


def mistakes(text: str, kind: type = Deployment, **more: Any) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        read(text, kind, **more)
    return caught.value.what.split("\n")


WHOLE = """\
port: 8500
rest-port: 8501
models:
  - name: resnet
    path: /srv/resnet
    versions: [1, 2]
    share: 0.5
    warm: true
    digest: "01234567"
    mode: exact
    colour: blue
  - {name: bert, share: 1}
labels: {stable: 2, 3: 4}
devices: [0, 1]
"""
READ = Deployment(
    8500,
    8501,
    (
        Model("resnet", Path("/srv/resnet"), (1, 2), 0.5, True, "01234567", "exact", Colour.BLUE),
        Model("bert", share=1.0),
    ),
    {"stable": 2, "3": 4},
    (0, 1),
)


def test_a_document_becomes_its_dataclasses_from_yaml_and_from_json() -> None:
    assert read(WHOLE) == READ
    as_json = json.dumps(yaml.safe_load(WHOLE.replace("3: 4", "'3': 4")))
    assert read(as_json, syntax=JSON) == READ
    assert isinstance(read(WHOLE).models[1].share, float)


def test_what_is_left_out_has_its_default() -> None:
    assert read("port: 1") == Deployment(1)
    assert read("port: 1\nrest-port: null\nnotes: {a: [1, null]}").notes == {"a": [1, None]}


def test_all_mistakes_of_a_file_are_told_at_once_each_with_its_place() -> None:
    text = """\
prot: "8500"
models:
  - name: 1.15
    shaer: 0.5
  - path: ""
    versions: [1, "2", true, 2.0]
    digest: xyz
    warm: yes
    mode: exakt
    colour: green
labels:
  stable: one
devices: {0: 1}
"""
    assert mistakes(text) == [
        "d.yaml:1:1: prot: unknown key; did you mean port?",
        "d.yaml:3:11: models[0].name: must be a text, not 1.15: write a string that looks like this in quotes.",
        "d.yaml:4:5: models[0].shaer: unknown key; did you mean share?",
        "d.yaml:5:5: models[1].name: is missing.",
        "d.yaml:5:11: models[1].path: must be a path, not ''.",
        "d.yaml:6:19: models[1].versions[1]: must be a whole number, not '2': leave out the quotes.",
        "d.yaml:6:24: models[1].versions[2]: must be a whole number, not true.",
        "d.yaml:6:30: models[1].versions[3]: must be a whole number, not 2.0.",
        "d.yaml:7:13: models[1].digest: must be 8 hexadecimal digits, not 'xyz'.",
        "d.yaml:8:11: models[1].warm: must be true or false, not 'yes'.",
        "d.yaml:9:11: models[1].mode: must be one of fast, exact, not 'exakt': did you mean exact?",
        "d.yaml:10:13: models[1].colour: must be one of red, blue, not 'green'.",
        "d.yaml:12:11: labels.stable: must be a whole number, not 'one'.",
        "d.yaml:13:10: devices: must be all or a whole number or a list, not keys with values.",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('port: "8500"', "1:7: port: must be a whole number from 1 to 65535, not '8500': leave out the quotes."),
        ("port: 1\ndevices: none", "2:10: devices: must be all or a whole number or a list, not 'none'."),
        ("port: 0777", "1:7: port: must be a whole number from 1 to 65535, not '0777': leave out the zeros in front."),
        ("port: 1_000", "1:7: port: must be a whole number from 1 to 65535, not '1_000': write it without _."),
        ("port: 12:30:00", "1:7: port: must be a whole number from 1 to 65535, not '12:30:00'."),
        ("port: 0", "1:7: port: must be a whole number from 1 to 65535, not 0."),
        ("port: 65536", "1:7: port: must be a whole number from 1 to 65535, not 65536."),
        ("port:", "1:6: port: must be a whole number from 1 to 65535, not null."),
        ("port: 1\nmodels: []", "2:9: models: must have 1 item or more."),
        ("port: 1\nmodels: {}", "2:9: models: must be a list, not keys with values."),
        ("port: 1\nmodels: [a]", "2:10: models[0]: must be keys with values, not 'a'."),
        ("port: 1\nmodels: [{name: a, share: .inf}]", "2:27: models[0].share: must be a number, not inf."),
        ("port: 1\nzzz: 1", "2:1: zzz: unknown key; the keys are port, rest-port, models, labels, devices, notes."),
        ("[1]", "1:1: must be keys with values, not a list."),
        ("", "1:1: port: is missing."),
        ("# nothing", "1:1: port: is missing."),
    ],
)
def test_a_value_that_cannot_be_meant_is_told_with_what_to_write(text: str, said: str) -> None:
    assert mistakes(text) == [f"d.yaml:{said}"]


def test_rules_over_several_fields_point_at_the_field() -> None:
    text = "port: 1\nrest-port: 1\nmodels:\n- name: a\n- name: b\n- name: a\n"
    assert mistakes(text) == [
        "d.yaml:2:12: rest-port: is 1, and so is port.",
        "d.yaml:6:9: models[2].name: a is there twice.",
    ]


def test_the_mistakes_are_there_for_programs_too() -> None:
    with pytest.raises(DocumentError) as caught:
        read("port: x")
    assert caught.value.to_json()["mistakes"] == [
        {"line": 1, "column": 7, "path": "port", "message": "must be a whole number from 1 to 65535, not 'x'"}
    ]
    assert caught.value.exit_code == 2


def test_of_thousands_of_mistakes_the_first_hundred_are_printed_and_the_others_counted() -> None:
    lines = mistakes("port: 1\nmodels:\n" + "- {nam: a}\n" * 10_000)
    assert len(lines) == 101
    assert lines[-1] == "d.yaml: and 9900 more mistakes."


@pytest.mark.parametrize(
    "text", ["yes", "no", "on", "off", "y", "N", "1_000", "12:30:00", "0777", "2020-01-01", "1.15.0"]
)
def test_what_only_older_yaml_takes_for_something_else_is_a_text(text: str) -> None:
    assert parse(text, YAML)[0] == text


@pytest.mark.parametrize(
    ("text", "value"),
    [("0o17", 15), ("0x1F", 31), ("1e3", 1000.0), ("-.5", -0.5), ("1.", 1.0), ("~", None), ("TRUE", True), ("-0", 0)],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = parse(text, YAML)[0]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_texts_whatever_they_look_like() -> None:
    assert parse("on: 1\n1: 2\nnull: 3\n1.0: 4", YAML)[0] == {"on": 1, "1": 2, "null": 3, "1.0": 4}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("port: 1\nport: 2", "2:1: port: is there twice"),
        ("port: 1\n'port': 2", "2:1: port: is there twice"),
        ("port: 1\nmodels: [{name: a, name: b}]", "2:20: models[0].name: is there twice"),
        ("port: !!python/object/apply:os.system [id]", "1:7: port: has the tag 'tag:yaml.org,2002:python/object"),
        ("port: !!int 1", "1:7: port: has the tag 'tag:yaml.org,2002:int'"),
        ("port: !mine 1", "1:7: port: has the tag '!mine'"),
        ("!!str port: 1", "1:1: has the tag"),
        ("port: 1\nmodels:\n- &a {name: a}\n- {<<: *a, share: 0.1}", "4:4: models[1].<<: is a merge key"),
        ("port: 1\n---\nport: 2", "2:1: a second document begins here"),
        ("port: *p", "1:7: port: is the alias *p, and no value"),
        ("notes: &n [*n]", "1:12: notes[0]: is the alias *n, and no value"),
        ("? [a]\n: 1", "1:3: a key has to be a text"),
        ("&a port: 1\n*a : 2", "2:1: an alias can't be a key"),
        ("port: 1\n\tmodels: 2", "2:1: this is not valid YAML"),
        ("port: [1", "2:1: this is not valid YAML"),
        ("a: b: c", "1:5: this is not valid YAML"),
        ("notes: " + "[" * 101 + "]" * 101, "is nested more than 100 levels deep"),
        ("port: 1\nnotes: a\0b", "2:9: the control character U+0000 may not stand in a text file"),
        ("port: 1\nnotes: \ud800", "2:8: the control character U+D800"),
    ],
)
def test_what_no_document_should_do_is_refused_with_its_place(text: str, said: str) -> None:
    assert any(said in line for line in mistakes(text)), mistakes(text)


def test_a_merge_key_does_not_hide_the_other_mistakes() -> None:
    lines = mistakes("port: x\nmodels: [{<<: {name: a}, name: 1}]")
    assert [line.split(": ")[1] for line in lines] == ["port", "models[0].<<", "models[0].name"]


def test_an_alias_stands_for_its_value_and_mistakes_in_it_are_told_where_it_stands() -> None:
    assert read("port: 1\nmodels:\n- &m {name: a}\nnotes: *m").notes == {"name": "a"}
    text = "port: 1\nnotes: &v [x]\nmodels: [{name: a, versions: *v}]"
    assert mistakes(text) == ["d.yaml:3:30: models[0].versions[0]: must be a whole number, not 'x'."]


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert any(  # a reader without a bound would fill the memory instead
        "the aliases up to here stand for more than 100000 values" in line for line in mistakes("\n".join(lines))
    )


def test_json_says_where_it_is_broken_and_which_key_is_there_twice() -> None:
    assert mistakes('{"port": 1,\n "labels": {"a": 1, "a": 2},}', syntax=JSON)[0].startswith("d.yaml:2:")
    assert mistakes('{"port": 1,\n "labels": {"a": 1, "b": [1, {}], "a": 2}}', syntax=JSON) == [
        "d.yaml:2:26: labels.b: must be a whole number, not a list.",
        "d.yaml:2:35: labels.a: is there twice: keep one of the two.",
    ]
    assert "nested too deeply" in mistakes("[" * 100_000, syntax=JSON)[0]
    assert mistakes('{"port": 1,\n"notes": ' + "9" * 5000 + "}", syntax=JSON) == [
        "d.yaml:2:10: this number has too many digits."
    ]


def test_json_may_be_indented_with_tabs_and_hold_what_yaml_reads_otherwise() -> None:
    text = '{\n\t"port":\t8500, "notes": [1e3, "a\\/b\\ud83d\\ude00", "\\u0000", "yes"]}'
    assert read(text, syntax=JSON).notes == [1000.0, "a/b\U0001f600", "\0", "yes"]


def test_a_place_is_that_of_the_value_in_either_syntax() -> None:
    places = find_places(WHOLE, YAML)
    assert places.of(("models", 0, "share")) == (7, 12)
    assert [places.of(path)[0] for path in (("models", 1), ("models", 7, "x"), ("nothing",))] == [12, 4, 1]
    text = '{"port": 1,\n\n "models": [{"name": "a"},\n  {"name": "b"}]}'
    assert find_places(text, JSON).of(("models", 1, "name")) == (4, 12)


def test_a_file_is_read_by_its_name_and_its_bytes_have_to_be_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_bytes(b"\xef\xbb\xbfport: 1\n")
    assert read_document(path, Deployment).port == 1
    path.write_bytes("port: 1\nnotes: ü\xff".encode("latin-1"))
    with pytest.raises(DocumentError, match=r"d\.yaml:2:8: this is not UTF-8 text: the byte 0xfc does not fit"):
        read_document(path, Deployment)
    with pytest.raises(FileAccessError, match="none"):
        read_document(tmp_path / "none.yaml", Deployment)


def test_a_caller_chooses_the_error_and_what_it_says() -> None:
    refusal = DocumentRefusal("This is no lock:", LockFileError, "an editor", "make it new")
    with pytest.raises(LockFileError) as caught:
        read("port: x", refusal=refusal)
    assert caught.value.what.startswith("This is no lock:\nd.yaml:1:7: port: ")
    assert (caught.value.cause, caught.value.cure) == ("an editor", "make it new")
    with pytest.raises(DocumentError) as plain:
        read("port: x")
    assert plain.value.cure == "correct d.yaml"


def test_another_format_is_the_only_mistake_that_is_told() -> None:
    assert read("format: 2\nport: 1", format=2) == Deployment(1)
    assert mistakes("format: 3\nprot: 1", format=2) == ["d.yaml:1:9: format: is 3, and this program reads format 2."]
    assert mistakes("port: 1", format=2) == ["d.yaml:1:1: format: is missing, and this program reads format 2."]
    assert mistakes("format: true\nport: 1", format=1)[0].startswith("d.yaml:1:9: format: is True")


def test_unknown_keys_are_passed_over_only_where_the_caller_says_so() -> None:
    assert read("port: 1\nnewer: 2", ignore_unknown=True) == Deployment(1)
    assert "newer" in mistakes("port: 1\nnewer: 2")[0]


def test_a_key_that_could_confuse_a_terminal_is_shown_escaped() -> None:
    assert "['a\\x1b[31m b']" in mistakes('{"port": 1, "a\\u001b[31m b": 2}', syntax=JSON)[0]


# ---- properties

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=15
)
PRINTABLE = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\u2028\u2029\x85\ufffe\uffff")
)
MODELS = st.builds(
    Model,
    name=PRINTABLE,
    path=PRINTABLE.filter(bool).map(Path),
    versions=st.lists(st.integers(), max_size=3).map(tuple),
    share=st.floats(allow_nan=False, allow_infinity=False),
    warm=st.booleans(),
    digest=st.none() | st.from_regex("[0-9a-f]{8}", fullmatch=True),
    mode=st.sampled_from(["fast", "exact"]),
    colour=st.sampled_from(Colour),
)


class Quoting(yaml.SafeDumper):
    """PyYAML writes YAML 1.1, where 0E0 is a text; quotes make it one everywhere."""


Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@given(VALUES)
def test_json_is_read_as_pythons_own_reader_does(value: object) -> None:
    assert parse(json.dumps(value), JSON) == (value, ())


@given(VALUES)
def test_places_are_found_for_every_value_of_json(value: object) -> None:
    text = json.dumps(value, indent=1)
    places = syntax.find_places(text, JSON)
    lines = text.split("\n")

    def check(part: object, path: tuple[str | int, ...]) -> None:
        line, column = places.values[path]
        begin = lines[line - 1][column - 1 :]
        assert begin.startswith(json.dumps(part)[:1])
        if isinstance(part, dict):
            for key, item in part.items():
                check(item, (*path, key))
        elif isinstance(part, list):
            for index, item in enumerate(part):
                check(item, (*path, index))

    check(value, ())


@given(st.lists(MODELS, max_size=4, unique_by=lambda model: model.name), st.booleans())
def test_what_is_written_as_yaml_is_read_back(models: list[Model], flow: bool) -> None:
    plain = [
        {**vars(model), "path": str(model.path), "versions": list(model.versions), "colour": model.colour.value}
        for model in models
    ]
    text = yaml.dump({"port": 7, "models": plain or [{"name": "default"}]}, Dumper=Quoting, default_flow_style=flow)
    assert read(text).models == (tuple(models) or (Model("default"),))


@given(st.text() | st.text(st.sampled_from("{}[]:,-?*&!|>'\"%@`# \n\tab01.<~"), max_size=40))
@settings(max_examples=500)
def test_no_text_brings_anything_but_a_document_or_its_error(text: str) -> None:
    for syntax_name in (YAML, JSON):
        try:
            parse_document(text, Deployment, where="x", syntax=syntax_name)
        except DocumentError as error:
            assert error.what.startswith("x:")


@given(st.binary())
def test_no_bytes_bring_anything_but_a_document_or_its_error(data: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_document(data, Deployment, where="x")


@given(VALUES)
def test_any_value_in_any_place_is_read_or_refused(value: object) -> None:
    for place in ("port", "rest-port", "models", "labels", "devices", "notes"):
        try:
            parse_document(json.dumps({"port": 1, place: value}), Deployment, where="x", syntax=JSON)
        except DocumentError as error:
            assert f" {place}" in error.what


@given(st.randoms(use_true_random=False))
def test_a_damaged_file_is_read_or_refused_with_a_place_in_it(chance: random.Random) -> None:
    letters = list(WHOLE)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(letters))
        letters[at : at + chance.randint(0, 3)] = chance.choices("{}[]:,-?*&!|>'\"% \n\tz9", k=chance.randint(0, 2))
    text = "".join(letters)
    try:
        read(text)
    except DocumentError as error:
        lines = text.count("\n") + 2
        assert all(1 <= place["line"] <= lines for place in error.to_json()["mistakes"])  # type: ignore[attr-defined]


@given(st.text(st.sampled_from("{}[]:,-?*&'\" \nab01.~"), max_size=30))
@settings(max_examples=300)
def test_pythons_own_yaml_parser_gives_the_same_where_there_is_no_libyaml(text: str) -> None:
    def outcome() -> object:
        try:
            value, troubles = parse(text, YAML)
        except UnreadableError:
            return "refused"
        return repr((value, [trouble.message for trouble in troubles]))

    with_c = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syntax, "_event_source", lambda text: yaml.SafeLoader(text).get_event)
        assert outcome() == with_c or "refused" in (with_c, outcome())


def test_a_type_that_no_document_can_hold_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="can't hold"):
        documents.json_schema(set)


def test_numbers_that_no_float_can_hold_are_refused() -> None:
    @dataclass(frozen=True)
    class Share:
        share: float

    Share.__module__ = __name__
    for number in ("1e999", "9" * 400, ".nan", "-.inf"):
        assert "must be a number" in mistakes(f"share: {number}", Share)[0]
    assert math.isclose(read("share: 1e300", Share).share, 1e300)


def test_half_of_a_character_is_refused_since_no_file_can_hold_it() -> None:
    said = mistakes('{"port": 1, "models": [{"name": "a\\ud800"}]}', syntax=JSON)
    assert any("has half of a character" in line for line in said), said
