"""The command that a message offers for a build with given settings."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import pytest

from npu_serving.building.build_command import build_command
from npu_serving.settings import SETTINGS_FILE, load_settings


def test_what_the_settings_file_says_otherwise_gets_a_flag_and_the_rest_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "invoke.yaml"
    file.write_text("npu_serving:\n  source: sample\n  linker: lld\n")
    monkeypatch.setenv(SETTINGS_FILE, str(file))
    stated = load_settings()
    assert build_command(stated, xla="full") == "./inv build-serving --xla full"
    of_build = dataclasses.replace(stated, source="1.15.0", bazel_args=("--copt=-DA='b c'", "--x"), linker="gold")
    assert shlex.split(build_command(of_build, xla="adapter")) == [
        "./inv", "build-serving", "--source", "1.15.0", "--bazel-arg=--copt=-DA='b c'", "--bazel-arg=--x",
        "--linker", "gold",
    ]  # fmt: skip
