"""What other kits left in the cache: gone once a server is linked, but for what somebody uses."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable

import pytest
from small_kits import ANSWER, OTHER, install_adapter, relinked, small_adapter, write_small_kit

from npu_serving.console import Silent
from npu_serving.relink_kit import zip_start
from npu_serving.relink_kit.cache_clearing import clear_others
from npu_serving.relink_kit.kit_file import Kit, read_kit
from npu_serving.relink_kit.relink import KIT, NOTHING
from npu_serving.relink_kit.unpacking import is_unpacked, unpack, unpacked_directory

PROGRAM = f"program-{'0a' * 8}"


@pytest.fixture
def kits(small_members: dict[str, Path], tmp_path: Path) -> tuple[Kit, Kit]:
    """Two of the same objects; the second is to fit more."""
    first = write_small_kit(tmp_path / "first.pyz", small_members, program=False, fits={"A": (ANSWER,)})
    second = write_small_kit(tmp_path / "second.pyz", small_members, program=False, fits={"B": (OTHER,)})
    return read_kit(first), read_kit(second)


def test_a_link_leaves_the_members_of_its_own_kit_alone_and_a_run_that_links_nothing_removes_none(
    kits: tuple[Kit, Kit], tmp_path: Path
) -> None:
    first, second = kits
    cache = tmp_path / "cache"
    cann = install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "adapter", ANSWER))
    relinked(first.path, tmp_path, cann)
    killed = cache / f".{unpacked_directory(first, cache).name}.1.x"
    for path in (killed, cache / f".removed-{PROGRAM}", cache / PROGRAM):
        (path / "file").mkdir(parents=True)
    unpack(second, cache, Silent())
    assert relinked(first.path, tmp_path, cann).plan.action == NOTHING
    assert is_unpacked(second, cache), "it was unpacked ahead of time"
    assert relinked(second.path, tmp_path, cann).plan.action == KIT
    left = {path.name for path in cache.iterdir()}
    assert left - {".lock", "adapters"} == {unpacked_directory(second, cache).name}
    assert is_unpacked(second, cache)


def test_killed_at_any_moment_of_the_removal_both_kits_link_and_the_next_run_removes_the_rest(
    kits: tuple[Kit, Kit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    first, second = kits
    cache = tmp_path / "cache"
    unpack(second, cache, Silent())

    def killed_at(moment: int) -> bool:
        steps = itertools.count()

        def dying(step: Callable[..., None]) -> Callable[..., None]:
            def at(*arguments: Any, **more: Any) -> None:
                if next(steps) == moment:
                    raise Killed
                step(*arguments, **more)

            return at

        with monkeypatch.context() as patched:
            for name in ("unlink", "rmdir"):
                patched.setattr(os, name, dying(getattr(os, name)))
            try:
                clear_others(second, cache, Silent())
            except Killed:
                return True
        return False

    for moments in itertools.count():
        unpack(first, cache, Silent())
        whole = set(unpacked_directory(first, cache).rglob("*"))
        if not killed_at(moments):
            break
        assert is_unpacked(second, cache)
        assert is_unpacked(first, cache) is (set(unpacked_directory(first, cache).rglob("*")) == whole)
    assert moments > len(whole) / 2
    assert not unpacked_directory(first, cache).exists()
    assert is_unpacked(second, cache)


def test_what_is_of_another_user_or_no_kits_stays(
    kits: tuple[Kit, Kit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = kits
    cache, elsewhere = tmp_path / "cache", tmp_path / "elsewhere"
    names = ("adapters", "kit-of-mine", "program-x", "kit-" + "0" * 31)
    for path in (elsewhere, *(cache / name for name in names)):
        path.mkdir(parents=True)
    (cache / PROGRAM).symlink_to(elsewhere)
    unpack(first, cache, Silent())
    clear_others(first, cache, Silent())
    assert {path.name for path in cache.iterdir()} == {*names, PROGRAM, unpacked_directory(first, cache).name}
    assert elsewhere.is_dir()
    monkeypatch.setattr(os, "geteuid", lambda: cache.stat().st_uid + 1)
    clear_others(second, cache, Silent())
    assert unpacked_directory(first, cache).is_dir()


def test_a_program_that_a_process_runs_from_stays_until_that_has_ended(kits: tuple[Kit, Kit], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    starts = f"import sys; from pathlib import Path; sys.path.insert(0, {str(Path(zip_start.__file__).parent)!r})"
    starts += f"; import zip_start; zip_start.hold(Path({str(cache / PROGRAM)!r})); print('held', flush=True)"
    words = [sys.executable, "-c", f"{starts}; sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        clear_others(kits[0], cache, Silent())
        assert (cache / PROGRAM).is_dir()
        process.communicate(b"")
    clear_others(kits[0], cache, Silent())
    assert list(cache.iterdir()) == []


def test_a_kit_that_starts_while_its_program_is_removed_holds_a_new_one(tmp_path: Path) -> None:
    """The remover has the lock; the starter waits for it, and then finds another directory, or none, by that name."""
    program = tmp_path / PROGRAM
    program.mkdir()
    with (program / zip_start.IN_USE).open("w") as removing:
        fcntl.flock(removing, fcntl.LOCK_EX)
        held = (
            f"from npu_serving.relink_kit.zip_start import hold; from pathlib import Path; hold(Path({str(program)!r}))"
        )
        words = [sys.executable, "-c", f"print(1, flush=True); {held}; print(2, flush=True)"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        program.rename(tmp_path / "doomed")
    assert process.communicate(timeout=60)[0] == b"2\n"
    assert (program / zip_start.IN_USE).is_file()
