"""Relinking from a kit: the ways, and the faults after which the former server is current and starts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from listening import Listening
from small_kits import (
    ANSWER,
    LACKING,
    OBJECTS,
    OTHER,
    described,
    install_adapter,
    relinked,
    small_adapter,
    spoil_unnoticed,
    write_small_kit,
)

from npu_serving import fsutil
from npu_serving.builds.current import dist_lock, find_build, make_current, read_builds
from npu_serving.builds.digest_memo import DigestMemo
from npu_serving.builds.manifest import SERVER, Build, ReleaseFit, read_manifest
from npu_serving.builds.rollback import roll_back
from npu_serving.console import Silent
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import (
    AdapterError,
    DiskFullError,
    KitError,
    MissingToolError,
    NpuServingError,
    OutOfMemoryError,
    ProgramError,
    StateLockedError,
    SwitchedMeanwhileError,
    VerificationError,
)
from npu_serving.relink_kit import relink as relink_module
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.relink_kit.relink import KIT, NOTHING, SWAP
from npu_serving.relink_kit.unpacking import is_unpacked
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock

KILLS = 30


@pytest.fixture
def adapters(tmp_path: Path) -> dict[str, Path]:
    """The first needs one function of the server, the next one more, the third only that, the last what no kit has."""
    return {
        "first": small_adapter(tmp_path / "first", ANSWER),
        "next": small_adapter(tmp_path / "next", ANSWER, OTHER),
        "third": small_adapter(tmp_path / "third", OTHER),
        "lacking": small_adapter(tmp_path / "lacking", ANSWER, LACKING),
    }


def starts(root: Path) -> str:
    """The name of the current build, whose server starts with every symbol found."""
    server = root / "dist/current/bin/tensorflow_model_server"
    subprocess.run([server], check=True, env={"LD_BIND_NOW": "1"})
    return find_build(root / "dist").manifest.build_id


def test_a_server_that_is_linked_from_a_kit_exports_what_the_other_releases_need_of_it_too(
    small_members: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    kits: dict[str, dict[str, tuple[str, ...]]] = {"alone": {}, "both": {"7.0.RC1": (OTHER,)}}
    for name, fits in kits.items():
        root = tmp_path / name
        root.mkdir()
        kit = write_small_kit(root / "kit.pyz", small_members, program=False, fits=fits)
        relinked(kit, root, install_adapter(root / "cann", adapters["first"]))
        exported = read_elf(find_build(root / "dist").server).defined_names
        assert ANSWER in exported
        assert (OTHER in exported) == bool(fits)


def test_a_new_adapter_is_linked_in_one_that_fits_is_swapped_in_and_else_nothing_is_done(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    first = relinked(small_kit, tmp_path, cann)
    assert (first.plan.action, starts(tmp_path)) == (KIT, first.build.manifest.build_id)
    manifest = read_manifest(first.build.directory / "manifest.json")
    assert (manifest.objects, manifest.kit) == (OBJECTS, read_kit(small_kit).digest)
    assert first.plan.linker is not None
    assert (manifest.linker, manifest.linker_version) == (first.plan.linker.kind, first.plan.linker.version)
    assert relinked(small_kit, tmp_path, cann).plan.action == NOTHING
    install_adapter(cann, adapters["next"])
    second = relinked(small_kit, tmp_path, cann)
    assert second.plan.action == KIT
    assert starts(tmp_path) != first.build.manifest.build_id
    install_adapter(cann, adapters["first"])
    back = relinked(small_kit, tmp_path, cann)
    assert back.plan.action == SWAP
    assert back.build.manifest.linked == second.build.manifest.input_digest
    assert [build.previous for build in read_builds(tmp_path / "dist").sound].count(True) == 1
    starts(tmp_path)


def test_a_server_for_several_adapters_exports_what_each_needs(
    small_members: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    kit = write_small_kit(
        tmp_path / "a.pyz", small_members, program=False, fits={"6.3.RC2": (ANSWER,), "9.0.0": (ANSWER, OTHER)}
    )
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    relinked(kit, tmp_path, cann)
    install_adapter(cann, adapters["next"])
    assert relinked(kit, tmp_path, cann).plan.action == SWAP
    starts(tmp_path)


def test_a_kit_of_the_same_objects_that_is_to_fit_more_is_linked_though_the_current_server_fits_the_adapter(
    small_members: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Once, also where no object has what the further adapter needs."""
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])

    def relinked_to_fit(**fits: tuple[str, ...]) -> tuple[str, str]:
        kit = write_small_kit(tmp_path / "kit.pyz", small_members, program=False, fits=fits)
        done = relinked(kit, tmp_path, cann)
        assert relinked(kit, tmp_path, cann).plan.action == NOTHING
        return done.plan.action, done.plan.why

    relinked_to_fit(A=(ANSWER,))
    action, why = relinked_to_fit(A=(ANSWER,), B=(OTHER,))
    assert (action, "adapters of B too" in why) == (KIT, True)
    assert OTHER in read_elf(find_build(tmp_path / "dist").server).defined_names
    assert relinked_to_fit(A=(ANSWER,))[0] == NOTHING
    assert relinked_to_fit(A=(ANSWER,), C=(LACKING,))[0] == KIT
    assert relinked_to_fit(A=(ANSWER,), D=(LACKING,))[0] == NOTHING


