"""A small kit, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_kits import make_members, write_small_kit


@pytest.fixture(scope="session")
def small_members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_members(tmp_path_factory.mktemp("members"))


@pytest.fixture(scope="session")
def small_kit(small_members: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without its program, which most tests call themselves."""
    return write_small_kit(tmp_path_factory.mktemp("kit") / "small.pyz", small_members, program=False)


@pytest.fixture(scope="session")
def whole_kit(small_members: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_kit(tmp_path_factory.mktemp("kit") / "whole.pyz", small_members)
