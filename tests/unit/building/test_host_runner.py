"""Bazel's environment on this machine, and the paths that it can't work in."""

from __future__ import annotations

from pathlib import Path

import pytest

from npu_serving.building.bazel_program import BazelProgram
from npu_serving.building.host_runner import HostRunner
from npu_serving.building.runner import Layout
from npu_serving.doctor.build_environment import build_python
from npu_serving.errors import MissingToolError, RequestError
from npu_serving.settings import Settings


def _runner(tmp_path: Path, **values: object) -> HostRunner:
    settings = Settings(build_root=tmp_path, **values)  # type: ignore[arg-type]
    return HostRunner(settings, BazelProgram(tmp_path / "bazel", "0.24.1", "ab" * 32))


def test_bazels_environment_is_built_from_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF_REVISION alone would switch off the check of TensorFlow's sha256; the others change what is built unseen."""
    before = _runner(tmp_path).environment()
    for name in ("TF_REVISION", "BAZEL_OPTS", "CC", "CFLAGS", "LD_PRELOAD", "PYTHONPATH", "JAVA_HOME", "http_proxy"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/leaked")
    assert _runner(tmp_path).environment() == before
    assert set(before) <= {"PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR"}


def test_python_on_path_is_the_interpreter_of_the_build(tmp_path: Path) -> None:
    runner = _runner(tmp_path)
    first = Path(runner.environment()["PATH"].split(":")[0])
    assert (first / "python").resolve() == Path(runner.python()).resolve()


def test_a_shared_pythons_library_directory_is_in_the_library_path(tmp_path: Path) -> None:
    prefix = tmp_path / "python3.7.5"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "lib").mkdir()
    program = prefix / "bin" / "python3.7"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (prefix / "lib" / "libpython3.7m.so.1.0").write_text("")
    assert _runner(tmp_path, python_prefix=prefix).environment()["LD_LIBRARY_PATH"] == str(prefix / "lib")


def test_an_interpreter_that_was_set_and_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingToolError, match="is not a program"):
        build_python(Settings(python_bin=str(tmp_path)))


@pytest.mark.parametrize("name", ["a b", "tab\there", "line\nbreak", "ümlaut", "co:lon"])
def test_a_path_that_bazel_fails_in_is_refused_for_the_tree_and_for_the_output(tmp_path: Path, name: str) -> None:
    fine, unfit = Path("/fine"), Path("/x") / name
    runner = _runner(tmp_path)
    with pytest.raises(RequestError, match=r"can't work in .*, the source tree") as caught:
        runner.check(Layout(unfit, fine, fine, fine))
    assert "move the tree" in caught.value.cure
    with pytest.raises(RequestError, match=r"can't work in .*, the state directory") as caught:
        _runner(tmp_path / name).check(Layout(fine, fine, fine, fine))
    assert "build_root" in caught.value.cure


@pytest.mark.parametrize("name", ["it's", '"', "$HOME", "a;b", "a&b", "(", "*", "%", "\\", ",", "="])
def test_a_path_that_bazel_works_in_is_not_refused(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    _runner(place, dist_root=place / "dist").check(Layout(place / "tree", place, place, place))


def test_to_say_what_it_is_makes_nothing(tmp_path: Path) -> None:
    """A dry run asks it, to tell which patches its toolchain calls for."""
    settings = Settings(build_root=tmp_path / "build")
    runner = HostRunner(settings, BazelProgram(tmp_path / "bazel", "0.24.1", "ab" * 32))
    assert runner.identity()["python"]
    assert list(tmp_path.iterdir()) == []
