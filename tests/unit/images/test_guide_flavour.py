"""The `guide` flavour: which tools it makes from sources, that each is pinned, and how they get into the image."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from npu_serving import process
from npu_serving.building.bazel_program import find_bazel, find_bazel_for_image
from npu_serving.console import Silent
from npu_serving.errors import FetchError, MissingToolError, ProgramError
from npu_serving.fetch import toolchains
from npu_serving.fetch.content_store import ContentStore
from npu_serving.fetch.toolchains import find_tool
from npu_serving.images import guide_flavour
from npu_serving.images.build_context import read_context, render_dockerfile
from npu_serving.images.guide_flavour import GUIDE, fetch_guide_inputs, guide_steps, guide_wheels
from npu_serving.settings import Settings

MACHINES = ("x86_64", "aarch64")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(docker_flavour="guide", docker_base_image="debian", build_root=tmp_path / "build")


@pytest.mark.parametrize("machine", MACHINES)
def test_every_step_has_its_script_and_every_tool_is_pinned_for_both_architectures(machine: str) -> None:
    steps = guide_steps(machine)
    assert [step.name for step in steps] == ["gcc", "python", "cmake", "swig", "jdk", "bazel"]
    for step in steps:
        script = (GUIDE / f"{step.name}.sh").read_text()
        assert script.startswith("#!/bin/sh\n")
        for tool in step.tools:
            assert tool.works_on(f"linux-{machine}")
            assert tool.name in script


def test_swig_and_the_jdk_are_those_of_the_architecture() -> None:
    tools = {machine: {tool.name: tool for step in guide_steps(machine) for tool in step.tools} for machine in MACHINES}
    assert [tools[machine]["swig"].version for machine in MACHINES] == ["4.0.1", "3.0.12"]  # the guide's 6.3
    assert "_x64_" in tools["x86_64"]["jdk"].file_name
    assert "_aarch64_" in tools["aarch64"]["jdk"].file_name


@pytest.mark.parametrize("machine", MACHINES)
def test_every_line_of_the_wheels_is_one_and_each_architecture_has_future_and_numpy(machine: str) -> None:
    lines = [line for line in (GUIDE / "wheels.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert {wheel.file_name for wheel in guide_wheels(machine)} <= {line.split()[1] for line in lines}
    assert {wheel.requirement.partition("==")[0] for wheel in guide_wheels(machine)} == {"future", "numpy", "six"}
    assert sum(len(guide_wheels(name)) for name in MACHINES) == len(lines) + 2  # two of them serve both


def test_the_context_holds_what_the_dockerfile_copies_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "bazel").write_bytes(b"\x7fELF")
    context = read_context(settings, tmp_path / "bazel")
    copied = re.findall(r"^COPY (.*) \S+$", context.dockerfile, re.M)
    names = {word for line in copied for word in line.split()}
    for file in context.files:
        assert file.name in names or re.sub(r"^(sources/\w+)/.*", r"\1", file.name) in names
    for name in names:
        assert any(file.name == name or file.name.startswith(f"{name}/") for file in context.files)


def test_each_step_is_a_layer_of_its_own_so_that_a_failure_loses_only_one() -> None:
    lines = render_dockerfile("guide", "debian").splitlines()
    assert sum(line.startswith("RUN") for line in lines) == 1 + len(guide_steps())
    assert "COPY bazel" not in "\n".join(lines)
    assert "sources/" not in render_dockerfile("distro", "debian")


def test_a_plan_needs_no_archive_and_another_pin_is_another_image(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bazel").write_bytes(b"\x7fELF")
    context = read_context(settings, tmp_path / "bazel")
    digest = context.digest("base")
    assert not settings.build_root.exists()
    assert {"sources/python/python", "sources/gcc/gcc"} <= {file.name for file in context.missing}
    python = find_tool("python", "any")
    pins = tmp_path / "toolchains.json"
    pins.write_text(toolchains.TOOLCHAINS.read_text().replace(python.sha256, "0" * 64))
    monkeypatch.setattr(toolchains, "TOOLCHAINS", pins)
    assert read_context(settings, tmp_path / "bazel").digest("base") != digest


def test_archives_that_are_missing_offline_are_named(settings: Settings, tmp_path: Path) -> None:
    import dataclasses

    with pytest.raises(FetchError, match=r"Python-3\.7\.5\.tgz"):
        fetch_guide_inputs(dataclasses.replace(settings, offline=True), Silent())


@pytest.fixture
def only_wheels(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No step has an archive, and pip is a stand-in that writes what it is told to; returns what it was asked for."""
    asked: list[str] = []

    def pip(argv: list[str], **_: object) -> None:
        asked.extend(str(word) for word in argv)
        for wheel in guide_wheels():
            (Path(argv[argv.index("-d") + 1]) / wheel.file_name).write_bytes(b"wheel")

    monkeypatch.setattr(guide_flavour, "guide_steps", lambda: ())
    monkeypatch.setattr(process, "run", pip)
    return asked


def test_wheels_come_by_pip_for_python_3_7_and_wrong_bytes_are_refused(
    settings: Settings, only_wheels: list[str]
) -> None:
    from npu_serving.errors import PinMismatchError

    with pytest.raises(PinMismatchError):
        fetch_guide_inputs(settings, Silent())
    assert only_wheels[only_wheels.index("--python-version") + 1] == "3.7"
    assert "future==1.0.0" in only_wheels


def test_wheels_with_the_pinned_bytes_are_kept_and_not_asked_for_again(
    settings: Settings, only_wheels: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(b"wheel").hexdigest()
    monkeypatch.setattr(
        guide_flavour, "guide_wheels", lambda: (guide_flavour.Wheel("future-1.0.0-py3-none-any.whl", digest, "f==1"),)
    )
    fetch_guide_inputs(settings, Silent())
    assert ContentStore(settings.store_root).has(digest)
    only_wheels.clear()
    fetch_guide_inputs(settings, Silent())
    assert only_wheels == []


def test_where_nobody_publishes_a_bazel_the_guides_image_makes_one_from_the_dist_archive(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import dataclasses

    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.setenv("PATH", str(tmp_path))
    sources = find_tool("bazel", "any", kind="sources")
    assert find_bazel_for_image(settings, Silent()).sha256 == sources.sha256
    for find in (find_bazel, find_bazel_for_image):
        with pytest.raises(MissingToolError, match=r"no Bazel 0\.24\.1 release for aarch64"):
            find(dataclasses.replace(settings, docker_flavour="distro"), Silent())


def test_a_pip_without_an_index_is_told_with_a_cure(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(guide_flavour, "guide_steps", lambda: ())
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(ProgramError) as caught:
        fetch_guide_inputs(settings, Silent())
    assert "PIP_INDEX_URL" in caught.value.cure
