"""What a server could load from a directory, and the names under which a client can ask for it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from npu_serving.errors import RequestError
from npu_serving.models.layout import check_model_directory, check_model_name, model_name_of, version_directories

MODEL = "saved_model.pb"


@given(st.text(max_size=20))
@example("resnet-50_v1.5")
@example("..")
@example("a b")
@example("a/versions/1")
def test_a_name_that_is_accepted_is_its_own_url(name: str) -> None:
    try:
        check_model_name(name)
    except RequestError as error:
        assert error.cure
        return
    assert quote(name, safe="!$&'()*+,;=@") == name
    assert name not in ("", ".", "..")


@pytest.mark.parametrize("name", ["resnet", "a.b-c_d", "half_plus_two"])
def test_plain_names_are_accepted(name: str) -> None:
    check_model_name(name)


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1))
@example("冻结 图.pb")
@example("resnet v1 (2).pb")
@example("...")
def test_the_name_that_is_offered_for_a_file_is_always_accepted(name: str) -> None:
    check_model_name(model_name_of(Path("models") / name.replace("/", "_").replace("\0", "_")))


def test_the_name_that_is_offered_for_a_file_is_near_to_the_files() -> None:
    offered = {name: model_name_of(Path(name)) for name in ("resnet-50.pb", "models/bert v2 (1).pb", "图.pb", "x")}
    assert offered == {"resnet-50.pb": "resnet-50", "models/bert v2 (1).pb": "bert_v2_1", "图.pb": "model", "x": "x"}


def test_the_highest_version_decides_as_a_number(tmp_path: Path) -> None:
    for version in ("9", "00000123"):
        (tmp_path / version).mkdir()
    (tmp_path / "9" / MODEL).write_bytes(b"")
    with pytest.raises(RequestError, match=r"00000123.*saved_model\.pb"):
        check_model_directory(tmp_path, MODEL)
    (tmp_path / "00000123" / MODEL).write_bytes(b"")
    check_model_directory(tmp_path, MODEL)


def test_a_number_beyond_64_bits_is_no_version_as_for_the_server(tmp_path: Path) -> None:
    for version in ("7", "9223372036854775807", "9223372036854775808", "20261129121000123456789", f"{8:0200}"):
        (tmp_path / version).mkdir()
    assert sorted(version_directories(tmp_path)) == [7, 8, 9223372036854775807]


def test_a_version_given_for_its_model_is_answered_with_the_model(tmp_path: Path) -> None:
    version = tmp_path / "resnet" / "1"
    version.mkdir(parents=True)
    (version / MODEL).write_bytes(b"")
    with pytest.raises(RequestError) as caught:
        check_model_directory(version, MODEL)
    assert str(version.parent) in caught.value.cure
    check_model_directory(version.parent, MODEL)


@pytest.mark.parametrize("made", [False, True])
def test_a_directory_that_is_missing_or_empty_is_named(tmp_path: Path, made: bool) -> None:
    base = tmp_path / "model"
    if made:
        base.mkdir()
    with pytest.raises(RequestError, match="model") as caught:
        check_model_directory(base, MODEL)
    assert str(base) in caught.value.what
    assert caught.value.cure
