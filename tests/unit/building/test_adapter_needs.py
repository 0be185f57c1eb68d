"""adapter-needs: what an adapter needs, compared with what is known, and kept."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from pathlib import Path

import pytest

from npu_serving.building.adapter_needs import adapter_needs
from npu_serving.building.inputs import known_for
from npu_serving.building.sources import resolve_source
from npu_serving.cann.known_adapters import OF_SAMPLE, KnownAdapter, write_known
from npu_serving.errors import AdapterError, RequestError
from npu_serving.sample.cann import install_sample_cann
from npu_serving.settings import Settings

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here")


@pytest.fixture(scope="module")
def cann(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_sample_cann(tmp_path_factory.mktemp("cann"), ("6.3.RC2", "7.0.RC1"), "7.0.RC1")


@pytest.fixture
def settings(cann: Path, tmp_path: Path) -> Settings:
    return Settings(source="sample", cann_root=str(cann), build_root=tmp_path / "build", adapters=tmp_path / "adapters")


@pytest.fixture
def first(cann: Path) -> str:
    return str(next((cann / "tfplugin" / "6.3.RC2").rglob("_tf_adapter.so")))


def test_it_counts_by_owner_and_names_the_releases_that_need_the_same_or_more(settings, first) -> None:
    needs = adapter_needs(settings, first)
    lines = needs.text().splitlines()
    assert lines[1:4] == ["  10 symbols of the server", "  2 symbols of CANN", "  2 symbols of Python"]
    assert "it needs the same of the server as the adapter of 6.3.RC2" in lines
    assert "all that it needs of the server, the adapter of 7.0.RC1 needs too, and 1 symbol more" in lines
    assert (needs.same_as, needs.contained_in) == (("6.3.RC2",), ("7.0.RC1",))
    assert adapter_needs(settings).same_as == ("7.0.RC1",)  # the installed one


def test_json_has_every_name_in_both_spellings(settings) -> None:
    document = json.loads(json.dumps(adapter_needs(settings).to_json()))
    names = {item["symbol"]: item["name"] for item in document["needs"]["server"]}
    assert "tensorflow::profiler::NpuTrace::Begin(" in names["_ZN10tensorflow8profiler8NpuTrace5BeginERKSs"]
    assert document["more_than"]["6.3.RC2"] == ["_ZN10tensorflow8profiler8NpuTrace5BeginERKSs"]


def test_what_was_added_is_known_from_then_on_and_adding_it_again_changes_nothing(settings, first) -> None:
    planned = adapter_needs(settings, first, add="6.5", dry_run=True)
    assert planned.kept_in is not None and not planned.kept_in.exists() and "would be written" in planned.text()

    assert "was written" in adapter_needs(settings, first, add="6.5").text()

    assert "6.5" in {item.release for item in known_for(settings, resolve_source(settings))}
    before = planned.kept_in.stat()
    assert "already" in adapter_needs(settings, first, add="6.5").text()
    assert planned.kept_in.stat() == before
    assert (
        adapter_needs(settings, add="6.5").kept_in == planned.kept_in
    )  # another file of that release: the newer counts
    assert adapter_needs(settings).same_as == ("7.0.RC1", "6.5")


def test_a_release_that_the_project_knows_is_refused_and_following_the_cure_helps(settings, first, cann) -> None:
    with pytest.raises(RequestError) as caught:
        adapter_needs(settings, first, add="7.0.RC1")
    words = shlex.split(caught.value.cure)
    assert words[:2] == ["./inv", "adapter-needs"]
    assert adapter_needs(settings, words[2], add=words[4]).kept_in is not None
    with pytest.raises(RequestError, match="known already") as caught:
        adapter_needs(settings, first, add="6.3.RC2")
    assert caught.value.cure == "leave --add out"


def test_a_release_that_the_project_knows_since_it_was_added_can_be_read_again(settings, first) -> None:
    read = KnownAdapter("7.0.RC1", OF_SAMPLE, "read before the project knew it", ())
    write_known(settings.adapters / "mine.json", read)
    kept = adapter_needs(settings, first, add="7.0.RC1")
    assert kept.kept_in == settings.adapters / "mine.json"
    assert [path.name for path in settings.adapters.iterdir()] == ["mine.json"]


def test_the_cure_can_be_typed_where_the_files_name_has_blanks(settings, first, tmp_path) -> None:
    blank = tmp_path / "with blanks" / "_tf_adapter.so"
    blank.parent.mkdir()
    shutil.copy(first, blank)
    with pytest.raises(RequestError) as caught:
        adapter_needs(settings, str(blank), add="7.0.RC1")
    assert shlex.split(caught.value.cure)[2:] == [str(blank), "--add", "7.0.RC1-own"]


@pytest.mark.parametrize("name", ["known", "none", "auto", "sample", "", "../x", "a/b", "-x", "x ", "x."])
def test_a_name_that_no_release_can_have_is_refused(settings, first, name: str) -> None:
    with pytest.raises(RequestError, match="name of a release") as caught:
        adapter_needs(settings, first, add=name)
    is_word = name in ("known", "none", "auto", "sample")
    assert ("word of the settings" if is_word else "name of a file") in caught.value.cause
    assert not settings.adapters.exists()


def test_the_next_step_names_the_release_of_the_adapter_where_it_is_seen(settings, cann, tmp_path) -> None:
    newest = install_sample_cann(tmp_path / "newest", ("7.0.0",), "7.0.0")
    library = next((newest / "tfplugin" / "7.0.0").rglob("_tf_adapter.so"))
    assert f"./inv adapter-needs {library} --add 7.0.0, so that" in adapter_needs(settings, str(library)).text()
    write_known(settings.adapters / "7.0.0.json", KnownAdapter("7.0.0", OF_SAMPLE, "another one", ()))
    assert f"./inv adapter-needs {library} --add 7.0.0-own, so that" in adapter_needs(settings, str(library)).text()
    shutil.copy(library, tmp_path / "_tf_adapter.so")
    assert "--add RELEASE, so that" in adapter_needs(settings, str(tmp_path / "_tf_adapter.so")).text()


def test_what_is_not_an_adapter_is_refused(settings, cann) -> None:
    with pytest.raises(AdapterError, match="does not exist"):
        adapter_needs(settings, "nowhere.so")
    with pytest.raises(AdapterError, match="not an ELF file"):
        adapter_needs(settings, __file__)
    other = next(cann.rglob("libge_runner.so"))
    for add in ("8.0", None):
        with pytest.raises(AdapterError, match=r"SONAME is libge_runner\.so"):
            adapter_needs(settings, str(other), add=add)
    with pytest.raises(AdapterError, match="not the TF Adapter"):
        adapter_needs(settings, "/bin/sh")


def test_the_builds_overlay_asks_for_what_was_added(settings, first) -> None:
    from npu_serving.building.inputs import find_fits

    adapter_needs(settings, first, add="6.5")
    source = resolve_source(settings)
    assert [item.release for item in find_fits(settings, source)] == ["6.3.RC2", "7.0.RC1", "6.5"]
    assert find_fits(dataclasses.replace(settings, also_fits=("none",)), source) == ()
