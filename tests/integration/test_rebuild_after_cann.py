"""Life after a CANN upgrade, on the sample with the real Bazel: the plan, the relink, the proof, the way back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import pytest
from cann_trees import make_wheel
from listening import Listening
from states import MODEL, PLATFORM_CONFIG, adapter_of, ascend_of, copy_of, switch_cann

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.golden_files import write_golden
from npu_serving.asking.golden_places import FORMER, NONE_RECORDED, golden_directory
from npu_serving.asking.npy import tensor_of, write_npz
from npu_serving.asking.request import ROW, PredictRequest, read_request
from npu_serving.asking.rest_client import predict
from npu_serving.building import bazel as bazel_room
from npu_serving.building import pipeline
from npu_serving.building.build_record import BuildRecord
from npu_serving.building.context import find_context
from npu_serving.building.host_runner import HostRunner
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.building.tree_digest import tree_digest
from npu_serving.builds import digest_memo, pruning
from npu_serving.builds.assembling import package
from npu_serving.builds.current import CURRENT, PREVIOUS, check_link, dist_lock, find_build, make_current, read_builds
from npu_serving.builds.listing import list_builds
from npu_serving.builds.manifest import MANIFEST, SERVER, Build
from npu_serving.builds.pruning import prune_builds
from npu_serving.builds.rollback import roll_back
from npu_serving.builds.verify import VerifyResult, verify_build
from npu_serving.cann import install
from npu_serving.cann.install import cann_of
from npu_serving.console import Silent
from npu_serving.deploy.deployment_file import read_deployment
from npu_serving.elf.compat import check_server
from npu_serving.elf.elf_file import opened
from npu_serving.errors import (
    AdapterError,
    DiskFullError,
    FileAccessError,
    MissingToolError,
    RequestError,
    ServerError,
    StateLockedError,
    SwitchedMeanwhileError,
    VerificationError,
)
from npu_serving.overlay.adapter import plan_overlay
from npu_serving.sample.cann import FIRST_RELEASE, GE_RUNNER, NEXT_RELEASE, OPERATOR_LIST, install_sample_cann
from npu_serving.serving.from_build import plan_current
from npu_serving.serving.golden_request import golden_requests, of_models
from npu_serving.serving.server import RunningServer, started
from npu_serving.settings import Settings
from npu_serving.state_lock import state_lock
from npu_serving.trials import smoke
from npu_serving.trials.spare_server import FIRST_ANSWER_MS, spare_ports
from npu_serving.upgrade import rebuild
from npu_serving.upgrade.rebuild import DOING, RebuildResult, rebuild_after_cann
from npu_serving.upgrade.rebuild_plan import (
    BAZEL,
    FULL,
    NOTHING,
    SAVED_LINK,
    SWAP,
    RebuildPlan,
    plan_rebuild,
)

pytestmark = pytest.mark.bazel
ASKED = GoldenRequest(
    "half_plus_two",
    "half_plus_two",
    PredictRequest(ROW, [1.0, 2.0, 5.0]),
    model_base_path=str(MODEL),
    platform_config_file=PLATFORM_CONFIG,
)


@dataclass
class Looks:
    """What one run looked at: the ELF files that it read, the searches for CANN, the digests of all that goes in, the
    toolchain, and whether a server fits.
    """

    read: list[str] = field(default_factory=list)
    searches: int = 0
    digests: int = 0
    toolchains: int = 0
    verifications: int = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        find, examine, check = install.find_installation, HostRunner._examined, check_server

        def reading(path: Path) -> Any:
            self.read.append(os.path.realpath(path))
            return opened(path)

        def searching(*arguments: Any) -> Any:
            self.searches += 1
            return find(*arguments)

        def digesting(*arguments: Any, without: str = "") -> Any:
            self.digests += not without
            return tree_digest(*arguments, without=without)

        def examining(runner: HostRunner) -> dict[str, str]:
            self.toolchains += 1
            return examine(runner)

        def checking(*arguments: Any) -> Any:
            self.verifications += 1
            return check(*arguments)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("npu_serving.elf.symbols.opened", reading)
            patched.setattr(install, "find_installation", searching)
            patched.setattr("npu_serving.building.context.tree_digest", digesting)
            patched.setattr(HostRunner, "_examined", examining)
            patched.setattr("npu_serving.builds.verify.check_server", checking)
            yield


@dataclass
class Upgrade:
    """What one upgrade of the sample went like; `settings` is the state after it."""

    settings: Settings
    before: BuildResult
    verified: VerifyResult
    plan: RebuildPlan
    result: RebuildResult
    looks: Looks
    answers: list[object] = field(default_factory=list)
    """What a server of the former build answered before the relink and after it."""
    said: list[str] = field(default_factory=list)


def _ask(server: RunningServer) -> object:
    return predict(server.rest_url, "half_plus_two", PredictRequest(ROW, [1.0])).outputs


@pytest.fixture(scope="module")
def upgrade(
    built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgrade]:
    """The sample upgraded from one CANN to the next, while a server of the former build runs."""
    root = sample_settings.build_root / "sample"
    # Another module may have left the next CANN's build, and its server in Bazel's output: nothing would be to link.
    kept = built.build.directory.rename(tmp_path_factory.mktemp("kept") / "build")
    for name in _names(sample_settings):
        fsutil.remove(sample_settings.dist_root / name)
    fsutil.remove(build_serving(sample_settings, Silent()).build.directory)
    kept.rename(built.build.directory)
    smoke.record(sample_settings, "", ASKED, Silent())
    serving = plan_current(sample_settings, model_base_path=MODEL, platform_config_file=PLATFORM_CONFIG, **_ports())
    listening = Listening()
    try:
        with started(serving, log_path=tmp_path_factory.mktemp("upgrade") / "server.log") as server:
            answers = [_ask(server)]
            install_sample_cann(root, (FIRST_RELEASE, NEXT_RELEASE), NEXT_RELEASE)
            verified, planned = verify_build(sample_settings), plan_rebuild(sample_settings)
            looks = Looks()
            with looks.counted():
                result = rebuild_after_cann(sample_settings, listening)
            answers.append(_ask(server))
        yield Upgrade(sample_settings, built, verified, planned, result, looks, answers, listening.said)
    finally:
        switch_cann(sample_settings, FIRST_RELEASE)
        fsutil.remove(golden_directory(sample_settings.dist_root))
        make_current(find_build(sample_settings.dist_root, built.build.manifest.build_id))
        build_serving(sample_settings, Silent())


def _ports() -> dict[str, Any]:
    return dict(zip(("port", "rest_api_port"), spare_ports(2)))


@pytest.fixture
def state(upgrade: Upgrade, tmp_path: Path) -> Settings:
    """A copy of the state after the upgrade, to be spoiled; no Bazel can run in it."""
    settings = copy_of(upgrade.settings, tmp_path)
    return dataclasses.replace(settings, install_link=str(tmp_path / "link" / "tensorflow_model_server"))


@pytest.fixture
def back(state: Settings) -> Settings:
    """The same with the CANN of before: the server has all that its adapter needs."""
    switch_cann(state, FIRST_RELEASE)
    return state


def _current(settings: Settings) -> str:
    return os.readlink(settings.dist_root / CURRENT)


def _names(settings: Settings) -> set[str]:
    return {path.name for path in settings.dist_root.iterdir() if path.is_dir() and not path.is_symlink()}


def _edit_manifest(directory: Path, **values: object) -> None:
    path = directory / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


# ---- the relink


def test_the_upgrade_is_caught_before_anything_is_started(upgrade: Upgrade) -> None:
    assert upgrade.verified.exit_code == 3
    assert "undefined-symbol" in upgrade.verified.report.kinds()
    assert "NpuTrace" in upgrade.verified.text()
    assert f", needed by TF Adapter of CANN {NEXT_RELEASE}\n" in upgrade.verified.text()
    assert "rebuild-after-cann" in upgrade.verified.text()


def test_the_plan_is_a_relink_and_names_the_symbol_that_calls_for_it(upgrade: Upgrade) -> None:
    assert (upgrade.plan.action, upgrade.plan.exit_code) == (SAVED_LINK, 3)
    assert f"linked with the adapter of CANN {FIRST_RELEASE}, but that of CANN {NEXT_RELEASE}" in upgrade.plan.text()
    assert "NpuTrace" in upgrade.plan.why


def test_only_the_link_runs(upgrade: Upgrade) -> None:
    assert (upgrade.result.record.compiled, upgrade.result.record.linked) == (0, 1)
    assert not upgrade.result.more_than_the_link
    assert not upgrade.result.clean_followed


def test_the_adapter_is_read_once_on_the_way_to_a_link_and_cann_looked_for_once(upgrade: Upgrade) -> None:
    assert upgrade.looks.read.count(os.path.realpath(adapter_of(upgrade.settings))) == 1
    assert upgrade.looks.searches == 1


def test_the_toolchain_is_asked_once_and_a_server_verified_once_as_it_was_and_once_as_it_is(upgrade: Upgrade) -> None:
    assert (upgrade.looks.toolchains, upgrade.looks.verifications) == (1, 2)


def test_what_goes_into_a_link_is_hashed_before_bazel_and_once_more_after_it(upgrade: Upgrade) -> None:
    assert upgrade.looks.digests == 2


def test_the_new_server_fits_is_current_and_answered_the_golden_request_before_it_became_so(upgrade: Upgrade) -> None:
    assert upgrade.result.build.current
    assert upgrade.result.build.manifest.adapter["cann_version"] == NEXT_RELEASE
    assert verify_build(upgrade.settings).exit_code == 0
    assert plan_rebuild(upgrade.settings).action == NOTHING
    assert any("answers the golden request" in line for line in upgrade.said)


def test_the_former_build_stays_and_its_server_keeps_serving_through_the_relink(upgrade: Upgrade) -> None:
    assert upgrade.answers == [[3.5], [3.5]]
    former = find_build(upgrade.settings.dist_root, upgrade.before.build.manifest.build_id)
    assert former.previous
    assert not former.damaged_file()


def test_the_installed_link_follows(upgrade: Upgrade) -> None:
    assert Path(upgrade.settings.install_link).resolve() == upgrade.result.build.server.resolve()


def test_when_more_than_the_link_ran_it_is_said(upgrade: Upgrade) -> None:
    done = {"CppCompile": 2, "CppLink": 1}
    record = BuildRecord(done, done)
    result = dataclasses.replace(upgrade.result, record=record, bazel_followed="an object has changed")
    assert result.more_than_the_link
    assert "2 sources compiled" in result.text()
    assert "More than the link had to run" in result.text()
    assert result.to_json()["more_than_the_link"] is True


# ---- the plan


def test_with_the_same_adapter_nothing_is_to_be_done(state: Settings) -> None:
    planned = plan_rebuild(state)
    assert (planned.action, planned.exit_code) == (NOTHING, 0)
    assert rebuild_after_cann(state, Silent()).build.manifest.build_id == planned.build.manifest.build_id
    assert "nothing to do" in rebuild_after_cann(state, Silent()).text()


def _with_output_root(state: Settings, upgrade: Upgrade) -> Settings:
    """The state where the former build is current again, the new CANN installed, and something in the output root."""
    make_current(find_build(state.dist_root, upgrade.before.build.manifest.build_id))
    here = find_context(state, Silent())
    (here.output_base / "execroot").mkdir(parents=True)
    return state


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ({}, ""),
        ({"lock_digest": "0"}, "the lock has changed"),
        ({"compilation": ["-c", "dbg"]}, "other flags"),
        ({"source": {"name": "sample", "digest": "0"}}, "comes from a different archive"),
        ({"source": {"name": "sample", "tree": "0"}}, "has changed since"),
        ({"toolchain": {"runner": "host", "compiler": "gcc 1.0"}}, "compiler gcc 1.0 became gcc"),
        ({"toolchain": {"runner": "host", "machine": "riscv64"}}, "machine riscv64 became"),
    ],
)
def test_a_full_rebuild_is_planned_with_its_reason(
    state: Settings, upgrade: Upgrade, manifest: dict[str, object], reason: str
) -> None:
    settings = _with_output_root(state, upgrade)
    former = find_build(settings.dist_root)
    for name, value in manifest.items():
        if isinstance(value, dict):
            manifest = {**manifest, name: {**getattr(former.manifest, name), **value}}
    _edit_manifest(former.directory, **manifest)
    planned = plan_rebuild(settings)
    assert planned.action == (FULL if reason else BAZEL), planned.why
    assert reason in planned.why
    assert planned.exit_code == 3


def test_without_what_bazel_had_made_a_full_rebuild_is_planned(state: Settings, upgrade: Upgrade) -> None:
    settings = _with_output_root(state, upgrade)
    fsutil.remove(settings.build_root / "bazel")
    planned = plan_rebuild(settings)
    assert planned.action == FULL
    assert "Bazel's output for this tree was removed" in planned.why
    assert plan_rebuild(settings, clean=True).why == "as requested with --clean"


def test_a_changed_source_calls_for_a_full_rebuild(state: Settings, upgrade: Upgrade) -> None:
    settings = _with_output_root(state, upgrade)
    with (settings.build_root / "src/sample/tensorflow_serving/core/server_core.cc").open("a") as file:
        file.write("\n")
    assert "has changed since" in plan_rebuild(settings).why


def test_a_plan_changes_nothing(state: Settings, upgrade: Upgrade) -> None:
    settings = _with_output_root(state, upgrade)
    before = {path: path.lstat().st_mtime_ns for path in state.dist_root.parent.rglob("*")}
    plan_rebuild(settings)
    after = {path: path.lstat().st_mtime_ns for path in state.dist_root.parent.rglob("*")}
    memo = settings.build_root / "memo"
    memos = {memo, *memo.iterdir(), settings.dist_root, settings.dist_root / digest_memo.FILE_NAME}
    assert {path for path in after if before.get(path) != after[path]} <= memos


# ---- a build whose files were damaged


def test_a_damaged_build_is_made_anew_and_never_taken_for_the_result(upgrade: Upgrade, tmp_path: Path) -> None:
    settings = dataclasses.replace(upgrade.settings, dist_root=tmp_path / "dist", install_link="")
    damaged = _copied(upgrade.result.build.directory, settings)
    make_current(damaged)
    for name, spoil in (
        ("lib/libpython3.7m.so.1.0", lambda path: path.unlink()),
        (SERVER, lambda path: path.write_text("no program")),
        (SERVER, lambda path: path.unlink()),
        (SERVER, lambda path: path.write_bytes((upgrade.result.build.directory / SERVER).read_bytes()[:5000])),
    ):
        spoil(damaged.directory / name)
        planned = plan_rebuild(settings)
        assert (planned.action, planned.exit_code) == (SAVED_LINK, 3), name
        assert f"its {name} was removed or changed" in planned.why
        if name == SERVER:
            with pytest.raises(VerificationError, match=r"The build .* is damaged") as caught:
                verify_build(settings)
            assert caught.value.cure == "./inv rebuild-after-cann"
        if name != SERVER:
            shutil.copy(upgrade.result.build.directory / name, damaged.directory / name)
    result = rebuild_after_cann(settings, Silent())
    assert result.build.directory != damaged.directory
    assert result.build.current
    assert not result.build.damaged_file()
    assert (verify_build(settings).exit_code, plan_rebuild(settings).action) == (0, NOTHING)


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes() + b"more")])
def test_a_build_that_lost_its_adapter_gets_it_again(state: Settings, spoil: Callable[[Path], object]) -> None:
    damaged = find_build(state.dist_root)
    spoil(damaged.adapter)
    (listed,) = (item for item in list_builds(state).builds if item.build.current)
    assert not listed.fit.fits
    with pytest.raises(VerificationError, match=r"its lib/_tf_adapter\.so was removed or changed"):
        verify_build(state)
    planned = plan_rebuild(state)
    assert planned.action == SWAP
    assert "lib/_tf_adapter.so was removed or changed" in planned.why
    build = rebuild_after_cann(state, Silent()).build
    assert build.directory != damaged.directory
    assert not build.damaged_file()
    assert plan_rebuild(state).action == NOTHING


def test_a_second_damaged_library_is_not_packaged_again_as_if_it_were_whole(state: Settings) -> None:
    damaged = find_build(state.dist_root)
    (damaged.libraries / "left-by-somebody.bak").write_bytes(b"x")
    for path in (damaged.adapter, damaged.libraries / "libpython3.7m.so.1.0"):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content + b"\0")
    assert plan_rebuild(state).action != SWAP
    (damaged.libraries / "libpython3.7m.so.1.0").write_bytes(content)
    build = rebuild_after_cann(state, Silent()).build
    assert not build.damaged_file()
    assert not (build.libraries / "left-by-somebody.bak").exists()


def test_a_bit_that_turned_on_the_disk_is_found_by_verify_serving_which_reads_each_file_again(state: Settings) -> None:
    build = find_build(state.dist_root)
    for name in ("lib/libpython3.7m.so.1.0", SERVER):
        path = build.directory / name
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        memo = digest_memo.DigestMemo(state.dist_root)
        memo.remember(path, build.manifest.files[name])
        memo.save()
        assert build.damaged_file() == "", "nothing that the file system tells of it has changed"
        with pytest.raises(VerificationError, match=f"its {name} was removed or changed"):
            verify_build(state)
        path.write_bytes(data)
        assert verify_build(state).exit_code == 0


# ---- an adapter whose needs are all met


def test_where_the_server_has_all_that_the_new_adapter_needs_only_the_packaged_adapter_is_replaced(
    back: Settings,
) -> None:
    former = find_build(back.dist_root)
    assert plan_rebuild(back).action == SWAP
    result = rebuild_after_cann(dataclasses.replace(back, bazel="/nonexistent/bazel"), Silent())
    assert result.record.actions == {}
    assert "nothing had to be linked" in result.text()
    now, before = result.build.manifest.files, former.manifest.files
    assert {name for name in now if now[name] != before[name]} == {"lib/_tf_adapter.so"}
    assert now["lib/_tf_adapter.so"] == fsutil.sha256_of(adapter_of(back))
    assert find_build(back.dist_root, former.manifest.build_id).previous
    assert verify_build(back).exit_code == 0
    assert plan_rebuild(back).action == NOTHING
    assert smoke.smoke(back, "", Silent()).why == ""


def test_going_back_and_forth_makes_each_build_once(back: Settings) -> None:
    first = rebuild_after_cann(back, Silent()).build
    switch_cann(back, NEXT_RELEASE)
    rebuild_after_cann(back, Silent())
    names = _names(back)
    switch_cann(back, FIRST_RELEASE)
    assert rebuild_after_cann(back, Silent()).build.manifest.build_id == first.manifest.build_id
    assert _names(back) == names


# ---- CANN that is incomplete, or changes under our feet


def test_a_cann_that_was_removed_half_way_is_named_and_nothing_is_built(back: Settings) -> None:
    before = _current(back), _names(back)
    (ascend_of(back) / "ascend-toolkit" / "latest" / "lib64" / GE_RUNNER).unlink()
    planned = plan_rebuild(back)
    assert planned.exit_code == 3
    assert GE_RUNNER in planned.text()
    with pytest.raises(VerificationError, match="a rebuild would not change that") as caught:
        rebuild_after_cann(back, Silent())
    assert GE_RUNNER in str(caught.value)
    fsutil.remove(ascend_of(back) / "tfplugin")
    named = dataclasses.replace(back, adapter="auto", cann_root=str(ascend_of(back)))
    with pytest.raises(MissingToolError, match="Found no adapter"):
        rebuild_after_cann(named, Silent())
    assert (_current(back), _names(back)) == before


def test_a_missing_library_of_cann_counts_for_a_build_with_the_same_adapter_too(state: Settings) -> None:
    (ascend_of(state) / "ascend-toolkit" / "latest" / "lib64" / GE_RUNNER).unlink()
    planned = plan_rebuild(state)
    assert (planned.action, planned.exit_code) == (NOTHING, 3)
    assert GE_RUNNER in planned.text()


def test_a_cann_that_is_removed_during_the_relink_is_named_and_nothing_is_compiled_for_it(
    state: Settings, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _with_output_root(state, upgrade)
    before = _current(settings)
    runs: list[bool] = []

    def without_toolkit(*arguments: Any, clean: bool, **more: Any) -> BuildResult:
        runs.append(clean)
        (ascend_of(settings) / "ascend-toolkit" / "latest" / "lib64" / GE_RUNNER).unlink()
        return genuine(*arguments, clean=clean, **more)

    genuine = build_serving
    monkeypatch.setattr(pipeline, "build_serving", without_toolkit)
    with pytest.raises(VerificationError, match="a rebuild would not change that"):
        rebuild_after_cann(settings, Silent())
    assert runs == [False], "no clean build follows"
    assert _current(settings) == before


def test_an_adapter_that_is_named_as_its_wheel_is_compared_and_put_into_the_build(
    state: Settings, tmp_path: Path
) -> None:
    installed = make_wheel(tmp_path / "installed", adapter_of(state).read_bytes())
    switch_cann(state, FIRST_RELEASE)
    former = make_wheel(tmp_path / "former", adapter_of(state).read_bytes())
    named = dataclasses.replace(state, cann_root=str(ascend_of(state)))
    assert plan_rebuild(dataclasses.replace(named, adapter=str(installed))).action == NOTHING
    settings = dataclasses.replace(named, adapter=str(former))
    assert plan_rebuild(settings).action == SWAP
    build = rebuild_after_cann(settings, Silent()).build
    assert build is not None
    assert build.manifest.adapter["wheel"] == str(former)
    assert build.adapter.read_bytes() == adapter_of(state).read_bytes()


def test_an_adapter_that_is_replaced_between_the_look_and_the_link_is_noticed(
    state: Settings, upgrade: Upgrade, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = _with_output_root(state, upgrade)
    before = _current(settings), _names(settings)
    other = ascend_of(settings) / "tfplugin" / FIRST_RELEASE / "python/site-packages/npu_bridge/_tf_adapter.so"

    def replaced(*arguments: Any) -> object:
        shutil.copyfile(other, adapter_of(settings))
        return genuine(*arguments)

    genuine = plan_overlay
    monkeypatch.setattr(pipeline, "plan_overlay", replaced)
    with pytest.raises(AdapterError, match="was replaced during this run") as caught:
        rebuild_after_cann(settings, Silent())
    assert "the same command again" in caught.value.cure
    assert (_current(settings), _names(settings)) == before


def test_an_adapter_that_is_replaced_while_it_is_packaged_is_noticed(
    back: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _current(back), _names(back)
    genuine = package

    def replaced(*arguments: Any, **more: Any) -> object:
        shutil.copyfile(find_build(back.dist_root).adapter, adapter_of(back))
        return genuine(*arguments, **more)

    monkeypatch.setattr(rebuild, "package", replaced)
    with pytest.raises(AdapterError, match="was replaced during this run"):
        rebuild_after_cann(back, Silent())
    assert (_current(back), _names(back)) == before


# ---- the golden request


def _expecting(settings: Settings, **values: object) -> None:
    path = golden_directory(settings.dist_root) / "half_plus_two.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def _fails_the_golden_request(settings: Settings, match: str) -> None:
    before = _current(settings), _names(settings)
    with pytest.raises(ServerError, match=match) as caught:
        rebuild_after_cann(settings, Silent())
    assert "the previous one stays current" in caught.value.what
    assert _current(settings) == before[0]
    (kept,) = _names(settings) - before[1]
    assert kept in caught.value.cause
    assert kept in caught.value.cure
    assert smoke.smoke(settings, kept, Silent()).exit_code == 3


def test_a_new_server_that_answers_otherwise_stays_out_of_service_and_is_kept_to_be_looked_into(back: Settings) -> None:
    _expecting(back, expected=[3.5, 4.0, 5.25])
    _fails_the_golden_request(back, r"predictions\[2\] is 5.5, not 5.25")
    _expecting(back, expected=[3.5, 4.0, 5.5])
    names = _names(back)
    assert rebuild_after_cann(back, Silent()).build.current, "the kept one is asked again, and taken"
    assert _names(back) == names


def test_a_golden_request_in_the_single_file_of_former_versions_counts_too(back: Settings) -> None:
    fsutil.remove(golden_directory(back.dist_root))
    (back.dist_root / FORMER).write_text("{")
    before = _current(back)
    with pytest.raises(RequestError, match="not a golden request"):
        rebuild_after_cann(back, Silent())
    assert _current(back) == before


def test_a_new_server_that_dies_at_its_start_never_becomes_current_and_its_last_words_are_told(
    back: Settings, tmp_path: Path
) -> None:
    source = tmp_path / "dies.c"
    words = "F tf_adapter/util/ge_plugin.cc:338] [GePlugin] Initialize ge failed, ret : failed\\n"
    words += "EL0005: The resources are busy.\\n"
    die = f'fputs("{words}", stderr); abort();'
    source.write_text(
        f"#include <stdio.h>\n#include <stdlib.h>\n__attribute__((constructor)) static void die(void) {{ {die} }}\n"
    )
    adapter = tmp_path / "_tf_adapter.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,_tf_adapter.so", "-o", adapter, source], check=True)
    settings = dataclasses.replace(back, adapter=str(adapter), cann_root=str(ascend_of(back)))
    told = r"The server exited before it was ready: killed by SIGABRT \(6\)[^$]*the device is used by another process"
    _fails_the_golden_request(settings, told)


def test_a_server_that_serves_on_the_cpu_fails_though_its_answer_is_right(state: Settings) -> None:
    """The NEEDED entry is overwritten, as an --as-needed linker would leave it out: nothing is said at the start."""
    build = find_build(state.dist_root)
    program = build.server.read_bytes()
    assert program.count(b"\0_tf_adapter.so\0") == 1
    build.server.write_bytes(program.replace(b"\0_tf_adapter.so\0", b"\0libm.so.6\0\0\0\0\0\0"))
    assert "adapter-not-linked" in verify_build(state).report.kinds()
    result = smoke.smoke(state, "", Silent())
    assert result.exit_code == 3
    assert "serves every model on the CPU" in result.why


def test_a_list_of_operators_that_is_damaged_or_lacks_the_models_own_is_found_though_the_answer_is_right(
    state: Settings,
) -> None:
    path = ascend_of(state) / "ascend-toolkit" / "latest" / OPERATOR_LIST
    good = path.read_text()
    path.write_text("{")
    for text in (verify_build(state).text(), smoke.smoke(state, "", Silent()).why):
        assert f"{path} is not valid JSON" in text
        assert "silently served by the CPU" in text
    assert (verify_build(state).exit_code, verify_build(state).report.ok) == (3, True)
    path.write_text(good.replace("Mul", "Div"))
    assert verify_build(state).exit_code == 0, "which operators a model has isn't known here"
    assert "the CPU computed it" in smoke.smoke(state, "", Silent()).why
    path.write_text(good)
    result = smoke.smoke(state, "", Silent())
    assert (result.exit_code, result.on_npu) == (0, True)
    assert "The NPU computed it" in result.text()


def test_what_is_recorded_is_what_the_current_build_answers(state: Settings) -> None:
    fsutil.remove(golden_directory(state.dist_root))
    with pytest.raises(RequestError, match="No golden request"):
        smoke.smoke(state, "", Silent())
    listening = Listening()
    smoke.prove(state, find_build(state.dist_root), cann_of(state), listening)
    assert "no golden request is recorded" in listening.said[0]
    recorded = smoke.record(state, "", ASKED, Silent())
    assert recorded.outcomes[0].golden.expected == [3.5, 4.0, 5.5]
    former = next(build for build in read_builds(state.dist_root).sound if not build.current)
    without_npu = dataclasses.replace(ASKED, platform_config_file=None)
    recorded = smoke.record(state, former.manifest.build_id, without_npu, listening)
    assert recorded.outcomes[0].golden.origin.build == former.manifest.build_id, (
        "the build that was named is the one that is asked"
    )
    assert "every model runs on the CPU" in "\n".join(listening.said)
    assert "proves nothing about the NPU" in recorded.text()
    assert "proves nothing about the NPU" in smoke.smoke(state, "", Silent()).text()
    assert smoke.smoke(state, "", Silent()).exit_code == 0
    missing = dataclasses.replace(ASKED, model_base_path=str(state.dist_root / "nowhere"))
    with pytest.raises(RequestError, match=r"model directory .* does not exist"):
        smoke.record(state, "", missing, Silent())
    (kept,) = golden_requests(state).sound()
    assert kept.model_base_path == str(MODEL)


def test_of_several_golden_requests_each_is_reported_and_one_that_differs_fails_the_build(
    state: Settings, tmp_path: Path
) -> None:
    array = tensor_of([1.0, 2.0, 5.0])
    assert array is not None
    npz = tmp_path / "x.npz"
    npz.write_bytes(write_npz({"x": array}))
    columns = dataclasses.replace(ASKED, name="columns", request=read_request(str(npz)))
    recorded = smoke.record(state, "", columns, Silent(), inputs_npz=npz)
    assert recorded.outcomes[0].golden.origin.device == "npu 0"
    patient = f"--rest_api_timeout_in_ms={FIRST_ANSWER_MS}"
    assert patient in smoke.plan_smoke(state, "", columns).argv, "by default the server gives up after 30 s"
    labelled = dataclasses.replace(ASKED, name="labelled", label="stable", expected=[0.0])
    write_golden(golden_directory(state.dist_root), labelled)
    result = smoke.smoke(state, "", Silent())
    assert (result.exit_code, result.on_npu) == (0, True)
    assert [(each.golden.name, each.why, bool(each.not_asked)) for each in result.outcomes] == [
        ("columns", "", False),
        ("half_plus_two", "", False),
        ("labelled", "", True),
    ]
    _expecting(state, expected=[3.5, 4.0, 5.25])
    result = smoke.smoke(state, "", Silent())
    assert result.exit_code == 3
    assert result.why.startswith("half_plus_two: predictions[2] is 5.5, not 5.25")
    assert "fails 1 of 2 golden requests" in result.text()
    with pytest.raises(ServerError, match="fails a golden request, so the previous one stays current"):
        smoke.prove(state, find_build(state.dist_root), cann_of(state), Silent())
    (only,) = smoke.golden_of(golden_requests(state), "columns")
    assert smoke.smoke_build(state, find_build(state.dist_root), (only,), Silent()).exit_code == 0
    assert "columns" in smoke.list_golden(golden_requests(state)).text()


def test_a_deployments_own_server_is_asked_its_own_golden_requests_of_the_version_that_they_name(
    state: Settings, tmp_path: Path
) -> None:
    shutil.copytree(MODEL, tmp_path / "models" / "m")
    own = tmp_path / "golden"
    old = GoldenRequest("old", "m", PredictRequest(ROW, [1.0, 2.0, 5.0]), [2.5, 3.0, 4.5], version=1)
    write_golden(own, old)
    write_golden(own, dataclasses.replace(old, name="new", version=2, expected=[3.5, 4.0, 5.5]))
    write_golden(own, dataclasses.replace(old, name="elsewhere", model="other"))
    file = tmp_path / "deployment.yaml"
    model = {"name": "m", "base_path": str(tmp_path / "models" / "m"), "versions": "all"}
    file.write_text(json.dumps({"version": 1, "models": [model], "npu": {}, "golden": str(own)}))
    deployment = read_deployment(file)
    chosen = of_models(golden_requests(state, deployment).sound(), deployment)
    assert [golden.name for golden in chosen] == ["new", "old"]
    assert smoke.smoke(state, "", Silent(), chosen[1:]).outcomes[0].not_asked, (
        "alone it does not say where its model is"
    )
    result = smoke.smoke(state, "", Silent(), chosen, (deployment, file))
    assert (result.why, result.on_npu) == ("", True)
    (wrong, right) = (dataclasses.replace(chosen[0], expected=[3.5, 4.0, 5.25]), chosen[1])
    result = smoke.smoke(state, "", Silent(), (wrong, right), (deployment, file))
    assert result.why.startswith("new: predictions[2] is 5.5")


# ---- going back, listing, pruning


def test_a_rollback_goes_to_the_build_before_and_a_second_one_comes_back(back: Settings) -> None:
    second = _current(back)
    result = roll_back(back)
    assert (result.former, _current(back)) == (second, result.build.directory.name)
    assert result.build.manifest.adapter["cann_version"] == FIRST_RELEASE
    switch_cann(back, NEXT_RELEASE)
    assert roll_back(back).build.directory.name == second == _current(back)
    assert "is already current" in roll_back(back, second, dry_run=True).text()


def test_a_rollback_to_a_build_that_does_not_fit_is_refused_unless_it_is_forced(state: Settings) -> None:
    before = _current(state)
    with pytest.raises(VerificationError, match=f"contains the adapter of CANN {FIRST_RELEASE}") as caught:
        roll_back(state)
    assert caught.value.exit_code == 3
    assert "--force" in caught.value.cure
    assert _current(state) == before
    assert roll_back(state, force=True, dry_run=True).build.directory.name != before
    assert _current(state) == before
    assert "warning" in roll_back(state, force=True).text()
    assert _current(state) != before


def test_a_rollback_to_a_truncated_or_incomplete_build_is_refused(back: Settings) -> None:
    target = next(build for build in read_builds(back.dist_root).sound if build.previous)
    whole = target.server.read_bytes()
    for spoil in (lambda: target.server.write_bytes(whole[:5000]), target.server.unlink):
        spoil()
        with pytest.raises(VerificationError, match="does not fit"):
            roll_back(back)


def test_a_rollback_without_a_build_before_says_which_there_are(back: Settings) -> None:
    (back.dist_root / PREVIOUS).unlink()
    with pytest.raises(RequestError, match="There is no previous build") as caught:
        roll_back(back)
    assert _current(back) in caught.value.what
    with pytest.raises(RequestError, match="No builds match"):
        roll_back(back, "no such build")
    with pytest.raises(RequestError, match="There are no builds in"):
        roll_back(dataclasses.replace(back, dist_root=back.dist_root / "nowhere"))


def test_the_list_tells_of_each_build_what_it_is_and_whether_it_fits(state: Settings) -> None:
    listed = list_builds(state)
    fits = {item.build.manifest.adapter["cann_version"]: item.fit for item in listed.builds}
    assert fits[NEXT_RELEASE].fits
    assert f"the adapter of CANN {FIRST_RELEASE}" in fits[FIRST_RELEASE].why
    for item in listed.builds:
        real = sum(path.stat().st_size for path in item.build.directory.rglob("*") if path.is_file())
        assert item.build.size_bytes == real
        assert item.age_s is not None
        assert item.build.manifest.adapter["sha256"][:12] in listed.text()
    (listed.builds[0].build.directory / MANIFEST).write_text("{")
    damaged = list_builds(state)
    assert [item.directory for item in damaged.damaged] == [listed.builds[0].build.directory]
    assert f"damaged: {listed.builds[0].build.directory.name}" in damaged.text()
    (ascend_of(state) / "tfplugin" / NEXT_RELEASE / "python/site-packages/npu_bridge/_tf_adapter.so").write_text("x")
    assert not any(item.fit.fits for item in list_builds(state).builds)


def test_prune_keeps_the_current_build_the_previous_one_and_those_that_run(back: Settings, tmp_path: Path) -> None:
    rebuild_after_cann(back, Silent())
    current, previous, oldest = read_builds(back.dist_root).sound
    shutil.copytree(oldest.directory, back.dist_root / "serving-spare", symlinks=True)
    _edit_manifest(back.dist_root / "serving-spare", build_id="serving-spare")
    serving = plan_current(
        back, build=oldest.manifest.build_id, model_base_path=MODEL, platform_config_file=PLATFORM_CONFIG, **_ports()
    )
    with started(serving, log_path=tmp_path / "log") as server:
        tried = prune_builds(back, 0, dry_run=True)
        assert (back.dist_root / "serving-spare").is_dir()
        result = prune_builds(back, 0)
        assert [build.directory.name for build in result.removed] == ["serving-spare"]
        assert tried.removed == result.removed
        reasons = {build.directory.name: why for build, why in result.kept}
        assert reasons[current.directory.name] == "it is current"
        assert "rollback" in reasons[previous.directory.name]
        assert str(server.pid) in reasons[oldest.directory.name]
        assert _ask(server) == [3.5]
    assert [build.directory for build in prune_builds(back, 3).removed] == []
    assert [build.directory for build in prune_builds(back, 0).removed] == [oldest.directory]
    assert not list(back.dist_root.glob(f".*{pruning.DOOMED}"))


def test_what_a_killed_prune_left_is_no_build_and_goes_with_the_next_one(state: Settings) -> None:
    current = find_build(state.dist_root)
    half = state.dist_root / f".serving-old{pruning.DOOMED}"
    shutil.copytree(current.directory, half)
    (half / SERVER).unlink()
    assert len(read_builds(state.dist_root).sound) == 2
    prune_builds(state, 5)
    assert not half.exists()


# ---- what can go wrong on the way


def test_two_runs_at_once_exclude_each_other_and_the_holder_is_named(back: Settings) -> None:
    with (
        state_lock(back.build_root, doing=DOING),
        pytest.raises(StateLockedError, match=rf"process {os.getpid()} \(rebuild-after-cann\)"),
    ):
        rebuild_after_cann(back, Silent())


def test_a_build_waits_for_a_relink_of_a_kit_and_says_so_but_a_saved_link_is_refused(
    upgrade: Upgrade, tmp_path: Path
) -> None:
    settings = dataclasses.replace(upgrade.settings, dist_root=tmp_path / "dist", install_link="")
    make_current(_copied(upgrade.before.build.directory, settings))
    held = contextlib.ExitStack()

    class Ending(Listening):
        def note(self, text: str) -> None:
            super().note(text)
            if "goes on when that has finished" in text:
                held.close()

    held.enter_context(dist_lock(settings.dist_root, doing="relink from a kit"))
    with held:
        with pytest.raises(StateLockedError, match="relink from a kit"):
            rebuild_after_cann(settings, Silent())
        listening = Ending()
        assert rebuild_after_cann(settings, listening, with_bazel=True).build.current
    assert any(f"{settings.dist_root} is in use by process {os.getpid()}" in line for line in listening.said)


@pytest.mark.parametrize("with_bazel", [False, True])
def test_while_a_linked_server_is_proven_a_rollback_goes_at_once_and_is_not_undone(
    upgrade: Upgrade, tmp_path: Path, with_bazel: bool
) -> None:
    settings = dataclasses.replace(upgrade.settings, dist_root=tmp_path / "dist", install_link="")
    make_current(_copied(upgrade.before.build.directory, settings))
    other = settings.dist_root / "serving-copy"
    shutil.copytree(upgrade.before.build.directory, other, symlinks=True)
    _edit_manifest(other, build_id=other.name)

    class GoingBack(Listening):
        def note(self, text: str) -> None:
            super().note(text)
            if text == NONE_RECORDED:
                roll_back(settings, other.name, force=True)

    with pytest.raises(SwitchedMeanwhileError, match=r"^serving-copy was made current while "):
        rebuild_after_cann(settings, GoingBack(), with_bazel=with_bazel)
    assert _current(settings) == other.name
    assert len(read_builds(settings.dist_root).sound) == 3


def test_an_install_link_that_cannot_be_made_is_told_before_anything_is_done(back: Settings) -> None:
    before = _current(back), _names(back)
    with pytest.raises(FileAccessError, match="Could not create"):
        rebuild_after_cann(dataclasses.replace(back, install_link="/proc/1/tensorflow_model_server"), Silent())
    assert (_current(back), _names(back)) == before


def test_an_install_link_that_leads_there_already_needs_no_permission(
    back: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_current(find_build(back.dist_root), back.install_link)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    check_link(back.install_link, back.dist_root)
    with pytest.raises(FileAccessError, match="may not write"):
        check_link(back.install_link + "2", back.dist_root)


@pytest.mark.parametrize("free_kb", [8, 48])
def test_a_full_disk_leaves_the_former_build_current_and_nothing_half_made(
    back: Settings, tmp_path: Path, free_kb: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    used_kb = sum(path.stat().st_size for path in back.dist_root.rglob("*") if path.is_file()) // 1024 + 100
    size = f"size={used_kb + free_kb}k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "none", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        shutil.copytree(back.dist_root, disk / "dist", symlinks=True)
        settings = dataclasses.replace(back, dist_root=disk / "dist")
        before = _current(settings), _names(settings)
        blocker = disk / "blocker"
        with pytest.raises(DiskFullError) as caught:
            _fill(blocker, leave_kb=free_kb // 2)
            rebuild_after_cann(settings, Silent())
        assert "free some space" in caught.value.cure
        assert (_current(settings), _names(settings)) == before
        blocker.unlink()
        assert verify_build(settings).report.ok
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def _fill(path: Path, *, leave_kb: int) -> None:
    """Takes the space of the file system that `path` is on, but for so much."""
    path.write_bytes(bytes(max(0, fsutil.free_bytes(path.parent) - leave_kb * 1024)))


def test_a_relinked_server_that_does_not_verify_is_followed_by_a_clean_build(
    upgrade: Upgrade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bazel: Path
) -> None:
    """What the first link leaves is the former server, as a linker that loses the new symbol would: it is verified."""
    settings = dataclasses.replace(upgrade.settings, dist_root=tmp_path / "dist", install_link="")
    make_current(_copied(upgrade.before.build.directory, settings))
    here = find_context(settings, Silent())
    output, layout = here.output_base, here.layout
    warm = [
        str(bazel),
        "--nosystem_rc",
        "--nohome_rc",
        f"--output_user_root={layout.output_user_root}",
        "info",
        "server_pid",
    ]
    servers: list[Path] = []
    genuine = bazel_room.build

    def losing_a_symbol(*arguments: Any, **more: Any) -> BuildRecord:
        return dataclasses.replace(genuine(*arguments, **more), output=upgrade.before.build.server)

    class Cured(Listening):
        def warn(self, text: str) -> None:
            super().warn(text)
            if "fails verification" not in text:
                return
            monkeypatch.setattr(bazel_room, "build", genuine)
            subprocess.run(warm, cwd=layout.workspace, capture_output=True, check=True)  # somebody's own Bazel
            servers.append(Path("/proc", (output / "server" / "server.pid.txt").read_text()))
            assert servers[0].exists()

    other = settings.build_root / "bazel" / "host" / ("0" * 32)
    other.mkdir(exist_ok=True)
    monkeypatch.setattr(bazel_room, "build", losing_a_symbol)
    listening = Cured()
    result = rebuild_after_cann(settings, listening, with_bazel=True)
    assert result.plan.action == BAZEL
    assert result.way == FULL
    assert result.clean_followed
    assert "NpuTrace" in "\n".join(listening.said)
    assert result.record.compiled == upgrade.before.record.compiled
    assert result.build.current
    assert not servers[0].exists(), "Bazel's own server was stopped before its output was removed"
    assert other.is_dir(), "what Bazel made of other trees stays"
    other.rmdir()


def test_where_what_the_saved_link_made_does_not_verify_bazel_links(
    upgrade: Upgrade, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(upgrade.settings, dist_root=tmp_path / "dist", install_link="")
    make_current(_copied(upgrade.before.build.directory, settings))

    @contextlib.contextmanager
    def losing_a_symbol(*_: Any, **__: Any) -> Iterator[Path]:
        made = settings.dist_root / "server"
        shutil.copyfile(upgrade.before.build.server, made)
        yield made

    monkeypatch.setattr(pipeline, "relinked", losing_a_symbol)
    listening = Listening()
    result = rebuild_after_cann(settings, listening)
    assert (result.plan.action, result.way, result.clean_followed) == (SAVED_LINK, BAZEL, False)
    assert "fails verification, so Bazel links it" in "\n".join(listening.said)
    assert "Bazel linked in place of the saved link: what it made did not verify" in result.text()
    assert result.build.current
    assert verify_build(settings).exit_code == 0


def test_the_check_tells_the_way_its_time_here_and_its_disk(upgrade: Upgrade, tmp_path: Path) -> None:
    settings = dataclasses.replace(upgrade.settings, dist_root=tmp_path / "dist", install_link="")
    make_current(_copied(upgrade.before.build.directory, settings))
    for with_bazel, way in ((False, SAVED_LINK), (True, BAZEL)):
        planned = plan_rebuild(settings, with_bazel=with_bazel, costs=True)
        told: dict[str, Any] = planned.to_json()
        assert told["action"] == way
        size = planned.build.size_bytes
        assert size < told["needed_bytes"] < told["free_bytes"]
        if way == SAVED_LINK:
            assert told["expected_seconds"] == pytest.approx(upgrade.result.seconds, abs=60)
            assert ", as before. Disk: " in planned.text()
    assert planned.text().endswith("./inv rebuild-after-cann --with-bazel")
    assert "as requested with --with-bazel" in planned.why


def _copied(directory: Path, settings: Settings) -> Build:
    shutil.copytree(directory, settings.dist_root / directory.name)
    return find_build(settings.dist_root, directory.name)
