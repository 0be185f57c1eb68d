"""build-serving --adapter none, with the real Bazel: all but the link, on a machine that has no CANN."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from states import MODEL, PLATFORM_CONFIG

from npu_serving import fsutil
from npu_serving.asking.golden import GoldenRequest
from npu_serving.asking.request import ROW, PredictRequest
from npu_serving.building import pipeline
from npu_serving.building.context import find_context
from npu_serving.building.pipeline import BuildResult, build_serving
from npu_serving.building.prepared import PREPARED, keep_prepared, prepared_of
from npu_serving.building.saved_links import links_directory
from npu_serving.building.without_adapter import PreparedResult, prepare_objects
from npu_serving.builds.current import CPU_SERVER, CURRENT, link_target
from npu_serving.builds.manifest import Build
from npu_serving.builds.rollback import roll_back
from npu_serving.builds.verify import verify_build
from npu_serving.cann.known_adapters import OF_SAMPLE, KnownAdapter, write_known
from npu_serving.console import Silent
from npu_serving.elf.symbols import read_elf
from npu_serving.errors import AdapterError, RequestError, VerificationError
from npu_serving.linking.saved_link import SavedLink, read_saved_link
from npu_serving.packaging.package import plan_package
from npu_serving.packaging.prepared_kit import prepare_and_pack
from npu_serving.packaging.relink_kit_file import make_kit
from npu_serving.relink_kit.kit_file import read_kit
from npu_serving.sample.cann import FIRST_RELEASE, NEXT_RELEASE
from npu_serving.sample.sample_settings import sample_root
from npu_serving.settings import WITHOUT_ADAPTER, Settings
from npu_serving.trials.smoke import smoke_build
from npu_serving.upgrade.rebuild_plan import plan_rebuild


@dataclass(frozen=True)
class Road:
    """The sample built with its adapter, then without one, then with it again elsewhere."""

    settings: Settings
    of_the_build: SavedLink
    first: PreparedResult
    made: PreparedResult
    again: PreparedResult
    current: tuple[str, str]
    relinked: BuildResult
    cpu: PreparedResult
    cpu_again: PreparedResult

    @property
    def server(self) -> Build:
        """The one for the CPU."""
        assert self.cpu.server is not None
        return self.cpu.server


@pytest.fixture(scope="module")
def road(built: BuildResult, sample_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    settings = dataclasses.replace(sample_settings, adapter=WITHOUT_ADAPTER, install_link="")
    before = link_target(settings.dist_root, CURRENT)
    assert built.build.manifest.objects
    kept = read_saved_link(links_directory(settings) / f"{built.build.manifest.objects}.json")
    assert kept is not None
    first = prepare_objects(settings, Silent())
    fsutil.remove(links_directory(settings))
    made = prepare_objects(settings, Silent())
    again = prepare_objects(settings, Silent())
    cpu, cpu_again = (prepare_objects(settings, Silent(), cpu_server=True) for _ in range(2))
    after = link_target(settings.dist_root, CURRENT)
    elsewhere = dataclasses.replace(sample_settings, dist_root=tmp_path_factory.mktemp("dist"), install_link="")
    relinked = build_serving(elsewhere, Silent())
    yield Road(settings, kept, first, made, again, (before, after), relinked, cpu, cpu_again)
    for left in (settings.dist_root / CPU_SERVER, settings.dist_root / "packages", settings.build_root / PREPARED):
        fsutil.remove(left)
    if cpu.server is not None:
        fsutil.remove(cpu.server.directory)
    build_serving(sample_settings, Silent())


def test_after_a_build_with_an_adapter_bazel_has_nothing_to_do(road: Road) -> None:
    assert road.first.record.actions == {}
    assert road.first.objects == road.of_the_build.objects


def test_all_is_made_but_the_link_whose_command_is_that_of_a_build_with_an_adapter(road: Road) -> None:
    assert road.made.record.compiled == 0
    assert road.made.record.output is not None
    kept = read_saved_link(road.made.link)
    assert kept is not None
    for name in ("objects", "directory", "output", "command", "parameters", "replaced", "linker"):
        assert getattr(kept, name) == getattr(road.of_the_build, name), name
    assert [(item.name, item.sha256) for item in kept.inputs] == [
        (item.name, item.sha256) for item in road.of_the_build.inputs
    ]
    assert "-wrapper" not in kept.command


def test_a_second_run_does_nothing_and_says_so(road: Road) -> None:
    assert road.again.plan.nothing_to_do
    assert road.again.record.actions == {}
    assert "up to date" in road.again.text()
    assert pipeline.dry_run(road.settings, Silent()).steps[-1].name == "objects"


def test_what_was_made_is_known_by_its_objects_and_names_no_adapter(road: Road) -> None:
    manifest = prepared_of(road.settings)
    assert manifest is not None
    assert manifest == prepared_of(road.settings, road.made.objects)
    assert manifest.without_adapter
    assert manifest.objects == road.relinked.build.manifest.objects


def test_the_current_build_stays_what_it_is(road: Road) -> None:
    assert road.current[0] == road.current[1] != ""


def test_with_an_adapter_afterwards_only_the_link_is_run(road: Road) -> None:
    assert (road.relinked.record.compiled, road.relinked.record.linked) == (0, 1)
    assert road.relinked.build.manifest.adapter["sha256"]


def test_a_server_for_the_cpu_is_linked_without_bazel_and_only_once(road: Road) -> None:
    assert road.cpu.record.actions == {}
    assert (road.settings.dist_root / CPU_SERVER).resolve() == road.server.directory.resolve()
    assert road.cpu_again.plan.nothing_to_do
    assert road.cpu_again.server is not None
    assert road.cpu_again.server.manifest == road.server.manifest
    elf = read_elf(road.server.server)
    assert not [name for name in elf.needed if "tf_adapter" in name or "python" in name or "tensorflow" in name]
    assert road.server.manifest.to_json()["adapter"] == {"path": WITHOUT_ADAPTER}


def test_verification_says_plainly_that_it_has_no_adapter_and_is_for_trying_only(road: Road) -> None:
    verified = verify_build(road.settings, road.server.directory.name)
    assert verified.exit_code == 0
    assert "has no adapter" in verified.text()
    assert "for trying only" in verified.text()


def test_its_answers_are_compared_on_the_cpu_and_no_adapter_is_asked_for(road: Road) -> None:
    asked = GoldenRequest(
        "half", "half_plus_two", PredictRequest(ROW, [1.0, 2.0]), expected=[3.5, 4.0], model_base_path=str(MODEL),
        platform_config_file=PLATFORM_CONFIG,
    )  # fmt: skip
    right = smoke_build(road.settings, road.server, (asked,), Silent())
    assert (right.exit_code, right.on_npu) == (0, False)
    assert "without an adapter" in right.text()
    wrong = smoke_build(road.settings, road.server, (dataclasses.replace(asked, expected=[3.5, 5.0]),), Silent())
    assert wrong.exit_code == 3


def test_it_neither_becomes_current_nor_is_packaged_nor_renewed(road: Road) -> None:
    name = road.server.directory.name
    with pytest.raises(VerificationError, match="no adapter"):
        roll_back(road.settings, name)
    with pytest.raises(RequestError, match="no adapter"):
        plan_package(road.settings, build=name)
    with pytest.raises(RequestError, match="no adapter"):
        plan_rebuild(road.settings, name)


def test_the_kit_of_it_is_packed_once_and_again_where_it_is_no_longer_what_was_packed(road: Road) -> None:
    first = prepare_and_pack(road.settings, Silent())
    assert first.packed is not None
    assert fsutil.sha256_of(first.kit) == first.sha256
    assert f"python3 {first.kit.name} relink" in first.text()
    again = prepare_and_pack(road.settings, Silent())
    assert (again.packed, again.sha256) == (None, first.sha256)
    assert "packed before" in again.text()
    first.kit.write_bytes(b"no kit")
    assert prepare_and_pack(road.settings, Silent()).sha256 == first.sha256
    assert fsutil.sha256_of(first.kit) == first.sha256


def test_an_adapter_that_a_server_is_to_fit_from_now_on_is_in_the_next_kit_and_nothing_is_built_for_it(
    road: Road, tmp_path: Path
) -> None:
    """By its release, and of the known ones where one is added to them."""
    first = prepare_and_pack(road.settings, Silent())
    assert dict(read_kit(first.kit).file.fits) == {}
    known = dataclasses.replace(road.settings, also_fits=("known",), adapters=tmp_path)
    (step,) = (step for step in pipeline.dry_run(known, Silent()).steps if step.needed)
    assert (step.name, step.why) == ("objects", "a server of them is to fit other adapters now")
    second = prepare_and_pack(known, Silent())
    assert second.prepared.record.actions == {}
    assert second.packed is not None
    assert set(read_kit(second.kit).file.fits) == {FIRST_RELEASE, NEXT_RELEASE}
    write_known(tmp_path / "own.json", KnownAdapter("9.1.0", OF_SAMPLE, "by hand", ("_ZN10tensorflow3newEv",)))
    third = prepare_and_pack(known, Silent())
    assert third.packed is not None
    assert dict(read_kit(third.kit).file.fits)["9.1.0"] == ("_ZN10tensorflow3newEv",)
    assert prepare_and_pack(known, Silent()).packed is None


def test_a_kit_is_that_of_the_tree_that_was_named_though_another_was_made_ready_later(
    road: Road, tmp_path: Path
) -> None:
    first = prepare_and_pack(road.settings, Silent())
    manifest = prepared_of(road.settings, first.prepared.objects)
    assert manifest is not None
    keep_prepared(road.settings, dataclasses.replace(manifest, objects="0b" * 32))
    fsutil.remove(first.kit)
    again = prepare_and_pack(road.settings, Silent())
    assert (again.kit, again.sha256) == (first.kit, first.sha256)
    newest = prepared_of(road.settings)
    assert newest is not None
    assert newest.objects == first.prepared.objects
    today = dataclasses.replace(road.settings, source="1.15.0", runner="auto")
    packed = make_kit(today, Silent(), output=tmp_path / "kit.pyz")
    assert packed.sha256 == first.sha256


def test_a_machine_without_cann_needs_none(sample_settings: Settings, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        sample_settings, adapter=WITHOUT_ADAPTER, build_root=tmp_path / "build", cann_root=str(tmp_path / "nowhere")
    )

    context = find_context(settings, Silent())

    assert context.overlay.adapter is None
    assert not (sample_root(settings) / "Ascend").exists()
    with pytest.raises(AdapterError, match="adapter") as caught:
        _ = context.adapter
    assert "--adapter auto" in caught.value.cure
