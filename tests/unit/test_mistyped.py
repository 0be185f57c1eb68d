"""An invalid command line is answered with the nearest valid one, and exit code 2."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from npu_serving.settings import PROJECT_ROOT, SETTINGS_FILE

QUOTES = 'it\'s "quoted"'


def typed(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "npu_serving", *words],
        cwd=PROJECT_ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "what", "cure"),
    [
        (["build-servin"], "There is no task 'build-servin'.", "./inv build-serving"),
        (["list_builds"], "There is no task 'list_builds'.", "./inv list-builds"),
        (["--help", "docter"], "There is no task 'docter'.", "./inv doctor"),
        (["docter", "--help"], "There is no task 'docter'.", "./inv doctor"),
        (["xyzzy"], "There is no task 'xyzzy'.", "./inv --list"),
        (['it\'s "quoted"'], f"There is no task {QUOTES!r}.", "./inv --list"),
        (["--lst"], "./inv has no flag --lst.", "./inv --list"),
        (["build"], "There is no task 'build'.", "./inv build-image or ./inv build-serving"),
        (["run"], "There is no task 'run'.", "./inv --list"),
        (["--list", "foo"], "There is no task 'foo'.", "./inv --list"),
        (
            ["list-builds", "settings"],
            "list-builds and settings cannot be combined: one call runs one task.",
            "./inv list-builds",
        ),
        (["--dry", "demo"], "./inv has no flag --dry.", "./inv --help"),
        (["-c", "nope"], "./inv has no flag --collection.", "./inv --help"),
        (["--list", "--list-format", "yaml"], "./inv has no flag --list-format.", "./inv --list"),
        (["demo", "--dry-run"], "demo has no flag --dry-run.", "./inv demo --help"),
        (["clean", "--dry"], "clean has no flag --dry.", "./inv clean --dry-run"),
        (["predict", "--timeou"], "predict needs MODEL.", "./inv predict MODEL"),
        (["predict", "--urll", "x"], "predict has no flag --urll.", "./inv predict --url"),
        (
            ["check-deployment", "--deployment", "deployment.yaml"],
            "check-deployment has no flag --deployment.",
            "./inv check-deployment FILE",
        ),
        (
            ["convert-om", "--input_path", "exported", "--output", "models/om"],
            "convert-om has no flag --input_path.",
            "./inv convert-om MODEL --output DIRECTORY/NAME",
        ),
        (
            ["convert-om", "exported", "--input_path=x"],
            "convert-om has no flag --input_path.",
            "./inv convert-om MODEL --output DIRECTORY/NAME",
        ),
        (["status", "--urll"], "status has no flag --urll.", "./inv status --url"),
        (["status", "--url"], "--url needs a value.", "./inv status --help"),
        (["fetch-deps", "--ofline"], "fetch-deps has no flag --ofline.", "./inv fetch-deps --offline"),
        (["fetch-deps", "--ofline=1"], "fetch-deps has no flag --ofline.", "./inv fetch-deps --offline"),
        (["clean", "--dryrun"], "clean has no flag --dryrun.", "./inv clean --dry-run"),
        (["build-serving", "-z", "x"], "build-serving has no flag -z.", "./inv build-serving --help"),
        (["doctor", "--debugg"], "doctor has no flag --debugg.", "./inv doctor --debug"),
        (
            ["doctor", "foo"],
            "doctor does not take 'foo', and there is no task of that name.",
            "./inv doctor --help",
        ),
        (["doctor", "list-build"], "There is no task 'list-build'.", "./inv list-builds"),
        (["doctor", "--source"], "--source needs a value.", "./inv doctor --help"),
        (
            ["build-image", "--base-image"],
            "--base-image needs a value.",
            "./inv build-image --help",
        ),
        (["build-image", "--mirror"], "--mirror needs a value.", "./inv build-image --help"),
        (["predict"], "predict needs MODEL.", "./inv predict MODEL"),
        (["--list-depth", "x", "--list"], "'x' is not a whole number.", "./inv --help"),
        (["serve", "--port", "abc"], "--port must be a whole number, not 'abc'.", "use a whole number, 0 or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_was_mistyped_is_named_with_what_to_type_instead(words: list[str], what: str, cure: str) -> None:
    done = typed(*words)
    assert done.stderr == f"{what}\nNext: {cure}\n"
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    "words",
    [["rollback", "--build", "~nosuchuser"], ["build-serving", "--jobs", "1" * 5000]],
    ids=lambda words: words[0],
)
def test_a_value_that_python_itself_cannot_take_is_refused_in_a_sentence(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "invoke.yaml").write_text(f"npu_serving: {{dist_root: {tmp_path}}}")
    done = typed(*words, **{SETTINGS_FILE: str(tmp_path / "invoke.yaml")})
    assert (done.returncode, words[1] in done.stderr, "Next: " in done.stderr) == (2, True, True), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 400


def test_an_error_in_json_that_cannot_be_printed_keeps_its_exit_code() -> None:
    for unbuffered in ("", "1"):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-m", "npu_serving", "verify-serving", "--build", "zzz", "--json"],
                cwd=PROJECT_ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["list-build"], ["list-builds", "--jsn"], ["list-builds", "--hlep"]], ids=" ".join)
def test_what_is_proposed_can_be_typed(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "invoke.yaml").write_text(f"npu_serving: {{dist_root: {tmp_path}}}")
    settings = {SETTINGS_FILE: str(tmp_path / "invoke.yaml")}
    proposed = typed(*words, **settings).stderr.splitlines()[-1].partition("Next: ./inv ")[2]
    done = typed(*shlex.split(proposed), **settings)
    assert done.returncode == 0, done.stderr


def test_debug_before_a_task_or_behind_it_shows_where_an_error_came_from_and_nothing_of_invokes_own() -> None:
    for words in (
        ["--debug", "serve", "--port", "x"],
        ["serve", "--port", "x", "--debug"],
        ["-d", "serve", "--port=x"],
    ):
        done = typed(*words)
        assert done.returncode == 2
        assert done.stderr.startswith("debug: Traceback")
        assert done.stderr.endswith("\nNext: use a whole number, 0 or more\n")
        assert "invoke." not in done.stderr
    assert "debug: Traceback" in typed("serve", "--port", "x", NPU_SERVING_DEBUG="1").stderr
    assert "Show help" not in typed("--debug", "predict", "--help").stdout
    assert "Usage: ./inv [--core-opts] predict" in typed("--debug", "predict", "--help").stdout


def test_version_is_said_for_both_flags() -> None:
    assert typed("--version").stdout == typed("-V").stdout
    assert typed("--version").stdout.startswith("npu-serving ")
