"""Flags that have no effect together are refused, not passed over in silence."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from npu_serving.settings import PROJECT_ROOT


def said_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "npu_serving", *words, "--dry-run"],
        cwd=PROJECT_ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--analyse"], "--analyse"),
        (["--disk-cache", "/x", "--install-link", "/y"], "--install-link and --disk-cache"),
        (["--remote-cache", "http://me:PASSWORD@host"], "--remote-cache"),
        (["--remote-executor", "grpc://host:1"], "--remote-executor"),
    ],
)
def test_what_a_reproduction_leaves_out_is_refused_beside_it(words: list[str], refused: str) -> None:
    said = said_of("build-serving", "--source", "sample", "--reproduce", *words)
    assert f"{refused} would have no effect with --reproduce" in said
    assert "PASSWORD" not in said


def test_a_package_takes_only_the_flags_of_its_format() -> None:
    assert "--output would have no effect with --format image" in said_of(
        "package", "--format", "image", "--output", "x"
    )
    assert "--base-image would have no effect with --format deb" in said_of(
        "package", "--format", "deb", "--base-image", "x"
    )


def test_an_empty_directory_is_not_the_default_one() -> None:
    assert "--output is empty" in said_of("package", "--output", "")
    assert "--output is empty" in said_of("init-ci", "--system", "gitlab", "--output", "")
