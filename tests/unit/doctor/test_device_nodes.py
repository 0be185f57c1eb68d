"""The files of the NPU's devices, and who may use them."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from npu_serving.doctor.device_nodes import (
    MANAGEMENT,
    Account,
    cure_for_refused,
    device_nodes,
    is_container,
    may_use,
    refused_text,
)


def device(root: Path, *names: str) -> None:
    (root / "dev").mkdir(exist_ok=True)
    for name in names:
        (root / "dev" / name).touch()


def test_chips_are_by_their_numbers_and_what_is_called_alike_is_none(tmp_path: Path) -> None:
    device(tmp_path, "davinci10", "davinci2", "vdavinci100", "davinci_manager", "davinci0x", "hisi_hdc", "null")
    nodes = device_nodes(tmp_path)
    assert list(nodes.chips) == [2, 10, 100]
    assert [path.name for path in nodes.management] == ["davinci_manager", "hisi_hdc"]
    assert nodes.lacking == ("devmm_svm",)


def test_a_machine_without_dev_has_none(tmp_path: Path) -> None:
    nodes = device_nodes(tmp_path)
    assert (nodes.chips, nodes.management, nodes.lacking) == ({}, (), MANAGEMENT)


@pytest.mark.parametrize("mark", [".dockerenv", "run/.containerenv"])
def test_a_container_is_known_by_the_file_that_its_engine_leaves(tmp_path: Path, mark: str) -> None:
    assert not is_container(tmp_path)
    (tmp_path / mark).parent.mkdir(exist_ok=True)
    (tmp_path / mark).touch()
    assert is_container(tmp_path)


@pytest.mark.parametrize(
    ("mode", "owner", "member", "other"),
    [
        (0o660, True, True, False),
        (0o600, True, False, False),
        (0o666, True, True, True),
        (0o640, True, False, False),  # read only is not enough
        (0o606, True, False, True),  # the kernel asks the group's bits of a member, and no others
        (0o000, False, False, False),
    ],
)
def test_the_bits_of_owner_group_and_others_decide(
    tmp_path: Path, mode: int, owner: bool, member: bool, other: bool
) -> None:
    path = tmp_path / "davinci0"
    path.touch()
    path.chmod(mode)
    status = path.stat()
    accounts = [
        Account("owner", status.st_uid or 1, frozenset({4711})),
        Account("member", 4711, frozenset({status.st_gid})),
        Account("other", 4711, frozenset({4711})),
    ]
    if status.st_uid != 0:  # root may all
        assert may_use(path, accounts[0]) == owner
    assert may_use(path, accounts[1]) == member
    assert may_use(path, accounts[2]) == other
    assert may_use(path, Account("root", 0, frozenset()))
    assert not may_use(tmp_path / "davinci1", accounts[1])


def test_the_cure_is_the_group_that_may_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "davinci0"
    path.touch()
    path.chmod(0o660)
    entry = grp.struct_group(("HwHiAiUser", "x", 1000, []))
    real = os.stat(path)
    fields = list(real)
    fields[5] = 1000  # st_gid
    monkeypatch.setattr("npu_serving.doctor.device_nodes.os.stat", lambda _path: os.stat_result(fields))
    monkeypatch.setattr("npu_serving.doctor.device_nodes.grp.getgrgid", lambda _number: entry)
    account = Account("server", 4711, frozenset())
    assert cure_for_refused(path, account).startswith("sudo usermod -aG HwHiAiUser server, then log in again")
    assert "--group-add 1000" in cure_for_refused(path, account)

    def unknown(_number: int) -> object:
        raise KeyError

    monkeypatch.setattr("npu_serving.doctor.device_nodes.grp.getgrgid", unknown)
    assert cure_for_refused(path, account).startswith("docker run --group-add 1000")


def test_a_group_that_may_not_use_it_is_no_cure(tmp_path: Path) -> None:
    path = tmp_path / "davinci0"
    path.touch()
    path.chmod(0o600)
    account = Account("server", 4711, frozenset())
    assert "usermod" not in cure_for_refused(path, account)
    assert f"server may not read and write {path} (owner " in refused_text(path, account)


def test_a_named_user_has_the_groups_of_this_machine() -> None:
    root = Account.named("root")
    assert root is not None
    assert root.user_id == 0
    assert Account.named("no-such-user") is None
    assert Account.named("\0") is None
