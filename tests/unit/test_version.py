"""./inv --version: which code this is, and what it builds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import npu_serving
from npu_serving import process, version
from npu_serving.settings import PROJECT_ROOT, SETTINGS_FILE


def repository(place: Path) -> str:
    git = ["git", "-C", str(place), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    process.run([*git, "init", "-q"])
    (place / "file").write_text("one")
    process.run([*git, "add", "file"])
    process.run([*git, "commit", "-q", "-m", "one"])
    return process.run([*git, "rev-parse", "HEAD"]).stdout.strip()


def test_the_version_stands_in_one_place() -> None:
    project = (PROJECT_ROOT / "pyproject.toml").read_text()
    assert 'version = { attr = "npu_serving.__version__" }' in project
    assert npu_serving.__version__ not in project
    assert version.version_text().startswith(f"npu-serving {npu_serving.__version__}")


def test_the_commit_is_said_where_there_is_one_and_whether_files_differ_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(version, "PROJECT_ROOT", tmp_path)
    head = repository(tmp_path)[:7]
    assert f" (commit {head}), builds " in version.version_text()
    (tmp_path / "untracked").write_text("")
    assert f" (commit {head}), builds " in version.version_text()
    (tmp_path / "file").write_text("two")
    assert f" (commit {head}, with local changes), builds " in version.version_text()


def test_a_copy_without_git_says_no_commit_not_that_of_a_directory_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(tmp_path)
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(version, "PROJECT_ROOT", tmp_path / "unpacked")
    assert re.fullmatch(r"npu-serving [\d.]+, builds .*", version.version_text())
    monkeypatch.setattr(version, "PROJECT_ROOT", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert re.fullmatch(r"npu-serving [\d.]+, builds .*", version.version_text()), "a machine without git"


@pytest.mark.parametrize(
    ("stated", "built"),
    [
        ("npu_serving: {source: 1.15.0}", "TensorFlow Serving 1.15.0"),
        ("npu_serving: {source: sample}", "the sample"),
        ("npu_serving: {source: /tree}", "the TensorFlow Serving of /tree"),
        ("npu_serving: [broken", "TensorFlow Serving 1.15.0"),
    ],
)
def test_what_is_built_is_what_invoke_yaml_names(
    stated: str, built: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "invoke.yaml").write_text(stated)
    monkeypatch.setenv(SETTINGS_FILE, str(tmp_path / "invoke.yaml"))
    assert version.version_text().endswith(f", builds {built}")
