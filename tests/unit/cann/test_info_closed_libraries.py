"""A CANN that was installed for one group: whose it is and how to join, in cann-info, doctor and verify-serving."""

from __future__ import annotations

import grp
import json
import os
from pathlib import Path

import pytest
from cann_trees import MACHINE, SITE, make_cann, make_driver
from elf_samples import library, needs_gcc, program
from other_user import as_nobody, open_directory  # noqa: F401 - a fixture

from npu_serving import file_access

pytestmark = [
    needs_gcc,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a group and become another user"),
]
SHOWN = ("what", "explanation", "found", "cure")
GROUP = grp.getgrgid(2)  # bin, which every Linux has


@pytest.fixture
def place(open_directory: Path) -> Path:  # noqa: F811
    """A CANN whose libraries belong to a group, and a server over them."""
    root = make_driver(make_cann(open_directory / "Ascend"))
    ge = library(root / f"ascend-toolkit/6.3.RC2/{MACHINE}-linux/lib64", "libge_runner.so", "void ge(void) {}")
    adapter = library(root / "tfplugin/latest" / SITE / "npu_bridge", "_tf_adapter.so", "int x;", against=[ge])
    program(open_directory, "server", "int main(void) { return 0; }", against=[adapter])
    os.chown(ge, 0, GROUP.gr_gid)
    ge.chmod(0o640)
    return open_directory


def findings(place: Path, group: int | None = None) -> dict[str, list[dict[str, str]]]:
    """What three tasks say about the library, as a user who is in that group or in none."""
    root = place / "Ascend"
    shown: dict[str, list[dict[str, str]]] = {}
    for task, *words in (["cann-info"], ["verify-serving", "--server", str(place / "server")], ["doctor"]):
        settings = place / "invoke.yaml"
        settings.write_text(f"npu_serving:\n  cann_root: {root}\n")
        answer = as_nobody(task, "--json", *words, group=group, NPU_SERVING_SETTINGS=str(settings))
        rows = json.loads(answer.stdout)["findings"]
        texts = [{key: str(row.get(key, "")) for key in ("subject", *SHOWN)} for row in rows]
        shown[task] = [text for text in texts if "libge_runner.so" in "".join(text.values())]
    return shown


def test_a_library_that_this_user_may_not_read_is_named_with_its_owner_and_joining_the_group_helps(place: Path) -> None:
    for task, about in findings(place).items():
        assert about, task
        text = "".join(about[0].values())
        assert f"owner root, group {GROUP.gr_name}, mode 0640" in text, task
        assert f"usermod -aG {GROUP.gr_name}" in text, task
        assert "--install-for-all" in text, task
    assert findings(place, GROUP.gr_gid) == {"cann-info": [], "verify-serving": [], "doctor": []}


def test_a_directory_that_is_shut_is_named_in_place_of_what_is_in_it(place: Path) -> None:
    libraries = place / f"Ascend/ascend-toolkit/6.3.RC2/{MACHINE}-linux/lib64"
    (libraries / "libge_runner.so").chmod(0o644)
    libraries.chmod(0o700)
    (row,) = [row for row in findings(place)["verify-serving"] if "passes over" in row["explanation"]]
    assert f"{libraries}, which this user may not enter (owner root, group root, mode 0700)" in row["explanation"]
    assert "usermod" not in row["cure"], "the group may not enter either"


def test_what_can_be_read_and_what_is_not_there_refuse_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert file_access.refused_at(tmp_path / "file") is None
    assert file_access.refused_at(tmp_path / "no/such/file") is None


def test_nobody_is_sent_to_roots_own_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getegid", lambda: 65534)
    monkeypatch.setattr(os, "getgroups", list)
    library_file = tmp_path / "libascendcl.so"
    library_file.touch(mode=0o640)
    os.chown(library_file, 0, 0)
    assert "usermod" not in file_access.cure_for(library_file)
    assert "--install-for-all" in file_access.cure_for(library_file)
    os.chown(library_file, 0, GROUP.gr_gid)
    assert f"usermod -aG {GROUP.gr_name}" in file_access.cure_for(library_file)
