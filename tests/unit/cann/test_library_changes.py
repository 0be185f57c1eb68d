"""A file of CANN's library that somebody changed or added is found, and an installation as it came has no finding."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from cann_trees import make_cann

from npu_serving.cann.info import cann_info
from npu_serving.cann.library_changes import library_findings
from npu_serving.cann.operator_library import CONFIG, MODES
from npu_serving.cann.operator_list import list_in
from npu_serving.findings import WARNING
from npu_serving.settings import Settings

INSTALLED = 1_700_000_000
ENTRY = json.dumps({"Relu": {"precision_reduce": {"flag": "true"}}})


def put(path: Path, text: str = ENTRY, at: float = INSTALLED, mode: int = 0o440) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    os.utime(path, (at, at))
    return path


@pytest.fixture
def opp(tmp_path: Path) -> Path:
    """As an installer leaves it: read-only, and written within some minutes."""
    made = tmp_path / "toolkit/opp"
    for number, chip in enumerate(("ascend310p", "ascend910", "ascend910b")):
        put(made / CONFIG / chip / f"aic-{chip}-ops-info.json", at=INSTALLED + 60 * number)
    put(made / MODES, "Relu=high_precision\n")
    put(list_in(made), "{}")
    put(made / "version.info", "Version=1\n", at=INSTALLED + 300, mode=0o640)
    return made


def the_file(opp: Path) -> Path:
    return opp / CONFIG / "ascend910/aic-ascend910-ops-info.json"


def test_an_installation_as_it_came_has_no_finding(opp: Path) -> None:
    assert list(library_findings(opp)) == []
    assert list(library_findings(opp / "none")) == []


def test_a_file_that_was_made_writable_is_a_warning_as_the_guide_has_people_do_it(opp: Path) -> None:
    the_file(opp).chmod(0o640)
    (found,) = library_findings(opp)
    assert (found.severity, found.where) == (WARNING, str(the_file(opp)))
    assert "its owner may write to it, unlike the files beside it" in found.what
    assert "modify_mixlist" in found.cure


def test_where_all_files_are_writable_that_says_nothing(opp: Path) -> None:
    for path in opp.rglob("*"):
        path.chmod(0o755)
    assert list(library_findings(opp)) == []


def test_a_file_that_is_newer_than_the_installation_is_a_warning(opp: Path) -> None:
    put(the_file(opp), at=INSTALLED + 86_400)
    (found,) = library_findings(opp)
    assert "newer than the files beside it and CANN's own records" in found.what


def test_a_library_that_was_installed_later_than_the_rest_has_no_finding(opp: Path) -> None:
    for path in (opp / CONFIG).rglob("*.json"):
        put(path, at=INSTALLED + 86_400)
    assert list(library_findings(opp)) == []


@pytest.mark.parametrize("name", ["backup.json", "aic-ascend910-ops-info.bak.json", "old aic-ascend910-ops-info.json"])
def test_a_file_of_another_name_is_additional_and_moving_it_away_helps(opp: Path, name: str) -> None:
    added = put(the_file(opp).with_name(name))
    (found,) = library_findings(opp)
    assert "did not come with CANN, and every .json file in that directory is loaded" in found.what
    assert os.system(found.cure.partition(": ")[2]) == 0
    assert not added.exists()
    assert list(library_findings(opp)) == []


def test_what_is_no_json_is_not_loaded_and_no_finding(opp: Path) -> None:
    put(the_file(opp).with_name("aic-ascend910-ops-info.json.bak"))
    (the_file(opp).parent / "directory.json").mkdir()
    assert list(library_findings(opp)) == []


def test_files_of_several_groups_came_with_cann_unless_its_own_list_lacks_them(opp: Path) -> None:
    put(the_file(opp).with_name("aic-ascend910-ops-info-math.json"))
    assert list(library_findings(opp)) == []
    listed = "module,operation,relative_path_in_pkg,relative_install_path,permission\nopp,copy,x,opp/{},440\n"
    place = the_file(opp).relative_to(opp)
    put(opp.parent / "share/info/opp/script/filelist.csv", listed.format(place))
    (found,) = library_findings(opp)
    assert found.where.endswith("aic-ascend910-ops-info-math.json")


@pytest.mark.parametrize("text", ["", "\0", "a,b\n1\n", '"', "relative_install_path\n\n,,,\n"])
def test_a_list_of_files_that_is_damaged_says_nothing(opp: Path, text: str) -> None:
    put(opp / "script/filelist.csv", text)
    assert list(library_findings(opp)) == []


def test_cann_info_names_it(tmp_path: Path) -> None:
    root = make_cann(tmp_path / "Ascend")
    added = put(root / "ascend-toolkit/latest/opp" / CONFIG / "ascend910/mine.json")
    info = cann_info(Settings(cann_root=str(root)))
    assert str(added.resolve()).rpartition("/opp/")[2] in info.text()
    assert "did not come with CANN" in json.dumps(info.to_json())
