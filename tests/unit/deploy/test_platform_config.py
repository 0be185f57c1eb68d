"""The text-format files: what is always in them, and that no value gets out of its quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from text_proto_reader import read_string

from npu_serving.deploy.platform_config import (
    PlatformConfigFile,
    PlatformEntry,
    ServedModel,
    read_platform_config,
    render_models_config,
    render_platform_config,
)
from npu_serving.errors import RequestError
from npu_serving.options.session_options import OptionValue


def for_npu(options: Mapping[str, OptionValue]) -> str:
    """A config whose one entry has these session options."""
    return render_platform_config({"tensorflow": PlatformEntry(options)})


def parameters(text: str) -> dict[str, str]:
    return dict(re.findall(r'parameter_map \{ key: "(\w+)" value \{ (.*) \} \}\n', text))


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(texts)
@example("precision_mode_v2")  # which the template holds too
@example('"} } parameter_map { key: "x" value { b: true } }\n')
def test_a_value_can_not_add_a_field(value: str) -> None:
    text = for_npu({"profiling_options": value})
    plain = for_npu({"profiling_options": ""})
    assert len(text.split("\n")) == len(plain.split("\n"))
    written, others = parameters(text), parameters(plain)
    assert read_string(written.pop("profiling_options").removeprefix("s: ")) == value.encode()
    assert others.pop("profiling_options") == 's: ""'
    assert written == others


def test_the_kind_of_a_value_decides_its_field() -> None:
    written = parameters(for_npu({"mix_compile_mode": True, "hcom_parallel": 7, "job": '{"a":"b"}'}))
    assert written["mix_compile_mode"] == "b: true"
    assert written["hcom_parallel"] == "i: 7"
    assert written["job"] == r's: "{\"a\":\"b\"}"'


def test_inference_on_the_npu_is_always_switched_on_and_the_rewriters_always_off() -> None:
    text = for_npu({})
    assert parameters(text) == {
        "use_off_line": "b: true",
        "graph_run_mode": "i: 0",
        "precision_mode_v2": 's: "fp16"',
    }
    assert "remapping: OFF\n" in text
    assert text.count("{") == text.count("}")


def test_memory_optimisation_is_switched_off_by_the_name_its_own_enumeration_has() -> None:
    assert "memory_optimization: NO_MEM_OPT\n" in for_npu({})


def test_the_old_precision_option_is_accepted_and_then_stands_alone() -> None:
    written = parameters(for_npu({"precision_mode": "allow_mix_precision"}))
    assert "precision_mode_v2" not in written
    assert written["precision_mode"] == 's: "allow_mix_precision"'


@pytest.mark.parametrize(
    "options",
    [
        {"graph_run_mode": 1},
        {"graph_run_mode": False},
        {"use_off_line": False},
        {"use_off_line": 1},
        {"precision_mode": "force_fp16", "precision_mode_v2": "fp16"},
        {"a b": 1},
        {'x" value { b: true': 1},
        {"": 1},
        {"number": 2**63},
        {"number": 1.5},
        {"text": "a\0b"},
    ],
)
def test_options_that_would_not_serve_or_can_not_be_written_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RequestError):
        for_npu(options)  # type: ignore[arg-type]


def test_models_are_listed_with_quoted_paths() -> None:
    path = Path('/srv/it\'s "quoted"\nand näive')
    text = render_models_config([ServedModel("a", str(path)), ServedModel("b", "/srv/b")])
    quoted = re.findall(r"base_path: (.*)\n", text)
    assert [read_string(item) for item in quoted] == [str(path).encode(), b"/srv/b"]
    assert re.findall(r'name: "(.*)"', text) == ["a", "b"]


@pytest.mark.parametrize(
    "models",
    [
        [],
        [ServedModel("a", "relative")],
        [ServedModel("a", "/x"), ServedModel("a", "/y")],
        [ServedModel("a' base_path: '/etc", "/x")],
        [ServedModel("", "/x")],
        [ServedModel("..", "/x")],
        [ServedModel("with blank", "/x")],
        [ServedModel("a\n", "/x")],
    ],
)
def test_a_list_of_models_that_no_server_could_offer_is_refused(models: list[ServedModel]) -> None:
    with pytest.raises(RequestError):
        render_models_config(models)


# ---- what a file asks for


def asks(tmp_path: Path, text: str) -> PlatformConfigFile:
    path = tmp_path / "config.cfg"
    path.write_text(text, encoding="utf-8")
    return read_platform_config(path)


def test_the_config_that_is_written_here_asks_for_the_npu(tmp_path: Path) -> None:
    assert asks(tmp_path, for_npu({"mix_compile_mode": True})) == PlatformConfigFile(asks_for_npu=True)
    assert not asks(tmp_path, 'platform_configs { key: "tensorflow" value { } }').asks_for_npu
    assert not asks(tmp_path, "").asks_for_npu


@pytest.mark.parametrize(("optimizer", "asked"), [("NpuOptimizer", True), ("Another", False)])
def test_a_message_that_stands_there_as_bytes_asks_for_the_npu_by_the_name_in_it(
    tmp_path: Path, optimizer: str, asked: bool
) -> None:
    packed = rf'type_url: "type.googleapis.com/x" value: "\n&\022$R\"R {optimizer}\022\002(\001"'
    text = f'platform_configs {{ key: "tensorflow" value {{ source_adapter_config {{ {packed} }} }} }}'
    assert asks(tmp_path, text) == PlatformConfigFile(asks_for_npu=asked)


def test_the_cure_of_each_mistake_in_a_config_helps(tmp_path: Path) -> None:
    """Follows what the error says, in the file that it names."""
    good = for_npu({})
    value = good[good.index("use_off_line") :].split("\n")[0]
    for wrong in (
        good.replace("NpuOptimizer", "NPUOptimizer"),
        good.replace(value, value.replace("b: true", "i: 1")),
        good.replace(value, value.replace("b: true", 's: "true"')),
    ):
        assert wrong != good
        with pytest.raises(RequestError) as caught:
            asks(tmp_path, wrong)
        file, line, _ = caught.value.what.split(":", 2)
        lines = (tmp_path / "config.cfg").read_text().splitlines()
        assert file == str(tmp_path / "config.cfg")
        cure = caught.value.cure.removeprefix("write ")
        place = next(i for i in range(int(line) - 1, len(lines)) if cure.split()[0].rstrip(":") in lines[i])
        pattern = r'name: ".*?"' if cure.startswith("name") else r"value { .*? }"
        lines[place] = re.sub(pattern, cure, lines[place], count=1)
        assert asks(tmp_path, "\n".join(lines)).asks_for_npu


def test_of_an_option_that_stands_twice_the_last_counts(tmp_path: Path) -> None:
    entry = 'parameter_map { key: "use_off_line" value { b: %s } } '
    text = f'a {{ custom_optimizers {{ name: "NpuOptimizer" {entry % "true"}{entry % "false"} }} }}'
    assert not asks(tmp_path, text).asks_for_npu


def test_a_file_that_is_no_text_format_is_left_to_the_server_with_its_place(tmp_path: Path) -> None:
    config = asks(tmp_path, 'platform_configs {\n  key: "tensorflow\n}')
    assert config.trouble.startswith(f"{tmp_path}/config.cfg:2:8: ")
    assert not config.asks_for_npu
