"""The commands of a kit, as they are typed: what they do, what they print, and what their messages say to type next."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_kits import ANSWER, OTHER, install_adapter, small_adapter

from npu_serving.builds.current import CURRENT, PREVIOUS, link_target
from npu_serving.builds.manifest import SERVER
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

    @property
    def dist(self) -> Path:
        return self.root / "dist"

    def types(self, *words: str) -> int:
        """The exit code."""
        self.printed.readouterr()
        place = ["--dist", str(self.dist), "--cann-root", str(self.cann)] if words[0] not in ("show", "unpack") else []
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
