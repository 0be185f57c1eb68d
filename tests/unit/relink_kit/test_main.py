"""The commands of a kit, as they are typed: what they do, what they print, and what their messages say to type next."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_kits import ANSWER, OBJECTS, OTHER, install_adapter, small_adapter, write_small_kit

from npu_serving.builds.current import CURRENT, PREVIOUS, link_target
from npu_serving.builds.manifest import SERVER
from npu_serving.cann.install import CannInstallation, find_installation
from npu_serving.relink_kit.main import main


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """main() is meant for a process of its own."""
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@dataclass
class Kit:
    """A kit, what its commands are typed with, and what the last one printed."""

    path: Path
    root: Path
    cann: Path
    printed: pytest.CaptureFixture[str]
    said: str = ""
    names_cann: bool = True

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    def types(self, *words: str) -> int:
        """The exit code."""
        self.printed.readouterr()
        place = ["--dist", str(self.dist)] if words[0] not in ("show", "unpack") else []
        place += ["--cann-root", str(self.cann)] if place and self.names_cann else []
        code = main(str(self.path), str(self.root / "cache"), [words[0], *place, *words[1:]])
        out, err = self.printed.readouterr()
        self.said = out + err
        return code

    def installs(self, *needs: str) -> None:
        """Another CANN, whose adapter needs these functions of the server."""
        install_adapter(self.cann, small_adapter(self.root / "adapters" / "-".join(needs), *needs))


@pytest.fixture
def kit(small_kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Kit:
    return Kit(small_kit, tmp_path, tmp_path / "Ascend", capsys)


def test_a_rollback_to_a_build_whose_own_adapter_is_not_the_installed_one_takes_force(kit: Kit) -> None:
    kit.installs(ANSWER, OTHER)
    assert kit.types("relink", "--no-proof") == 0
    former = link_target(kit.dist, CURRENT)
    kit.installs(ANSWER)
    assert kit.types("relink", "--no-proof") == 0
    current = link_target(kit.dist, CURRENT)
    for words in (["rollback"], ["rollback", "--dry-run"], ["rollback", "--build", former]):
        assert kit.types(*words) == 3
        assert f"{former} does not fit the installed CANN: it contains " in kit.said
        assert "--force switches anyway" in kit.said
    assert link_target(kit.dist, CURRENT) == current
    assert kit.types("rollback", "--force") == 0
    assert "\nwarning: it contains " in kit.said
    assert (link_target(kit.dist, CURRENT), link_target(kit.dist, PREVIOUS)) == (former, current)
    kit.installs(ANSWER, OTHER)
    assert kit.types("rollback", "--build", current) == 3
    kit.installs(ANSWER)
    assert kit.types("rollback") == 0
    assert "warning" not in kit.said
    assert link_target(kit.dist, CURRENT) == current


def test_a_rollback_to_a_build_whose_server_was_changed_is_refused(kit: Kit) -> None:
    kit.installs(ANSWER)
    assert kit.types("relink", "--no-proof") == 0
    server = kit.dist / CURRENT / SERVER
    data = server.read_bytes()
    server.write_bytes(data + b"x")
    assert kit.types("rollback", "--build", link_target(kit.dist, CURRENT)) == 3
    assert f"its {SERVER} was removed or changed since it was built" in kit.said


@pytest.fixture
def without_cann(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where CANN was not installed yet: nothing is found that is not named."""
    monkeypatch.setattr("npu_serving.cann.install.find_installation", _only_where_named)


def _only_where_named(root: str = "", environ: Mapping[str, str] | None = None) -> CannInstallation | None:
    return find_installation(root, environ) if root else None


@pytest.mark.usefixtures("without_cann")
def test_a_rollback_without_cann_says_that_the_server_was_not_judged(kit: Kit) -> None:
    for needs in ([ANSWER, OTHER], [ANSWER]):
        kit.installs(*needs)
        assert kit.types("relink", "--no-proof") == 0
    for words in (["rollback", "--dry-run"], ["rollback"], ["rollback", "--build", link_target(kit.dist, PREVIOUS)]):
        kit.names_cann = False
        assert kit.types(*words) == 0
        assert "note: No CANN was found here, so it was not judged whether the server fits it" in kit.said
        kit.names_cann = True
    assert kit.types("rollback", "--force") == 0
    assert "No CANN was found" not in kit.said


