"""When the kit of what was built without an adapter is packed again, and of what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from listening import Listening

from npu_serving.building.build_record import BuildRecord
from npu_serving.building.plan import BuildPlan
from npu_serving.building.without_adapter import PreparedResult
from npu_serving.cann.known_adapters import KnownAdapter
from npu_serving.console import Reporter, Silent
from npu_serving.packaging import prepared_kit
from npu_serving.packaging.prepared_kit import prepare_and_pack
from npu_serving.packaging.relink_kit_file import KitPlan, KitResult
from npu_serving.relink_kit.kit_file import checksum_file
from npu_serving.settings import WITHOUT_ADAPTER, Settings

ADAPTER = KnownAdapter("9.0.0", "sample", "", ("a",))
FURTHER = KnownAdapter("9.1.0", "sample", "", ("b",))


class Packing:
    """What was made ready, as a test says, and which kits were packed of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects = "0a"
        self.fits: tuple[KnownAdapter, ...] = (ADAPTER,)
        self.packed: list[str] = []
        self.golden: Path | None = None

    def prepare(self, _settings: Settings, _reporter: Reporter, *, cpu_server: bool) -> PreparedResult:
        """Nothing has to be done for it."""
        assert not cpu_server
        return PreparedResult(self.objects, BuildPlan(()), BuildRecord(), 0.0, self.root / "link", self.fits)

    def pack(self, _settings: Settings, _reporter: Reporter, *, objects: str, golden: Path | None) -> KitResult:
        """Any file is a kit."""
        self.packed.append(objects)
        self.golden = golden
        target = self.root / f"{objects}.pyz"
        target.write_text(objects)
        return KitResult(KitPlan(target, objects, "x86_64", "", 1, 1, 1, ()), "", "", 1, 0.0)


@pytest.fixture
def packing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packing:
    packing = Packing(tmp_path)
    monkeypatch.setattr(prepared_kit, "prepare_objects", packing.prepare)
    monkeypatch.setattr(prepared_kit, "make_kit", packing.pack)
    return packing


def test_the_kit_is_of_the_objects_that_this_run_has_made_ready_and_is_packed_once(packing: Packing) -> None:
    settings = Settings(adapter=WITHOUT_ADAPTER, build_root=packing.root / "b", dist_root=packing.root / "d")
    for objects in ("0a", "0a", "0b", "0a"):
        packing.objects = objects
        assert prepare_and_pack(settings, Silent()).kit.read_text() == objects
    assert packing.packed == ["0a", "0b", "0a"]


def test_a_checksum_that_was_lost_is_written_again_beside_the_kit_of_before(packing: Packing) -> None:
    settings = Settings(adapter=WITHOUT_ADAPTER, build_root=packing.root / "b", dist_root=packing.root / "d")
    kit = prepare_and_pack(settings, Silent()).kit
    checksum_file(kit).unlink(missing_ok=True)
    again = prepare_and_pack(settings, Silent())
    assert packing.packed == ["0a"]
    assert checksum_file(kit).read_text() == f"{again.sha256}  {kit.name}\n"
    assert f"kept in {kit.name}.sha256" in again.text()
    assert f"sha256sum -c {kit.name}.sha256 && python3 {kit.name} relink" in again.text()


def test_the_kit_is_packed_again_when_a_server_of_it_is_to_fit_another_adapter_or_other_symbols(
    packing: Packing,
) -> None:
    settings = Settings(adapter=WITHOUT_ADAPTER, build_root=packing.root / "b", dist_root=packing.root / "d")
    for fits in ((ADAPTER,), (ADAPTER, FURTHER), (ADAPTER, FURTHER), (KnownAdapter("9.0.0", "sample", "", ("c",)),)):
        packing.fits = fits
        prepare_and_pack(settings, Silent())
    assert len(packing.packed) == 3


def test_the_kit_is_packed_again_when_the_golden_requests_that_were_named_or_a_platform_config_of_one_changed(
    packing: Packing,
) -> None:
    settings = Settings(adapter=WITHOUT_ADAPTER, build_root=packing.root / "b", dist_root=packing.root / "d")
    golden, config = packing.root / "golden", packing.root / "npu.config"
    golden.mkdir()
    request = {"format": 2, "model": "m", "instances": [1.0], "expected": [3.5], "platform_config_file": str(config)}
    changes: list[Callable[[], object]] = [
        lambda: config.write_text("one"),
        lambda: (golden / "a.json").write_text(json.dumps(request)),
        (golden / "a.json").touch,
        lambda: config.write_text("two"),
    ]
    packed = []
    for change in changes:
        change()
        prepare_and_pack(settings, Silent(), golden=golden)
        packed.append(len(packing.packed))
    assert packing.golden == golden
    assert packed == [1, 2, 2, 3]


def test_what_can_not_go_into_a_kit_is_said_again_where_it_stays_as_it_was_packed(packing: Packing) -> None:
    settings = Settings(adapter=WITHOUT_ADAPTER, build_root=packing.root / "b", dist_root=packing.root / "d")
    nowhere, warned = packing.root / "nowhere", Listening()
    prepare_and_pack(settings, Silent(), golden=nowhere)
    assert prepare_and_pack(settings, warned, golden=nowhere).packed is None
    assert warned.warnings == [f"{nowhere} is not a directory, so the kit has no golden requests."]
