"""CI files: valid by the systems' published schemas, with the documented commands; nobody's file is lost."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tasks
from npu_serving import ci_files
from npu_serving.ci_files import COMMANDS, SYSTEMS, init_ci
from npu_serving.errors import RequestError
from npu_serving.settings import PROJECT_ROOT

SCHEMAS = {"gitlab": "vendor.gitlab-ci", "github": "vendor.github-workflows"}


@pytest.mark.parametrize("system", list(SCHEMAS))
def test_the_file_is_valid_by_the_published_schema(system: str, tmp_path: Path) -> None:
    made = init_ci(system, tmp_path)
    # A process of its own: the checker warns of its own dependencies.
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", SCHEMAS[system]]
    if system == "gitlab":
        argv += ["--data-transform", "gitlab-ci"]
    done = subprocess.run([*argv, made.path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    spoiled = tmp_path / "spoiled.yml"
    spoiled.write_text(made.content.replace("script:", "scripts:").replace("runs-on:", "run-on:"))
    assert subprocess.run([*argv, spoiled], capture_output=True, check=False).returncode == 1


def commands_of(system: str, content: str) -> list[str]:
    """The commands that the system would run."""
    if system == "gitlab":
        return list(yaml.safe_load(content)["build-serving"]["script"])
    if system == "github":
        return [step["run"] for step in yaml.safe_load(content)["jobs"]["build-serving"]["steps"] if "run" in step]
    quoted = [line.strip()[len("sh '") : -1] for line in content.splitlines() if line.strip().startswith("sh '")]
    return [text.replace("\\'", "'") for text in quoted]


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_every_system_runs_exactly_the_documented_commands(system: str, tmp_path: Path) -> None:
    assert tuple(commands_of(system, init_ci(system, tmp_path).content)) == COMMANDS
    documented = (PROJECT_ROOT / "docs" / "ci.md").read_text()
    for command in COMMANDS:
        assert command in documented


def test_each_command_is_a_task_with_flags_that_it_has() -> None:
    known = {task.name: task for task in vars(tasks).values() if hasattr(task, "get_arguments")}
    for command in COMMANDS:
        words = shlex.split(command)
        name, *flags = words[words.index("./inv") + 1 :]
        names = {f"--{name.replace('_', '-')}" for argument in known[name].get_arguments() for name in argument.names}
        assert {flag for flag in flags if flag.startswith("--")} <= names


@pytest.mark.parametrize("system", list(SYSTEMS))
def test_archives_and_results_of_actions_are_kept(system: str, tmp_path: Path) -> None:
    content = init_ci(system, tmp_path).content
    if system != "jenkins":  # its workspace stays
        assert content.count(ci_files.ACTIONS) >= 2
        assert all(path in content for path in ci_files.ARCHIVES)


def test_a_second_time_changes_nothing_and_a_file_of_somebodys_is_left_alone(tmp_path: Path) -> None:
    made = init_ci("jenkins", tmp_path)
    assert made.changed
    assert not init_ci("jenkins", tmp_path).changed
    made.path.write_text("mine")
    with pytest.raises(RequestError, match="already") as caught:
        init_ci("jenkins", tmp_path)
    assert caught.value.cure
    assert made.path.read_text() == "mine"


def test_a_dry_run_shows_the_file_and_writes_none(tmp_path: Path) -> None:
    shown = init_ci("gitlab", tmp_path, dry_run=True)
    assert "script:" in shown.text()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_system_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(RequestError) as caught:
        init_ci("travis")
    assert "gitlab" in caught.value.cure


@pytest.mark.parametrize(
    ("system", "name"),
    [("gitlab", "mine.yml"), ("gitlab", ".gitlab-ci.yml"), ("github", "ci.yaml"), ("jenkins", "Jenkinsfile")],
)
def test_a_name_that_ends_like_a_file_is_the_file(system: str, name: str, tmp_path: Path) -> None:
    assert init_ci(system, tmp_path / name).path == tmp_path / name
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).is_file()
    assert init_ci(system, tmp_path / "dir").path.is_relative_to(tmp_path / "dir")


def test_nothing_that_is_run_needs_cann() -> None:
    names = [shlex.split(command[command.index("./inv") :])[1] for command in COMMANDS]
    assert names.index("build-serving") < names.index("smoke")
    for command in COMMANDS:
        if any(name in command for name in ("doctor", "build-serving")):
            assert "--adapter none" in command
    assert not any("rebuild-after-cann" in command or "cann-info" in command for command in COMMANDS)


def test_a_repository_without_deployments_and_golden_requests_is_fine(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for command in COMMANDS:
        if "git ls-files" in command or "test ! -d" in command:
            done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert (done.returncode, done.stderr) == (0, "")


def test_the_run_ends_where_git_can_not_list_the_deployments(tmp_path: Path) -> None:
    (command,) = (command for command in COMMANDS if "git ls-files" in command)
    done = subprocess.run(["sh", "-ec", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "not a git repository" in done.stderr


def test_every_deployment_of_the_repository_is_checked_and_one_that_is_wrong_is_enough(tmp_path: Path) -> None:
    (command,) = (command for command in COMMANDS if "git ls-files" in command)
    (tmp_path / "inv").write_text('#!/bin/sh\necho "$3"\ntest "$3" != "a b/deployment.yaml"\n')
    (tmp_path / "inv").chmod(0o755)
    for name in ("deployment.yaml", "a b/deployment.yaml", "c/d/deployment.yaml", "c/other.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert sorted(done.stdout.split("\n")[:-1]) == ["a b/deployment.yaml", "c/d/deployment.yaml", "deployment.yaml"]
    assert done.returncode != 0
