"""A kit's file, where one of the same objects is there already."""

from __future__ import annotations

from pathlib import Path

from listening import Listening
from small_kits import ANSWER, OTHER, write_small_kit

from npu_serving.packaging.relink_kit_file import warn_of_replaced


def test_a_kit_that_gives_way_to_one_for_other_releases_is_said_and_one_for_the_same_is_not(tmp_path: Path) -> None:
    heard = Listening()
    target = write_small_kit(tmp_path / "kit.pyz", {}, program=False, libraries={}, fits={"6.3.RC2": (ANSWER, OTHER)})
    warn_of_replaced(target, {"6.3.RC2": (OTHER, ANSWER)}, heard)
    warn_of_replaced(tmp_path / "none.pyz", {}, heard)
    (tmp_path / "other.pyz").write_text("not a kit")
    warn_of_replaced(tmp_path / "other.pyz", {}, heard)
    assert heard.warnings == []
    warn_of_replaced(target, {}, heard)
    warn_of_replaced(target, {"6.3.RC2": (ANSWER,), "9.0.0": (OTHER,)}, heard)
    assert f"The kit {target}, whose servers fit the adapters of 6.3.RC2, gives way" in heard.warnings[0]
    assert "whose servers fit 6.3.RC2, 9.0.0; --output" in heard.warnings[1]
