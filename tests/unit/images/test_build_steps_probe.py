"""What an engine or an image answers that nobody expects is told in one sentence, and an unfit image is removed.

No real engine gives these answers, so a stand-in gives them here.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from npu_serving import fsutil
from npu_serving.errors import MissingToolError, NpuServingError, ProgramError
from npu_serving.images import build_steps, toolchain_image
from npu_serving.images.build_context import read_context
from npu_serving.process import Finished
from npu_serving.settings import Settings


class Engine:
    """Remembers what is removed and tagged; `reports` is what it says to a build."""

    def __init__(self, reports: list[dict[str, Any]] | None = None) -> None:
        self.removed: list[str] = []
        self.tagged: list[str] = []
        self.api = SimpleNamespace(build=lambda **_: iter(reports or []))
        self.images = SimpleNamespace(get=self._get, remove=self.removed.append)

    def _get(self, name: str) -> Any:
        return SimpleNamespace(
            id=name, labels={}, attrs={"RootFS": {}}, tag=lambda repository, tag: self.tagged.append(tag)
        )


@pytest.fixture
def plan(tmp_path: Path) -> toolchain_image.ImagePlan:
    """A plan for an image on a base that is there."""
    fsutil.write_file(tmp_path / "bazel", b"\x7fELF", mode=0o755)
    context = read_context(Settings(docker_base_image="debian:12"), tmp_path / "bazel")
    return toolchain_image.ImagePlan("debian:12", "sha256:base", context, "npu:tag", "", True, tmp_path)


def _made(
    plan: toolchain_image.ImagePlan, monkeypatch: pytest.MonkeyPatch, engine: Engine, printed: str
) -> toolchain_image.ImageResult:
    """build_image() from the point where the Dockerfile has been carried out."""
    answer = Finished(("probe",), 0, printed, "", 0.0)

    class Connected:
        def __enter__(self) -> Engine:
            return engine

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(toolchain_image, "connected", Connected)
    monkeypatch.setattr(build_steps, "run_container", lambda *_: answer)
    monkeypatch.setattr(toolchain_image, "make_layer", lambda *_, **__: build_steps.Made("sha256:made", {}))
    return toolchain_image.build_image(plan, Settings(), SimpleNamespace())


GOOD = "package=gcc=1\npackage=make=4.3-4\ncompiler=gcc 12.2.0, g++ 12.2.0\nbazel=0.24.1\n"


@pytest.mark.parametrize(
    ("printed", "error", "told"),
    [
        ("", ProgramError, "does not work"),
        ("bazel=0.24.1\n", ProgramError, "does not work"),
        ("compiler=\nbazel=0.24.1\n", ProgramError, "does not work"),
        ("compiler=gcc unknown\nbazel=0.24.1\n", ProgramError, "it printed 'gcc unknown'"),
        ("compiler=gcc 7.5.0, g++ 7.5.0\nbazel=0.24.1\n", MissingToolError, "requires 8.4"),
    ],
)
def test_an_image_that_fails_its_trial_is_removed_and_the_cure_is_another_base(
    plan: toolchain_image.ImagePlan,
    monkeypatch: pytest.MonkeyPatch,
    printed: str,
    error: type[NpuServingError],
    told: str,
) -> None:
    engine = Engine([{"aux": {"ID": "sha256:labelled"}}])
    with pytest.raises(error, match=told) as caught:
        _made(plan, monkeypatch, engine, printed)
    assert "--base-image" in caught.value.cure
    assert engine.removed == ["sha256:made"]
    assert engine.tagged == []


@pytest.mark.parametrize(
    "reports",
    [[], [{"stream": "Step 1"}], [{"aux": None}], [{"aux": "text"}], [{"aux": {"Other": 1}}], [{"error": "x"}]],
)
def test_an_engine_that_names_no_image_is_told_with_a_cure(
    plan: toolchain_image.ImagePlan, monkeypatch: pytest.MonkeyPatch, reports: list[dict[str, Any]]
) -> None:
    engine = Engine(reports)
    with pytest.raises(ProgramError, match="Could not label") as caught:
        _made(plan, monkeypatch, engine, GOOD)
    assert caught.value.cure
    assert engine.removed == ["sha256:made"]


def test_the_image_named_last_gets_the_tag(plan: toolchain_image.ImagePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine([{"aux": {"ID": "sha256:one"}}, {"aux": {"ID": "sha256:two"}}, {"stream": "done"}])
    assert _made(plan, monkeypatch, engine, GOOD).built
    assert (engine.tagged, engine.removed) == (["tag"], [])
