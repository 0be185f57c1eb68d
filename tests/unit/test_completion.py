"""Completion: what a TAB offers, in each shell that is here, typed into the real one."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npu_serving.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "completion.md"
PATIENCE_S = 60.0
CLEAR_LINE = "\x15"  # Ctrl-U


def offered(*words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "npu_serving", "--complete", "--", "./inv", *words],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["build-s"], ["build-serving"]),
        (["rende"], ["render-deployment", "render-overlay", "render-watch-units"]),
        (["--vers"], ["--version"]),
        (["--debug", "build-s"], ["build-serving"]),
        (["build-serving", "--remote"], ["--remote-cache", "--remote-executor"]),
        (["build-serving", "--offline", "--run"], ["--runner"]),
        (["build-serving", "--runner", ""], ["auto", "docker", "host"]),
        (["build-serving", "--runner", "=", "d"], ["docker"]),
        (["doctor", "--json", "clea"], ["clean"]),
        (["build-serving", "--source", ""], []),
        (["build-serving", "--source", "clean"], []),
        (["unbundle", ""], []),
        (["nonsense", "'"], []),
    ],
    ids=" ".join,
)
def test_a_tab_offers_tasks_their_flags_and_the_words_that_a_flag_takes(words: list[str], found: list[str]) -> None:
    assert offered(*words) == found


def test_a_shell_without_completion_is_refused_with_those_that_have_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "npu_serving", "--print-completion-script", "csh"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "Next: choose one of bash, zsh, fish" in done.stderr


def commands_of(shell: str, *, for_good: bool) -> str:
    """What the page says to type into that shell, to try it or for good."""
    section = PAGE.read_text().partition(f"## {shell}")[2].partition("\n## ")[0]
    lines = section.partition("For good")[2 if for_good else 0].splitlines()
    commands = [line[2:] for line in lines if line.startswith("$ ")]
    assert any("--print-completion-script" in command for command in commands)
    return "; ".join(commands)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with an `inv` that is this project's, run by this Python."""
    (tmp_path / "inv").write_text(
        f'#!/bin/sh\nPYTHONPATH={PROJECT_ROOT} exec {sys.executable} -m npu_serving --search-root {PROJECT_ROOT} "$@"\n'
    )
    (tmp_path / "inv").chmod(0o755)
    (tmp_path / "tree-of-mine").mkdir()
    return tmp_path


class Terminal:
    """A shell in a terminal of its own, into which keys are typed."""

    def __init__(self, shell: list[str], directory: Path) -> None:
        self.terminal, inner = pty.openpty()
        self.child = subprocess.Popen(
            ["setsid", "--ctty", *shell],
            cwd=directory,
            env={"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "dumb", "PS1": "> "},
            stdin=inner,
            stdout=inner,
            stderr=inner,
        )
        os.close(inner)

    def type(self, keys: str, until: str) -> None:
        """Types the keys, and waits until the text is shown."""
        os.write(self.terminal, keys.encode())
        shown, deadline = "", time.monotonic() + PATIENCE_S
        while until not in shown:
            ready, _, _ = select.select([self.terminal], [], [], 1)
            shown += os.read(self.terminal, 4096).decode(errors="replace") if ready else ""
            assert time.monotonic() < deadline, f"no {until!r} in {shown!r}"

    def close(self) -> None:
        """Ends the shell."""
        os.close(self.terminal)
        self.child.kill()
        self.child.wait()


@pytest.mark.parametrize("shell", [["bash", "--norc", "--noprofile", "-i"], ["zsh", "-f", "-i"]], ids=["bash", "zsh"])
def test_tab_completes_in_bash_and_zsh_as_the_page_says(shell: list[str], project: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed here")
    terminal = Terminal(shell, project)
    try:
        terminal.type(f"{commands_of(shell[0], for_good=False)}; echo rea''dy\n", until="ready")
        for keys, until in (
            ("./inv verify-s\t", "verify-serving"),
            ("./inv build-serving --remote-e\t", "--remote-executor"),
            ("./inv build-serving --runner dock\t", "docker"),
            ("./inv build-serving --source tree-o\t", "tree-of-mine"),
            ("~/inv verify-s\t", "verify-serving"),
        ):
            terminal.type(keys, until)
            terminal.type(CLEAR_LINE, until="")
    finally:
        terminal.close()


def test_tab_completes_in_fish_as_the_page_says(project: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed here")

    def completed(line: str) -> list[str]:
        script = f"{commands_of('fish', for_good=False)}; complete --do-complete {line!r}"
        environment = {"PATH": os.environ["PATH"], "HOME": str(project)}
        done = subprocess.run(
            [fish, "--no-config", "-c", script],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert completed("./inv verify-s") == ["verify-serving"]
    assert completed("./inv build-serving --remote-e") == ["--remote-executor"]
    assert completed("./inv build-serving --runner ") == ["auto", "docker", "host"]
    assert completed("./inv build-serving --source tree-o") == ["tree-of-mine/"]
    assert completed("~/inv verify-s") == ["verify-serving"]


@pytest.mark.parametrize("shell", [["bash", "--noprofile", "-i"], ["zsh", "-i"]], ids=["bash", "zsh"])
def test_what_the_page_says_for_good_holds_in_the_next_shell(shell: list[str], project: Path) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed here")
    (project / f".{shell[0]}rc").write_text("# mine\n")  # without one, zsh asks a new user what it should hold
    environment = {"PATH": os.environ["PATH"], "HOME": str(project)}
    setup = [shell[0], "-c", commands_of(shell[0], for_good=True)]
    subprocess.run(setup, cwd=project, env=environment, check=True)
    terminal = Terminal(shell, project)
    try:
        terminal.type("echo rea''dy\n", until="ready")
        terminal.type("./inv verify-s\t", until="verify-serving")
    finally:
        terminal.close()


def test_what_the_page_says_for_good_holds_in_the_next_fish(project: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed here")
    environment = {"PATH": os.environ["PATH"], "HOME": str(project)}
    for script in (commands_of("fish", for_good=True), "complete --do-complete './inv verify-s'"):
        words = [fish, "-c", script]
        done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["verify-serving"]