@pytest.mark.usefixtures("without_cann")
def test_verify_says_that_the_kit_is_whole_before_cann_is_there_and_that_the_server_was_not_judged(kit: Kit) -> None:
    kit.installs(ANSWER)
    assert kit.types("relink", "--no-proof") == 0
    name = link_target(kit.dist, CURRENT)
    kit.names_cann = False
    assert kit.types("verify") == 0
    assert " is whole.\n" in kit.said
    assert f"{name}, the current server, was read and is as it was built. No CANN was found here" in kit.said
    assert kit.types("verify", "--json") == 0
    document = json.loads(kit.said[kit.said.index("{") :])
    assert (document["whole"], document["current"], document["fits"]) == (True, name, None)
    server = kit.dist / CURRENT / SERVER
    server.write_bytes(server.read_bytes() + b"x")
    assert kit.types("verify") == 3
    assert f"{name}, the current server, is damaged: its {SERVER} was removed or changed" in kit.said


def test_what_keeps_verify_from_judging_the_server_does_not_hide_that_the_kit_is_whole(kit: Kit) -> None:
    kit.installs(ANSWER)
    assert kit.types("relink", "--no-proof") == 0
    absent = kit.root / "absent.so"
    assert kit.types("verify", "--adapter", str(absent)) != 0
    assert " is whole.\n" in kit.said
    assert str(absent) in kit.said
    assert kit.types("verify", "--adapter", str(absent), "--json") != 0
    document = json.loads(kit.said[kit.said.index("{") :])
    assert document["whole"] is True
    assert str(absent) in document["what"]


def test_a_linker_that_is_not_needed_is_said_not_to_be(kit: Kit) -> None:
    kit.installs(ANSWER, OTHER)
    assert kit.types("relink", "--no-proof", "--linker", "bfd") == 0
    assert "not needed" not in kit.said
    said = "The linker was not needed (bfd): nothing has to be linked."
    for words in (["--dry-run"], []):
        assert kit.types("relink", "--no-proof", "--linker", "bfd", *words) == 0
        assert said in kit.said
    kit.installs(ANSWER)
    for words in (["--dry-run"], []):
        assert kit.types("relink", "--no-proof", "--linker", "bfd", *words) == 0
        assert kit.said.count(said) == 1
    assert kit.types("relink", "--no-proof") == 0
    assert "not needed" not in kit.said


def test_a_relink_says_which_former_build_is_kept_or_that_there_was_none(kit: Kit) -> None:
    kit.installs(ANSWER, OTHER)
    assert kit.types("relink", "--no-proof") == 0
    assert "There was no build before it." in kit.said
    former = link_target(kit.dist, CURRENT)
    kit.installs(ANSWER)
    assert kit.types("relink", "--no-proof") == 0
    assert f"The previous build, {former}, is kept." in kit.said


def test_show_names_what_the_making_of_the_kit_names(small_members: dict[str, Path], kit: Kit) -> None:
    kit.path = write_small_kit(kit.root / "shown.pyz", small_members, linked_files=57)
    assert kit.types("show") == 0
    assert f"sha256 of the file {hashlib.sha256(kit.path.read_bytes()).hexdigest()}" in kit.said
    assert f"57 files that the link reads, in {len(small_members)} members" in kit.said
    assert f"objects {OBJECTS[:12]}" in kit.said


@pytest.mark.parametrize(
    "flag",
    ["--dist", "--cann-root", "--adapter", "--linker", "--install-link", "--model-base-path", "--platform-config-file"],
)
def test_an_empty_value_is_refused_in_place_of_a_default(kit: Kit, flag: str) -> None:
    kit.installs(ANSWER)
    assert kit.types("relink", "--no-proof", flag, "") == 2
    assert f"{flag} has an empty value." in kit.said
    assert not kit.dist.exists()


def test_a_rollback_to_a_build_without_a_name_is_refused(kit: Kit) -> None:
    assert kit.types("rollback", "--build", "") == 2
    assert "--build has an empty value." in kit.said


def test_what_a_message_says_to_type_has_the_place_that_was_typed_and_works(kit: Kit) -> None:
    kit.installs(ANSWER)
    assert kit.types("rollback") == 2
    assert f"Next: make one with: python3 {kit.path} relink --dist {kit.dist} --cann-root {kit.cann}" in kit.said
    assert kit.types("relink", "--no-proof") == 0
    assert kit.types("rollback", "--build", "none") == 2
    assert f"(ls {kit.dist} shows all)" in kit.said
