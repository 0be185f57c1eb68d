"""A build and a model for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_builds import put_program


@pytest.fixture
def model(tmp_path: Path) -> Path:
    version = tmp_path / "models of 'Zoë'\n" / "m" / "00000123"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    return version.parent


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    made = tmp_path / 'dist "1" ü'
    (made / "bin").mkdir(parents=True)
    (made / "lib").mkdir()
    put_program(made, "#!/bin/sh\nexit 3\n")
    return made