@pytest.mark.parametrize("linker", ["bfd", "gold", "lld"])
def test_each_linker_makes_a_server_that_starts(
    linker: str, small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    try:
        relinked(small_kit, tmp_path, cann, linker=linker)
    except MissingToolError:
        pytest.skip(f"{linker} is not here")
    assert find_build(tmp_path / "dist").manifest.linker.startswith(linker)
    starts(tmp_path)


def _fake_linker(path: Path, version: str, body: str) -> str:
    path.write_text(f'#!/bin/sh\ncase "$1" in --version) echo "{version}"; exit 0;; esac\n{body}\n')
    path.chmod(0o755)
    return str(path)


def _fails(kit: Path, root: Path, cann: Path, kind: type[NpuServingError], *, linker: str = "auto") -> str:
    former = starts(root)
    with pytest.raises(kind) as failed:
        relinked(kit, root, cann, linker=linker)
    assert starts(root) == former
    assert [path.name for path in (root / "dist").iterdir() if path.name.startswith((".scratch", ".serving"))] == []
    return str(failed.value)


def test_whatever_fails_the_former_server_is_current_and_starts(
    small_kit: Path, small_members: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    relinked(small_kit, tmp_path, cann)
    install_adapter(cann, adapters["next"])

    killed = _fake_linker(tmp_path / "killed", "LLD 14.0.6", "kill -9 $$")
    assert "ran out of memory" in _fails(small_kit, tmp_path, cann, OutOfMemoryError, linker=killed)

    full = _fake_linker(tmp_path / "full", "LLD 14.0.6", "echo 'error: No space left on device' >&2; exit 1")
    assert "the disk" in _fails(small_kit, tmp_path, cann, DiskFullError, linker=full)

    broken = _fake_linker(tmp_path / "broken", "LLD 14.0.6", "echo 'unknown argument: --x' >&2; exit 1")
    said = _fails(small_kit, tmp_path, cann, ProgramError, linker=broken)
    assert "unknown argument: --x" in said
    assert "Next: try another one: --linker lld" in said

    old = _fake_linker(tmp_path / "old", "LLD 9.0.0", "exit 0")
    assert "13 is the least" in _fails(small_kit, tmp_path, cann, MissingToolError, linker=old)

    other = _fake_linker(tmp_path / "other", "mold 2.3.0", "exit 0")
    assert "is mold 2.3.0" in _fails(small_kit, tmp_path, cann, MissingToolError, linker=other)

    assert "There is no linker" in _fails(small_kit, tmp_path, cann, MissingToolError, linker=str(tmp_path / "none"))

    aarch64 = write_small_kit(tmp_path / "a.pyz", small_members, program=False, machine="riscv64")
    assert "is for riscv64" in _fails(aarch64, tmp_path, cann, KitError)

    with state_lock(tmp_path / "cache", doing="relink from a kit"):
        assert "is in use by process" in _fails(small_kit, tmp_path, cann, StateLockedError)


def test_the_full_check_finds_a_bit_that_turned_in_what_was_unpacked_and_in_the_current_server(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    first = relinked(small_kit, tmp_path, cann).build
    kit = read_kit(small_kit)
    spoil_unnoticed(kit, tmp_path / "cache")
    assert relinked(small_kit, tmp_path, cann, full_check=True).plan.action == NOTHING
    assert not is_unpacked(kit, tmp_path / "cache"), "a later run does not trust it either"
    install_adapter(cann, adapters["next"])
    relinked(small_kit, tmp_path, cann)
    spoil_unnoticed(kit, tmp_path / "cache")
    make_current(first)
    fsutil.remove(next(build for build in read_builds(tmp_path / "dist").sound if not build.current).directory)
    relinked(small_kit, tmp_path, cann, full_check=True)
    starts(tmp_path)
    current = find_build(tmp_path / "dist")
    data = current.server.read_bytes()
    current.server.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    memo = DigestMemo(tmp_path / "dist")
    memo.remember(current.server, current.manifest.files[SERVER])
    memo.save()
    assert relinked(small_kit, tmp_path, cann).plan.action == NOTHING
    again = relinked(small_kit, tmp_path, cann, full_check=True)
    assert (again.plan.action, again.build.damaged_file(read_again=True)) == (KIT, "")
    assert SERVER in again.plan.why


def test_of_two_relinks_into_one_directory_the_second_is_refused_and_the_first_goes_on(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    former = relinked(small_kit, tmp_path, cann).build
    install_adapter(cann, adapters["next"])
    begun, go = tmp_path / "begun", tmp_path / "go"
    waits = f"touch {begun}; for n in $(seq 300); do test -e {go} && break; sleep 0.1; done"
    slow = _fake_linker(tmp_path / "slow", "GNU gold (GNU Binutils 2.40) 1.16", f'{waits}; exec ld.gold "$@"')
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(relinked, small_kit, tmp_path, cann, linker=slow)
        try:
            while not begun.exists():
                assert not first.done(), first.result()
                time.sleep(0.02)
            with pytest.raises(StateLockedError, match=rf"process {os.getpid()} \(relink from a kit\)") as refused:
                relinked(small_kit, tmp_path, cann, cache="another")
            with pytest.raises(StateLockedError, match="relink from a kit"):
                roll_back(Settings(cann_root=str(cann), build_root=tmp_path / "build", dist_root=tmp_path / "dist"))
            assert starts(tmp_path) == former.manifest.build_id
        finally:
            go.touch()
        made = first.result(timeout=60).build
    assert refused.value.cure == "wait until it has finished, then run the same command again"
    assert starts(tmp_path) == made.manifest.build_id
    assert {build.directory for build in read_builds(tmp_path / "dist").sound} == {made.directory, former.directory}


def test_while_a_new_server_is_proven_somebody_can_go_back_and_what_he_chose_stays(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    oldest = relinked(small_kit, tmp_path, cann).build
    install_adapter(cann, adapters["next"])
    former = relinked(small_kit, tmp_path, cann).build
    install_adapter(cann, adapters["third"])
    settings = Settings(cann_root=str(cann), build_root=tmp_path / "build", dist_root=tmp_path / "dist")

    def goes_back(build: Build, _cann: object) -> None:
        assert starts(tmp_path) == former.manifest.build_id
        assert roll_back(settings, force=True).build.directory == oldest.directory
        assert not build.current

    request = relink_module.KitRequest(tmp_path / "dist", tmp_path / "cache", cann_root=str(cann))
    with pytest.raises(SwitchedMeanwhileError) as refused:
        relink_module.relink(read_kit(small_kit), request, Silent(), goes_back)
    assert refused.value.what.startswith(f"{oldest.manifest.build_id} was made current while serving-")
    assert starts(tmp_path) == oldest.manifest.build_id
    made = refused.value.cure.rpartition("./inv rollback --build ")[2]
    assert roll_back(settings, made).build.directory.name == made == starts(tmp_path)
    assert len(read_builds(tmp_path / "dist").sound) == 3


def test_of_two_relinks_that_prove_at_once_the_later_one_is_current_and_both_servers_are_kept(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Of one adapter, both make the same server; of two, the one that ends last would undo the other."""
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    former = relinked(small_kit, tmp_path, cann).build.directory

    def beside(*installs: str) -> tuple[Path, list[Path]]:
        others: list[Path] = []

        def proof(_build: Build, _cann: object) -> None:
            for name in installs:
                install_adapter(cann, adapters[name])
            others.append(relinked(small_kit, tmp_path, cann, cache="another").build.directory)

        request = relink_module.KitRequest(tmp_path / "dist", tmp_path / "cache", cann_root=str(cann))
        return relink_module.relink(read_kit(small_kit), request, Silent(), proof).build.directory, others

    install_adapter(cann, adapters["next"])
    mine, others = beside()
    assert others == [mine]
    assert starts(tmp_path) == mine.name
    make_current(find_build(tmp_path / "dist", former.name))
    assert starts(tmp_path) == former.name
    with pytest.raises(SwitchedMeanwhileError):
        beside("third")
    assert starts(tmp_path) not in (former.name, mine.name)
    assert {mine, former} < {build.directory for build in read_builds(tmp_path / "dist").sound}


def test_who_comes_back_from_the_proof_waits_for_another_run_and_says_so(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    taken = contextlib.ExitStack()

    class Freeing(Listening):
        def note(self, text: str) -> None:
            super().note(text)
            if "goes on when that has finished" in text:
                taken.close()

    freeing = Freeing()
    request = relink_module.KitRequest(tmp_path / "dist", tmp_path / "cache", cann_root=str(cann))
    with taken:
        relink_module.relink(
            read_kit(small_kit),
            request,
            freeing,
            lambda _build, _cann: taken.enter_context(dist_lock(tmp_path / "dist", doing="rollback")),
        )
    assert any("(rollback)" in line for line in freeing.said)
    starts(tmp_path)


def test_where_nothing_is_to_be_done_nobody_waits_for_another_run(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    relinked(small_kit, tmp_path, cann)
    with dist_lock(tmp_path / "dist", doing="something else"):
        assert relinked(small_kit, tmp_path, cann).plan.action == NOTHING


def test_what_another_run_has_made_current_meanwhile_is_planned_with(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    former = relinked(small_kit, tmp_path, cann).build
    install_adapter(cann, adapters["next"])
    other = relinked(small_kit, tmp_path, cann).build
    make_current(former)

    @contextlib.contextmanager
    def after_another(dist_root: Path, *, doing: str) -> Iterator[None]:
        with dist_lock(dist_root, doing=doing):
            make_current(other)
            yield

    monkeypatch.setattr(relink_module, "dist_lock", after_another)
    again = relinked(small_kit, tmp_path, cann)
    assert (again.plan.action, again.build.directory) == (NOTHING, other.directory)


def test_a_server_of_a_kit_says_which_releases_it_fits_and_a_symbol_is_named_with_the_release_that_needs_it(
    small_members: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    fits = {"6.3.RC2": (ANSWER,), "9.0.0": (ANSWER, LACKING)}
    kit = write_small_kit(tmp_path / "a.pyz", small_members, program=False, fits=fits)
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    made = relinked(kit, tmp_path, cann).build
    assert made.manifest.releases == (ReleaseFit("6.3.RC2"), ReleaseFit("9.0.0", (LACKING,)))
    install_adapter(cann, adapters["lacking"])
    said = _fails(kit, tmp_path, cann, VerificationError)
    assert f"[{LACKING}], needed by TF Adapter of CANN 9.0.0\n" in said


def test_a_release_that_a_kit_is_to_fit_and_does_not_is_said_after_the_link_with_the_kit_that_may(
    small_members: dict[str, Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    fits = {"6.3.RC2": (ANSWER,), "9.0.0": (LACKING,), "9.1": ("_ZN3xla3RunEv",)}
    manifest = dataclasses.replace(described(small_members).manifest, xla="adapter")
    kit = write_small_kit(tmp_path / "a.pyz", small_members, program=False, fits=fits, manifest=manifest)
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    request = relink_module.KitRequest(tmp_path / "dist", tmp_path / "cache", cann_root=str(cann))
    warned = Listening()
    relink_module.relink(read_kit(kit), request, warned, lambda _build, _cann: None)
    assert warned.warnings == [
        "For the adapter of 9.0.0 it lacks 1 symbol, such as tensorflow::lacking(). "
        "Next: make a new kit of newer sources, and use that",
        "For the adapter of 9.1 it lacks 1 symbol, such as xla::Run(). "
        "Next: make a new kit of a build with --xla full, and use that",
    ]


def test_a_symbol_that_no_archive_has_is_named_with_the_releases_that_the_kit_knows(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    relinked(small_kit, tmp_path, cann)
    install_adapter(cann, adapters["lacking"])
    said = _fails(small_kit, tmp_path, cann, VerificationError)
    assert "tensorflow::lacking()" in said
    assert "6.3.RC2" in said
    assert "--xla" not in said


@pytest.mark.parametrize(("xla", "is_offered"), [("adapter", True), ("full", False)])
def test_a_symbol_of_xla_that_a_kit_lacks_is_cured_by_a_kit_with_all_of_xla_unless_it_has_that(
    small_members: dict[str, Path], tmp_path: Path, xla: str, is_offered: bool
) -> None:
    manifest = dataclasses.replace(described(small_members).manifest, xla=xla)
    kit = write_small_kit(tmp_path / "a.pyz", small_members, program=False, manifest=manifest)
    cann = install_adapter(tmp_path / "Ascend", small_adapter(tmp_path / "adapter", ANSWER, "_ZN3xla3RunEv"))
    with pytest.raises(VerificationError, match=r"xla::Run\(\)") as caught:
        relinked(kit, tmp_path, cann)
    assert ("a new kit of a build with --xla full" in caught.value.cure) == is_offered


def test_a_library_of_cann_that_is_missing_is_named_and_nothing_changes(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    from elf_samples import library

    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    relinked(small_kit, tmp_path, cann)
    runner = library(tmp_path, "libge_runner.so", "int geRun(void) { return 0; }")
    calls = "int geRun(void); int f(void) { return geRun(); }"
    needy = library(tmp_path / "needy", "_tf_adapter.so", calls, against=[runner])
    install_adapter(cann, needy)
    said = _fails(small_kit, tmp_path, cann, VerificationError)
    assert "libge_runner.so" in said


def test_an_adapter_of_another_name_is_refused(small_kit: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    from elf_samples import library

    from npu_serving.relink_kit.relink import KitRequest, plan_relink

    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    relinked(small_kit, tmp_path, cann)
    calls = f"int {OTHER}(void); int f(void) {{ return {OTHER}(); }}"
    install_adapter(cann, library(tmp_path / "x", "_tf_adapter.so", calls, soname="libother.so"))
    assert "libother.so" in _fails(small_kit, tmp_path, cann, AdapterError)
    request = KitRequest(tmp_path / "dist", tmp_path / "cache", cann_root=str(cann))
    with pytest.raises(AdapterError, match=r"libother\.so"):  # what --dry-run prints promises nothing else
        plan_relink(read_kit(small_kit), request)


def test_a_server_that_does_not_prove_itself_is_kept_and_not_current(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    from npu_serving.console import Silent
    from npu_serving.errors import ServerError
    from npu_serving.relink_kit.relink import KitRequest, relink

    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    former = relinked(small_kit, tmp_path, cann).build.manifest.build_id
    install_adapter(cann, adapters["next"])

    def refuses(_build: object, _cann: object) -> None:
        raise ServerError("another answer")

    request = KitRequest(tmp_path / "dist", tmp_path / "cache", cann_root=str(cann))
    with pytest.raises(ServerError, match="another answer"):
        relink(read_kit(small_kit), request, Silent(), refuses)
    assert starts(tmp_path) == former
    assert len(read_builds(tmp_path / "dist").sound) == 2


RELINKS = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {support!r})
from small_kits import relinked
counted = 0
def count(event, _):
    global counted
    if event in ("open", "os.rename", "os.mkdir", "os.link", "os.chmod", "os.remove", "os.symlink", "subprocess.Popen"):
        counted += 1
        if counted == left:
            os.kill(os.getpid(), signal.SIGKILL)
left = 0
sys.addaudithook(count)
kit, root, cann = map(Path, sys.argv[1:4])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        counted, left = 0, int(line)
        try:
            relinked(kit, root, cann)
            print(counted, flush=True)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        print("killed" if left == 0 else "", flush=True)
"""


def test_a_relink_killed_at_any_moment_leaves_a_server_that_starts(
    small_kit: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Killed at 30 of the moments at which it opens, makes, renames or removes a file, or starts a program."""
    cann = install_adapter(tmp_path / "Ascend", adapters["first"])
    first = relinked(small_kit, tmp_path, cann).build
    support = str(Path(sys.modules["small_kits"].__file__ or "").parent)
    words = [sys.executable, "-c", RELINKS.format(support=support), str(small_kit), str(tmp_path), str(cann)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as relinks:
        assert relinks.stdin is not None
        assert relinks.stdout is not None

        def run(moment: int) -> str:
            assert relinks.stdin is not None
            assert relinks.stdout is not None
            relinks.stdin.write(f"{moment}\n")
            relinks.stdin.flush()
            return relinks.stdout.readline().strip()

        install_adapter(cann, adapters["next"])
        events = int(run(0))
        completed = 0
        for number in range(KILLS):
            for build in read_builds(tmp_path / "dist").sound:
                if build.directory == first.directory:
                    make_current(build)
                else:
                    fsutil.remove(build.directory)
            completed += run(1 + events * number // KILLS) != "killed"
            starts(tmp_path)
        assert completed <= KILLS // 5  # what is remembered of files makes a later run shorter
        run(0)
        assert relinked(small_kit, tmp_path, cann).plan.action == NOTHING
        relinks.stdin.close()
        assert relinks.wait() == 0
    assert not [path for path in (tmp_path / "dist").iterdir() if path.name.startswith((".scratch", ".serving"))]
