"""What ./inv test starts: which tests, in which order, on how many processors and with which Pythons."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from invoke.context import Context

from npu_serving import development as tools
from npu_serving import process
from npu_serving.commands import development
from npu_serving.development import SEED_OF_CI
from npu_serving.errors import RequestError


class Replaced(BaseException):
    """In place of the program that this process would become."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, str]]]:
    """The programs that this process would have become, with their environments."""
    seen: list[tuple[list[str], dict[str, str]]] = []

    def replace(argv: Sequence[process.Arg], *, env: Mapping[str, str]) -> None:
        seen.append(([os.fspath(word) for word in argv], dict(env)))
        raise Replaced

    monkeypatch.setattr(process, "replace_this_process", replace)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("NPU_SERVING_TEST_TIER", raising=False)
    return seen


def words_of(started: list[tuple[list[str], dict[str, str]]], **flags: object) -> str:
    untyped = dict.fromkeys(("unit", "long", "coverage"), False)
    with pytest.raises(Replaced):
        development.test(Context(), **{**untyped, "k": None, "python": [], "seed": None, **flags})
    return " ".join(started[-1][0])


def test_all_tests_run_on_one_worker_more_than_processors_and_one_that_is_named_runs_alone(
    started: list[tuple[list[str], dict[str, str]]],
) -> None:
    assert "-m pytest tests -n 4 --dist loadscope" in words_of(started)
    assert "-m pytest tests/unit -n 4 --dist loadscope" in words_of(started, unit=True)
    named = words_of(started, k="test_a_name")
    assert "-k test_a_name" in named
    assert " -n " not in named


def test_the_order_is_that_of_a_seed_where_one_is_given_and_always_the_same_random_one_in_ci(
    started: list[tuple[list[str], dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "randomly" not in words_of(started)
    assert words_of(started, seed="17").endswith("-p randomly --randomly-seed=17")
    monkeypatch.setenv("CI", "true")
    assert words_of(started).endswith(f"-p randomly --randomly-seed={SEED_OF_CI}")


def test_the_long_tier_is_the_tests_with_that_mark_and_more_examples(
    started: list[tuple[list[str], dict[str, str]]],
) -> None:
    assert "-m long" not in words_of(started)
    assert "-m long" in words_of(started, long=True)
    assert [environment.get("NPU_SERVING_TEST_TIER") for _, environment in started] == [None, "long"]


def test_the_unit_tests_run_on_those_pythons_that_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tools, "python_of", lambda _version: None)
    for typed, shown in ((["3.13", "3.9"], ["3.9", "3.13"]), (["all"], list(tools.SUPPORTED_PYTHONS))):
        with pytest.raises(SystemExit) as caught:
            tools.run_unit_tests_on(typed)
        assert caught.value.code == 0
        assert capsys.readouterr().out.splitlines() == [f"Python {one} is not on this machine" for one in shown]
    with pytest.raises(RequestError, match=r"--python can't be '3\.8'"):
        tools.run_unit_tests_on(["3.9", "3.8"])


def test_a_python_is_found_by_what_it_says_and_only_if_an_environment_can_be_made_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for version, text in (
        ("3.8.1", f'exec "{sys.executable}" "$@"'),  # it says another version than its directory
        (f"{ours}.98", "exit 1"),  # without venv
        (f"{ours}.99", f'exec "{sys.executable}" "$@"'),
    ):
        place = tmp_path / "versions" / version / "bin" / "python3"
        place.parent.mkdir(parents=True)
        place.write_text(f"#!/bin/sh\n{text}\n")
        place.chmod(0o755)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert tools.python_of(ours) == tmp_path / "versions" / f"{ours}.99" / "bin" / "python3"
    assert tools.python_of("3.8") is None
