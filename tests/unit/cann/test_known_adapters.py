"""What the adapters of known releases need: the data, the user's own, and what `also_fits` means."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from npu_serving.cann.known_adapters import (
    OF_SAMPLE,
    KnownAdapter,
    known_adapters,
    needed_of_server,
    own_adapters,
    wanted_adapters,
    write_known,
)
from npu_serving.elf.owners import SERVER, owner_by_name
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import AdapterError, NpuServingError, RequestError
from npu_serving.sample.cann import install_sample_cann
from npu_serving.settings import Settings

VERSION = Settings.source
OWN = KnownAdapter("8.0.0", VERSION, "", ("_ZN10tensorflow1fEv",))


@pytest.fixture(scope="module")
def known() -> tuple[KnownAdapter, ...]:
    return known_adapters(VERSION, Path("/nonexistent"))


def test_all_that_is_known_is_the_servers_to_give_sorted_and_once(known) -> None:
    assert [item.release for item in known] == ["6.3.RC2", "9.0.0"]
    for item in (*known, *known_adapters(OF_SAMPLE, Path("/nonexistent"))):
        assert list(item.symbols) == sorted(set(item.symbols)), item.release
        assert {owner_by_name(name).kind for name in item.symbols} == {SERVER}, item.release


def test_the_two_releases_need_what_their_sources_were_counted_to_need(known) -> None:
    first, second = (set(item.symbols) for item in known)
    assert (len(first), len(second)) == (433, 408)
    assert len(second - first) == 4


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")
def test_what_is_known_of_the_samples_adapters_is_what_its_sources_make(tmp_path) -> None:
    listed = {item.release: item.symbols for item in known_adapters(OF_SAMPLE, tmp_path)}
    ascend = install_sample_cann(tmp_path, tuple(listed), next(iter(listed)))
    for release, symbols in listed.items():
        library = next((ascend / "tfplugin" / release).rglob("_tf_adapter.so"))
        assert needed_of_server(read_elf(library)) == symbols, release


def test_an_added_release_is_known_from_then_on_for_its_version_of_serving(tmp_path, known) -> None:
    write_known(tmp_path / "8.0.0.json", OWN)
    assert known_adapters(VERSION, tmp_path) == (*known, OWN)
    assert OWN not in known_adapters(OF_SAMPLE, tmp_path)


def test_what_a_file_says_of_other_releases_and_versions_of_serving_stays(tmp_path) -> None:
    path = tmp_path / "8.0.0.json"
    others = [dataclasses.replace(OWN, serving=OF_SAMPLE), dataclasses.replace(OWN, release="8.1.0")]
    for adapter in (OWN, *others, dataclasses.replace(OWN, symbols=())):
        write_known(path, adapter)
    assert own_adapters(tmp_path, OF_SAMPLE) == {"8.0.0": (path, others[0])}
    found = own_adapters(tmp_path, VERSION)
    assert found == {"8.1.0": (path, others[1]), "8.0.0": (path, dataclasses.replace(OWN, symbols=()))}


def test_a_release_of_the_users_counts_as_read_also_where_the_project_knows_it(tmp_path, known) -> None:
    read = KnownAdapter(known[0].release, VERSION, "", OWN.symbols)
    write_known(tmp_path / "own.json", read)
    assert known_adapters(VERSION, tmp_path) == (read, known[1])


def test_two_files_that_say_the_same_of_a_release_are_one_and_two_that_differ_are_refused(tmp_path, known) -> None:
    for name in ("a", "b"):
        write_known(tmp_path / f"{name}.json", OWN)
    assert known_adapters(VERSION, tmp_path) == (*known, OWN)
    write_known(tmp_path / "b.json", dataclasses.replace(OWN, symbols=()))
    with pytest.raises(RequestError) as caught:
        known_adapters(VERSION, tmp_path)
    assert f"{tmp_path}/b.json" in caught.value.what
    assert f"{tmp_path}/a.json" in caught.value.cause
    (tmp_path / "b.json").unlink()
    assert known_adapters(VERSION, tmp_path) == (*known, OWN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "adapters": []}',
        '{"format": 1}',
        json.dumps({"format": 1, "adapters": [{**OWN.to_json(), "release": "../x"}]}),
        json.dumps({"format": 1, "adapters": [{**OWN.to_json(), "symbols": [1]}]}),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(tmp_path, text: str) -> None:
    (tmp_path / "8.0.0.json").write_text(text)
    with pytest.raises(RequestError) as caught:
        known_adapters(VERSION, tmp_path)
    assert f"{tmp_path}/8.0.0.json" in caught.value.what
    assert "--add 8.0.0" in caught.value.cure


def test_known_means_all_none_means_nothing_and_a_release_means_itself(tmp_path, known) -> None:
    assert wanted_adapters(("known",), known, tmp_path) == known
    assert wanted_adapters(("none",), known, tmp_path) == ()
    assert wanted_adapters(("9.0.0", "9.0.0"), known, tmp_path) == known[1:]
    assert wanted_adapters(("9.0.0", "known"), known, tmp_path) == (known[1], known[0])


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
def test_a_file_means_what_it_needs_of_the_server_and_nothing_of_cann(tmp_path) -> None:
    source = tmp_path / "adapter.c"
    source.write_text(
        "void _ZN10tensorflow1fEv(void); void _ZN2ge1gEv(void); void c(void){_ZN10tensorflow1fEv();_ZN2ge1gEv();}"
    )
    library = tmp_path / "_tf_adapter.so"
    subprocess.run(["gcc", "-shared", "-fPIC", source, "-o", library], check=True)
    (wanted,) = wanted_adapters((str(library),), (), tmp_path)
    assert (wanted.release, wanted.symbols) == (str(library), ("_ZN10tensorflow1fEv",))
    assert wanted.sha256 == hashlib.sha256(library.read_bytes()).hexdigest()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc here")
@pytest.mark.parametrize(
    ("code", "flags", "why"),
    [
        ("void c(void){}", (), "needs nothing of the server"),
        ("void _ZN10tensorflow1fEv(void); void c(void){_ZN10tensorflow1fEv();}", ("-Wl,-soname,libx.so",), "SONAME"),
    ],
)
def test_a_library_that_is_not_the_adapter_is_nothing_that_a_server_could_fit(tmp_path, code, flags, why) -> None:
    (tmp_path / "other.c").write_text(code)
    library = tmp_path / "_tf_adapter.so"
    subprocess.run(["gcc", "-shared", "-fPIC", *flags, tmp_path / "other.c", "-o", library], check=True)
    with pytest.raises(AdapterError, match=f"also_fits: .* is not the TF Adapter: .*{why}") as caught:
        wanted_adapters((str(library),), (), tmp_path)
    assert caught.value.exit_code == 2


def test_a_mistyped_release_is_told_the_one_that_was_meant(tmp_path, known) -> None:
    with pytest.raises(RequestError) as caught:
        wanted_adapters(("6.3.rc2",), known, tmp_path)
    assert caught.value.cure.startswith("did you mean 6.3.RC2? ")
    with pytest.raises(RequestError) as caught:
        wanted_adapters(("6.3.RC1",), known, tmp_path)
    assert "did you mean" not in caught.value.cure


def test_a_file_that_was_recorded_means_what_it_was_though_it_is_gone_or_another_one_now(tmp_path, known) -> None:
    path = str(tmp_path / "_tf_adapter.so")
    recorded = KnownAdapter(path, "", "", ("_ZN10tensorflow1fEv",), "aa")
    assert wanted_adapters((path, "9.0.0"), known, tmp_path, (recorded,)) == (recorded, known[1])
    with pytest.raises(AdapterError, match="does not exist"):
        wanted_adapters((path,), known, tmp_path)


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (("none", "known"), RequestError, "beside"),
        (("7.5",), RequestError, "known: 6.3.RC2, 9.0.0"),
        (("x" * 300,), RequestError, "known: 6.3.RC2, 9.0.0"),
        (("nonexistent/_tf_adapter.so",), AdapterError, "does not exist"),
        (("./x.whl",), AdapterError, "does not exist"),
        (("x.whl",), RequestError, "known: 6.3.RC2, 9.0.0"),
        ((__file__,), AdapterError, "not an ELF file"),
    ],
)
def test_what_is_neither_known_nor_an_adapter_is_refused(tmp_path, known, words, error, says) -> None:
    with pytest.raises(error) as caught:
        wanted_adapters(words, known, tmp_path)
    assert says in f"{caught.value.what} {caught.value.cause}"
    assert isinstance(caught.value, NpuServingError) and caught.value.cure
    if error is AdapterError:
        assert caught.value.what.startswith("also_fits: ")
        assert caught.value.cure.endswith(f"leave {words[0]} out of also_fits")
