"""A first deployment.yaml: what is found of the models, and that the file is one that render-deployment takes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some

from npu_serving.deploy.deployment_file import SCHEMA, read_deployment
from npu_serving.deploy.init_deployment import init_deployment
from npu_serving.errors import RequestError
from npu_serving.settings import PROJECT_ROOT


def model(directory: Path, *versions: str) -> Path:
    for version in versions:
        (directory / version).mkdir(parents=True)
        (directory / version / "saved_model.pb").write_bytes(b"")
    return directory


def test_the_file_has_the_models_and_the_versions_that_are_there(tmp_path: Path) -> None:
    resnet = model(tmp_path / "resnet", "1", "00000012")
    made = init_deployment([f"resnet={resnet}", "bert=s3://bucket/bert"], tmp_path / "d.yaml")
    assert made.changed
    assert [(found.name, found.versions) for found in made.models] == [("resnet", (1, 12)), ("bert", ())]
    read = read_deployment(tmp_path / "d.yaml")
    assert [(each.name, each.base_path) for each in read.models] == [
        ("resnet", str(resnet)),
        ("bert", "s3://bucket/bert"),
    ]
    assert read.uses_npu()
    assert "There are the versions 1, 12; the highest is served." in made.content


def test_the_first_line_has_editors_check_the_file_by_the_schema(tmp_path: Path) -> None:
    made = init_deployment([f"m={model(tmp_path / 'm', '1')}"], tmp_path / "d.yaml")
    first = made.content.split("\n")[0]
    assert first == f"# yaml-language-server: $schema={PROJECT_ROOT / SCHEMA}"
    assert (PROJECT_ROOT / SCHEMA).is_file()


def test_where_a_first_request_compiles_rest_waits_for_it_and_the_file_says_why(tmp_path: Path) -> None:
    word = f"m={model(tmp_path / 'm', '1')}"
    made = init_deployment([word], tmp_path / "npu.yaml")
    assert read_deployment(made.path).server.rest_api_timeout_in_ms == 600_000
    before = made.content.partition("rest_api_timeout_in_ms")[0].splitlines()[-3:-1]
    assert all(line.lstrip().startswith("#") for line in before)
    assert "takes minutes" in before[0]
    assert "./inv write-warmup" in before[1]
    on_cpu = init_deployment([word], tmp_path / "cpu.yaml", npu=False)
    assert read_deployment(on_cpu.path).server.rest_api_timeout_in_ms is None


def test_without_the_npu_there_is_no_section_for_it(tmp_path: Path) -> None:
    init_deployment([f"m={model(tmp_path / 'm', '1')}"], tmp_path / "d.yaml", npu=False)
    assert "npu" not in yaml.safe_load((tmp_path / "d.yaml").read_text())


def test_a_second_run_changes_nothing_and_what_was_edited_is_not_overwritten(tmp_path: Path) -> None:
    words = [f"m={model(tmp_path / 'm', '1')}"]
    path = tmp_path / "d.yaml"
    init_deployment(words, path)
    again = init_deployment(words, path)
    assert not again.changed
    assert "is up to date" in again.text()
    path.write_text(path.read_text() + "# mine\n")
    with pytest.raises(RequestError, match="not overwritten"):
        init_deployment(words, path)
    assert path.read_text().endswith("# mine\n")


def test_a_dry_run_prints_the_file_and_writes_none(tmp_path: Path) -> None:
    made = init_deployment([f"m={model(tmp_path / 'm', '1')}"], tmp_path / "d.yaml", dry_run=True)
    assert yaml.safe_load(made.text())["version"] == 1
    assert not (tmp_path / "d.yaml").exists()


def test_a_directory_is_where_the_file_goes_and_the_next_step_names_it(tmp_path: Path) -> None:
    place = tmp_path / "it's here"
    place.mkdir()
    made = init_deployment([f"m={model(tmp_path / 'm', '1')}"], place)
    assert made.path == place / "deployment.yaml"
    assert str(made.path) in shlex.split(made.text().split("Next: ")[1])


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("resnet", "is not NAME=PATH"),
        ("resnet=", "is not NAME=PATH"),
        ("=/x", "not a valid model name"),
        ("a/b=/x", "not a valid model name"),
        ("..=/x", "not a valid model name"),
        ("m=/a\nb", "control characters"),
        ("m=/none", "does not exist"),
        ("m={tmp}/empty", "no version directory"),
        ("m={tmp}/m/1", "version"),
        ("m={tmp}/broken", "saved_model.pb"),
    ],
)
def test_a_model_that_no_server_could_load_is_refused(tmp_path: Path, word: str, said: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken/2").mkdir(parents=True)
    model(tmp_path / "m", "1")
    with pytest.raises(RequestError) as caught:
        init_deployment([word.replace("{tmp}", str(tmp_path))], tmp_path / "d.yaml")
    assert said in str(caught.value)
    assert not (tmp_path / "d.yaml").exists()


def test_no_model_and_one_that_is_named_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="No model"):
        init_deployment([])
    word = f"m={model(tmp_path / 'm', '1')}"
    with pytest.raises(RequestError, match="named twice"):
        init_deployment([word, word], tmp_path / "d.yaml")


@given(name=some.text("aA0-_.~!$&'()*+,;@", min_size=1, max_size=6), rest=some.text("\"'#:{}%$é \\-", max_size=8))
@settings(max_examples=40)
def test_whatever_name_and_path_are_read_back(tmp_path_factory: pytest.TempPathFactory, name: str, rest: str) -> None:
    if name in (".", ".."):
        return
    directory = tmp_path_factory.mktemp("d")
    init_deployment([f"{name}=s3://bucket/{rest}"], directory)
    (read,) = read_deployment(directory / "deployment.yaml").models
    assert (read.name, read.base_path) == (name, f"s3://bucket/{rest}")
