"""Flags: those of the settings come from the table, none is an accident, and none is passed over in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.tasks import Task

import tasks
from npu_serving.commands import flags
from npu_serving.commands.flags import OFFERED, Call, command
from npu_serving.repeated_flags import RepeatedFlags
from npu_serving.settings import BUILDING, FETCHING, PROJECT_ROOT, SECTION, SETTINGS_FILE, Settings, setting, table_of
from npu_serving.settings_reference import Reference, settings_in_force

TASKS = {value.name: value for value in vars(tasks).values() if isinstance(value, Task)}
SHORT_FLAGS = {"test": {"-k"}}  # as pytest has it; every other flag is written out


@dataclass(frozen=True)
class OneMore(Settings):
    """The table, and one setting more: this one field is all that is written for it."""

    stripping: str = setting(
        "some", help="what is stripped from the server", group=BUILDING, choices=("none", "some", "all")
    )


@pytest.fixture(autouse=True)
def no_task_of_a_test_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ("OFFERED", "TAKEN"):
        monkeypatch.setattr(flags, table, dict(getattr(flags, table)))


def of(task: Any) -> ParserContext:
    return ParserContext(task.name, args=task.get_arguments())


def test_a_setting_more_is_one_field_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag, its help, the value from flag and file, the list of settings and the reference come of it."""
    seen: list[OneMore] = []

    @command(settings=(BUILDING,), table=OneMore)
    def build_it(call: Call) -> None:
        """Build."""
        seen.append(call.settings)  # type: ignore[arg-type]

    arguments = of(build_it)
    assert arguments.help_for("--stripping") == (
        "--stripping=STRING",
        "what is stripped from the server (none, some, all)",
    )
    file = tmp_path / "invoke.yaml"
    monkeypatch.setenv(SETTINGS_FILE, str(file))
    file.write_text(f"{SECTION}: {{stripping: none}}")
    for words, expected in (([], "none"), (["--stripping", "all"], "all")):
        parsed = Parser([arguments]).parse_argv(["build-it", *words])[-1]
        with pytest.raises(SystemExit):
            build_it.body(None, **parsed.as_kwargs)
        assert seen[-1].stripping == expected
    (shown,) = [each for each in settings_in_force(flags.OFFERED, OneMore).settings if each.setting.name == "stripping"]
    assert (shown.value, shown.stated_in, shown.tasks) == ("none", file, ("build-it",))
    assert (
        Reference(OneMore)
        .text()
        .endswith("  # What is stripped from the server. One of: none, some, all.\n  stripping: some")
    )
    assert "stripping" not in table_of(Settings)


def test_a_task_takes_the_settings_that_it_names_and_those_of_its_groups() -> None:
    offered = {row.name for row in table_of().values() if row.group == FETCHING} | {"source"}
    assert set(OFFERED["fetch-deps"]) == offered
    assert set(OFFERED) == set(TASKS)


def test_every_flag_of_every_task_has_its_help() -> None:
    shown = {name: dict(of(task).help_tuples()) for name, task in TASKS.items()}
    assert {name: flag for name, flags in shown.items() for flag, said in flags.items() if not said} == {}


def test_no_short_flag_is_there_by_accident() -> None:
    short = {name: {flag for flag in of(task).flags if not flag.startswith("--")} for name, task in TASKS.items()}
    assert {name: flags for name, flags in short.items() if flags} == SHORT_FLAGS


@pytest.mark.parametrize("value", [None, "", (), [], False])
def test_an_empty_flag_counts_as_one_that_was_not_given(
    value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Call] = []

    @command(settings=("docker_base_image",))
    def look(call: Call) -> None:
        """Look."""
        seen.append(call)

    monkeypatch.setenv(SETTINGS_FILE, str(tmp_path / "none.yaml"))
    with pytest.raises(SystemExit):
        look.body(None, base_image=value, json=False)
    assert (seen[0].given, seen[0].settings) == ({}, Settings())


def test_a_flag_of_a_kind_is_converted_or_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[object, ...]] = []

    @command(kinds={"output": Path})
    def look(_call: Call, keep_it: int = 3, output: Path | None = None, image: tuple[str, ...] = ()) -> None:
        """Look."""
        seen.append((keep_it, output, image))

    def run(**words: object) -> int:
        with pytest.raises(SystemExit) as caught:
            look.body(None, **{"keep_it": None, "output": None, "image": [], "json": False, **words})
        return int(caught.value.code or 0)

    assert (run(), run(keep_it="7", output="~", image=["a", "b"])) == (0, 0)
    assert seen == [(3, None, ()), (7, Path.home(), ("a", "b"))]
    assert run(keep_it="abc") == 2
    assert "--keep-it must be a whole number, not 'abc'." in capsys.readouterr().err
    assert run(output="") == 2
    assert "--output is empty" in capsys.readouterr().err


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
    assert "--directory would have no effect with --format tar" in said_of(
        "package", "--format", "tar", "--directory", "golden"
    )


def test_golden_requests_are_named_for_a_build_that_packs_a_kit_and_for_no_other() -> None:
    said = said_of("build-serving", "--source", "sample", "--adapter", "sample", "--directory", "golden")
    assert "give --adapter none with it" in said


def test_an_empty_directory_is_not_the_default_one() -> None:
    assert "--output is empty" in said_of("package", "--output", "")
    assert "--output is empty" in said_of("init-ci", "--system", "gitlab", "--output", "")


def test_the_list_of_tasks_needs_no_room_but_the_settings() -> None:
    """What it costs beside bare `invoke --list` is measured in bench/noop.py; this is what keeps it so."""
    script = "import sys, tasks; print(*(name for name in sys.modules if name.split('.')[0] == 'npu_serving'))"
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    loaded = {name for name in done.stdout.split() if not name.startswith("npu_serving.commands")}
    assert loaded == {"npu_serving", "npu_serving.errors", "npu_serving.settings"}


def test_an_optional_argument_is_typed_without_a_flag_and_may_be_left_out() -> None:
    @command(optional=("name",), help={"name": "one; all of them without"})
    def show(_call: Call, name: str = "", all: bool = False) -> None:
        """Show."""

    assert [argument.name for argument in of(show).positional_args] == ["name"]
    assert show.may_lack == ("name",)  # type: ignore[attr-defined]
    for words in (["x"], ["--name", "x"], ["--all", "x"]):
        parsed = Parser([of(show)]).parse_argv(["show", *words])[-1]
        assert parsed.as_kwargs["name"] == "x"


def test_a_flag_that_chooses_a_server_is_not_repeated_in_a_step_that_names_one() -> None:
    """After `serve --deployment F --detach` the step is `logs 8501`, and the two would exclude each other."""
    repeated = RepeatedFlags({"deployment": "d.yaml"}, flags.TAKEN)
    for step in ("./inv logs 8501", "./inv stop 8501", "./inv restart 8501", "./inv reload 8501", "./inv status m"):
        assert repeated.in_step(step) == step
    assert repeated.in_step("./inv serve") == "./inv serve --deployment d.yaml"
