"""The gate through which programs are run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npu_serving import process
from npu_serving.errors import MissingToolError, ProgramError


def test_arguments_reach_the_program_as_they_are(tmp_path: Path) -> None:
    hostile = ["a b", "$(touch x)", "'\"", "line\nbreak", "ümläut", "; rm -rf /", "*"]
    done = process.run([sys.executable, "-c", "import sys; print(sys.argv[1:])", *hostile], cwd=tmp_path)
    assert done.stdout.strip() == repr(hostile)
    assert list(tmp_path.iterdir()) == []


def test_the_environment_is_built_from_the_allow_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TF_REVISION", "BAZEL_OPTS", "LD_PRELOAD_NOT", "CC", "CXXFLAGS", "PYTHONPATH"):
        monkeypatch.setenv(name, "leaked")
    assert "leaked" not in process.run(["env"]).stdout


def test_a_failure_shows_the_command_the_tail_and_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "import sys; [print('line', n) for n in range(100)]; print('the reason', file=sys.stderr); sys.exit(3)"
    with pytest.raises(ProgramError) as caught:
        process.run([sys.executable, "-c", script], log_path=log)
    message = str(caught.value)
    assert "ended with status 3" in message
    assert "the reason" in message
    assert "line 3\n" not in message
    assert str(log) in message
    assert "line 3\n" in log.read_text()
    assert caught.value.returncode == 3


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(MissingToolError, match="no-such-program"):
        process.run(["no-such-program"])


def test_a_signal_is_named() -> None:
    with pytest.raises(ProgramError, match="SIGKILL"):
        process.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])


def test_a_hanging_program_and_its_children_are_ended_when_time_is_up(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(ProgramError, match="did not end in time"):
        process.run([sys.executable, "-c", script, pid_file], timeout_s=2)
    assert _is_gone(int(pid_file.read_text()))


def test_after_ctrl_c_nothing_keeps_running(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = (
        "import subprocess,time; p=subprocess.Popen(['sleep','600'],start_new_session=True); "
        f"open({str(pid_file)!r},'w').write(str(p.pid)); time.sleep(600)"
    )
    script = f"import sys; from npu_serving import process; process.run([sys.executable, '-c', {program!r}])"
    outer = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    _until(lambda: pid_file.exists() and pid_file.read_text() != "")
    outer.send_signal(signal.SIGINT)
    outer.wait(timeout=30)
    assert _is_gone(int(pid_file.read_text()))


def test_a_program_ends_when_the_one_that_started_it_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"import os,time; open({str(pid_file)!r},'w').write(str(os.getpid())); time.sleep(600)"
    script = f"import sys; from npu_serving import process; process.run([sys.executable, '-c', {program!r}])"
    outer = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    _until(lambda: pid_file.exists() and pid_file.read_text() != "")
    outer.kill()
    outer.wait(timeout=30)
    assert _is_gone(int(pid_file.read_text()))


def test_every_line_is_handed_on_as_it_comes() -> None:
    seen: list[str] = []
    process.run([sys.executable, "-c", "print('a'); print('b', end='')"], on_line=seen.append)
    assert seen == ["a", "b"]


def test_input_reaches_the_program() -> None:
    assert process.run(["cat"], input_text="hello").stdout == "hello"


def test_the_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    hostile = ["printf", "%s|", "a b", "it's", "$HOME"]
    pasted = subprocess.run(["sh", "-c", process.command_line(hostile)], capture_output=True, text=True, check=True)
    assert pasted.stdout == "a b|it's|$HOME|"


def _until(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _is_gone(pid: int) -> bool:
    def gone() -> bool:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"

    _until(gone, 15)
    return not Path(f"/proc/{pid}").exists() or gone()
