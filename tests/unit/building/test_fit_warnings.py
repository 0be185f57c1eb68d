"""What is said right after a build of the releases that its server does not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from npu_serving.building import build_command
from npu_serving.building.context import BuildContext
from npu_serving.building.fit_warnings import fit_warnings
from npu_serving.builds.manifest import BuildManifest, ReleaseFit
from npu_serving.settings import Settings

NOWHERE, OF_XLA = "_ZN10tensorflow7nowhereEv", "_ZN3xla1fEv"
FILE = "/opt/other/_tf_adapter.so"


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """An invoke.yaml that states nothing."""
    monkeypatch.setattr(build_command, "load_settings", Settings)


def said(releases: tuple[ReleaseFit, ...], words: tuple[str, ...], root: Path, *, xla: str = "adapter") -> list[str]:
    """What is said after a build that was to fit those words; the directory has no sources of TensorFlow."""
    source = {"name": "1.15.0"}
    manifest = BuildManifest(
        "id",
        "d",
        "1.15.0",
        source,
        {},
        "",
        {},
        (),
        {},
        {},
        {},
        releases=releases,
        also_fits=words,
    )
    settings = Settings(also_fits=words, xla=xla)
    return fit_warnings(cast(BuildContext, SimpleNamespace(settings=settings, output_base=root)), manifest)


def test_an_adapter_that_lacks_what_is_xlas_is_cured_by_all_of_xla_and_else_left_out(tmp_path: Path) -> None:
    releases = (ReleaseFit("6.3"), ReleaseFit("8.0"), ReleaseFit("9.0", (OF_XLA,)), ReleaseFit(FILE, (NOWHERE, OF_XLA)))
    release, file = said(releases, ("known", FILE), tmp_path)
    assert release == (
        "The server was to fit the adapter of 9.0 as well, and lacks 1 symbol, such as xla::f(). "
        f"Next: build it with all of XLA: ./inv build-serving --also-fits known --also-fits {FILE} --xla full"
    )
    assert file.startswith(f"The server was to fit the adapter {FILE} as well, and lacks 2 symbols, such as tensor")
    assert file.endswith("for the others alone: ./inv build-serving --also-fits 6.3 --also-fits 8.0")


def test_where_the_server_has_all_of_xla_already_that_is_no_cure(tmp_path: Path) -> None:
    lacking = ReleaseFit("9.0", (OF_XLA,))
    (line,) = said((ReleaseFit("6.3"), lacking), ("known",), tmp_path, xla="full")
    assert line.endswith("for the others alone: ./inv build-serving --also-fits 6.3 --xla full")
    (alone,) = said((ReleaseFit("6.3"), lacking), ("9.0",), tmp_path, xla="full")
    assert alone.endswith("./inv build-serving --also-fits none --xla full"), "6.3 was not asked for either"


def test_a_known_release_that_nobody_asked_for_is_said_to_need_a_link(tmp_path: Path) -> None:
    (line,) = said((ReleaseFit("6.3"), ReleaseFit("9.0", (NOWHERE,))), ("6.3",), tmp_path)
    assert "not to fit the adapters of 9.0, so that an upgrade to them needs a link" in line
    assert line.endswith("To have it fit all that are known: ./inv build-serving")


def test_nothing_is_said_of_what_is_fitted(tmp_path: Path) -> None:
    assert said((ReleaseFit("6.3"),), ("known",), tmp_path) == []
    assert said((), ("known",), tmp_path) == []
