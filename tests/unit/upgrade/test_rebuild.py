"""What a rebuild hands on to the build."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from npu_serving.building import pipeline
from npu_serving.console import Silent
from npu_serving.settings import Settings
from npu_serving.upgrade.rebuild import _Relink
from npu_serving.upgrade.rebuild_plan import RebuildPlan


def test_what_was_planned_with_is_gone_on_with_but_by_a_clean_build_which_uses_no_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, handed = object(), list[Any]()
    monkeypatch.setattr(pipeline, "build_serving", lambda *_, planned, **more: handed.append((planned, more["clean"])))
    plan = SimpleNamespace(
        context=context, cann=None, build=SimpleNamespace(manifest=SimpleNamespace(also_fits_files={}))
    )
    relink = _Relink(cast(RebuildPlan, plan), Settings(disk_cache="/cache"), Silent())
    relink.build()
    relink.build(clean=True)
    assert handed == [(context, False), (None, True)]
