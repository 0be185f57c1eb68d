"""What a run refuses before it changes anything, its dry run refuses too: in the same words, with the same code."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.tasks import Task

from npu_serving.building import context, dependencies, docker_runner, overlaying, pipeline, reproduction
from npu_serving.building.locking import lock_source, plan_lock
from npu_serving.building.without_adapter import prepare_objects
from npu_serving.bundle import bundling
from npu_serving.commands import first_steps
from npu_serving.console import Silent
from npu_serving.errors import FetchError, FileAccessError, MissingToolError, NpuServingError
from npu_serving.process import Finished
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import SETTINGS_FILE, WITHOUT_ADAPTER, Settings

SAID = Silent()
BUNDLE = bundling.BundleRequest(Path("/tmp/never-written"))
Doing = Callable[[Settings], Any]
RUNS: dict[str, tuple[Doing, Doing]] = {
    "fetch-deps": (lambda to: dependencies.fetch_dependencies(to, SAID), dependencies.plan_dependencies),
    "build-serving": (lambda to: pipeline.build_serving(to, SAID), lambda to: pipeline.dry_run(to, SAID)),
    "build-serving --analyse": (lambda to: pipeline.analyse(to, SAID), lambda to: pipeline.dry_run(to, SAID)),
    "build-serving --reproduce": (lambda to: reproduction.reproduce(to, SAID), reproduction.plan),
    "lock-deps": (lambda to: lock_source(to, SAID), plan_lock),
    "lock-deps --check": (lambda to: lock_source(to, SAID), lambda to: lock_source(to, SAID, check=True)),
    "bundle": (
        lambda to: bundling.make_bundle(to, BUNDLE, SAID),
        lambda to: bundling.plan_bundle(to, BUNDLE),
    ),
    "fetch-deps --toolchains": (lambda to: dependencies.fetch_toolchains(to, SAID), dependencies.plan_toolchains),
    "render-overlay": (overlaying.render, lambda to: overlaying.render(to, dry_run=True)),
    "build-image": (
        lambda to: docker_runner.make_image(to, SAID),
        lambda to: docker_runner.make_image(to, SAID, dry_run=True),
    ),
}
WRONG = {
    "mirror": {"mirrors": ("not a mirror",), "source": "sample"},
    "source": {"source": "nosuch", "adapter": "sample"},
    "adapter": {"source": "sample", "adapter": "/nonexistent"},
    "Bazel flag": {"source": "sample", "bazel_args": ("//target",)},
}
ASKED = {
    "mirror": [name for name in RUNS if name != "render-overlay"],
    "source": [name for name in RUNS if name not in ("fetch-deps --toolchains", "build-image")],
    "adapter": ["build-serving", "build-serving --analyse"],
    "Bazel flag": ["build-serving", "build-serving --analyse", "build-serving --reproduce"],
}


@pytest.mark.parametrize(("wrong", "name"), [(wrong, name) for wrong, names in ASKED.items() for name in names])
def test_the_dry_run_refuses_what_the_run_refuses_and_neither_changes_anything(
    tmp_path: Path, wrong: str, name: str
) -> None:
    settings = Settings(build_root=tmp_path / "build", dist_root=tmp_path / "dist", runner="host")
    settings = dataclasses.replace(settings, **WRONG[wrong])  # type: ignore[arg-type]
    said = []
    for do in RUNS[name]:
        with pytest.raises(NpuServingError) as caught:
            do(settings)
        assert caught.value.exit_code == 2
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert {path.name for path in tmp_path.rglob("*")} <= {"build", ".lock"}


@pytest.mark.parametrize("more", [{}, {"fix": True}, {"fix": True, "dry_run": True}], ids=str)
@pytest.mark.parametrize("wrong", [{"source": "nosuch"}, {"adapter": "/nonexistent"}], ids=str)
def test_doctor_refuses_a_source_or_an_adapter_that_is_not_there_as_a_build_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, str],
    more: dict[str, bool],
) -> None:
    (tmp_path / "invoke.yaml").write_text(f"npu_serving:\n  build_root: {tmp_path / 'build'}\n  runner: host\n")
    monkeypatch.setenv(SETTINGS_FILE, str(tmp_path / "invoke.yaml"))
    settings = Settings(build_root=tmp_path / "build", runner="host", **wrong)  # type: ignore[arg-type]
    task: Task[Any] = first_steps.doctor
    words: dict[str, object] = dict.fromkeys(("source", "adapter", "runner", "cann_root"))
    words |= {"fix": False, "dry_run": False, "for_": "build", "json": False}
    with pytest.raises(SystemExit) as ended:
        task.body(None, **{**words, **more, **wrong})
    assert ended.value.code == 2
    with pytest.raises(NpuServingError) as refused:
        pipeline.dry_run(settings, SAID)
    assert capsys.readouterr().err.strip() == str(refused.value)


def test_a_bundle_that_can_not_be_written_is_refused_by_its_dry_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    request = bundling.BundleRequest(tmp_path / "file" / "bundle")
    settings = Settings(source="sample", build_root=tmp_path / "build")
    with pytest.raises(FileAccessError, match="Not a directory"):
        bundling.plan_bundle(settings, request)
    assert not settings.build_root.exists()


def test_an_offline_dry_run_of_fetch_deps_refuses_what_is_missing_in_the_words_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "_missing_bazel", lambda _settings: [])
    settings = Settings(source="1.15.0", build_root=tmp_path / "build", offline=True)
    with pytest.raises(FetchError, match="--offline forbids fetching") as planned:
        dependencies.plan_dependencies(settings)
    assert not settings.build_root.exists()
    with pytest.raises(FetchError) as ran:
        dependencies.fetch_dependencies(settings, SAID)
    assert str(planned.value) == str(ran.value)
    assert dependencies.plan_dependencies(dataclasses.replace(settings, mirrors=(tmp_path.as_uri(),))).fetching.missing


class WithoutLinkers:
    """A runner that is ready, and whose compiler finds no linker of any name."""

    name, where = "host", "here"
    inside = staticmethod(lambda layout: layout)

    def what_is_missing(self) -> str:
        """Nothing."""
        return ""

    def environment(self) -> dict[str, str]:
        """None that matters."""
        return {}

    def run(self, _request: object) -> Finished:
        """gcc -fuse-ld=lld -Wl,--version."""
        return Finished(("gcc",), 1, "", "cannot find ld", 0.0)


@pytest.mark.parametrize("cpu_server", [False, True])
def test_a_linker_that_is_not_here_is_refused_without_an_adapter_too_before_bazel_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_server: bool
) -> None:
    """Bazel links with it the tools that it runs, and a server for the CPU is linked after Bazel's hours."""
    settings = Settings(
        source="sample", adapter=WITHOUT_ADAPTER, linker="lld", build_root=tmp_path / "build", dist_root=tmp_path / "d"
    )
    with_sample(settings)
    monkeypatch.setattr(context, "choose_runner", lambda _settings, _reporter: WithoutLinkers())
    said = []
    for do in (pipeline.dry_run, prepare_objects):
        with pytest.raises(MissingToolError, match="lld") as caught:
            do(settings, SAID, cpu_server=cpu_server)
        said.append(str(caught.value))
    assert said[0] == said[1]
