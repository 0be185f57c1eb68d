"""The gate through which programs are run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from npu_serving import process
from npu_serving.errors import DiskFullError, FileAccessError, MissingToolError, ProgramError, RequestError
from npu_serving.writers.shell import command_line


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


def test_a_secret_among_the_words_of_a_command_is_neither_logged_nor_told_though_the_program_repeats_it(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    script = "import sys; print('Unrecognized option:', *sys.argv[1:], 'expected token: x'); sys.exit(2)"
    secrets = ["--remote_header=x-token=geheim", "http://me:ge'heim@host/"]
    with pytest.raises(ProgramError) as caught:
        process.run([sys.executable, "-c", script, *secrets], log_path=log)
    for text in (str(caught.value), log.read_text()):
        assert "heim" not in text
        assert "Unrecognized option: --remote_header=x-token=*** http://***@host/ expected token: x" in text
    assert secrets[0] in caught.value.output


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
    with pytest.raises(ProgramError, match="did not finish in time"):
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


def test_the_command_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    hostile = ["printf", "%s|", "a b", "it's", "$HOME"]
    pasted = subprocess.run(["sh", "-c", command_line(hostile)], capture_output=True, text=True, check=True)
    assert pasted.stdout == "a b|it's|$HOME|"


def test_a_log_on_a_full_disk_ends_the_program_and_is_told_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="/dev/full could not be written: the disk is full"):
        process.run(["true"], log_path=Path("/dev/full"))


def test_a_disk_that_fills_up_under_the_log_ends_the_program(tmp_path: Path) -> None:
    """A file-size limit fails a write in the same way as a disk without space; the limit comes after the start."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from npu_serving import process\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    process.run(['sh', '-c', 'echo $$; yes; sleep 600'], log_path=Path(sys.argv[1]), on_line=print)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "log"], capture_output=True, text=True, check=True)
    lines = done.stdout.split()
    assert lines[-1] == "FileAccessError"
    assert _is_gone(int(lines[0]))


@pytest.mark.parametrize("name", ["missing/log", "file/log"])
def test_a_log_that_can_not_be_opened_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileAccessError, match=name):
        process.run(["true"], log_path=tmp_path / name)
    with pytest.raises(FileAccessError, match=name), process.running(["true"], log_path=tmp_path / name):
        pass


def test_an_argument_that_is_no_utf8_is_logged_as_the_bytes_that_it_is(tmp_path: Path) -> None:
    word = os.fsdecode(b"caf\xe9")
    process.run(["true", word], log_path=tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"$ true 'caf\xe9'\n"


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_an_argument_that_no_program_can_be_given_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="can't be an argument of 'true'"):
        process.run(["true", word], log_path=tmp_path / "log")


def test_a_second_ctrl_c_does_not_stop_the_ending_of_what_was_started(tmp_path: Path) -> None:
    """The program has to be killed, so the first Ctrl-C is still being carried out when the second one comes."""
    pid_file, told = tmp_path / "pid", tmp_path / "told"
    program = (
        "import os, signal, time\n"
        f"signal.signal(signal.SIGINT, lambda *_: open({str(told)!r}, 'w').close())\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "while True: time.sleep(600)\n"
    )
    script = (
        "import sys; from npu_serving import process; process.SECONDS_AFTER_INTERRUPT = 1; "
        "process.SECONDS_AFTER_TERMINATE = 1; "
        f"process.run([sys.executable, '-c', {program!r}])"
    )
    outer = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
    _until(lambda: pid_file.exists() and pid_file.read_text() != "")
    outer.send_signal(signal.SIGINT)
    _until(told.exists)
    outer.send_signal(signal.SIGINT)
    outer.send_signal(signal.SIGHUP)
    outer.communicate(timeout=30)
    pid = int(pid_file.read_text())
    if not _has_ended_by_now(pid):
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the program goes on")
    assert outer.returncode in (-signal.SIGINT, -signal.SIGHUP), "the signals have their effect afterwards"


def test_a_signal_that_comes_while_a_program_is_ended_has_its_effect_afterwards(tmp_path: Path) -> None:
    pid_file, told = tmp_path / "pid", tmp_path / "told"
    program = (
        "import os, signal, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: open({str(told)!r}, 'w').close())\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "while True: time.sleep(600)\n"
    )
    script = (
        "import os, sys, time; from pathlib import Path; from npu_serving import process\n"
        "process.SECONDS_AFTER_INTERRUPT = process.SECONDS_AFTER_TERMINATE = 1\n"
        f"with process.running([sys.executable, '-c', {program!r}], log_path=Path(os.devnull)):\n"
        f"    while not os.path.exists({str(pid_file)!r}) or not os.path.getsize({str(pid_file)!r}): time.sleep(0.02)\n"
        "print('it goes on')\n"
    )
    outer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    _until(told.exists)
    outer.send_signal(signal.SIGTERM)
    output, _ = outer.communicate(timeout=30)
    assert (outer.returncode, output) == (-signal.SIGTERM, b"")
    assert _has_ended_by_now(int(pid_file.read_text()))


def test_programs_are_ended_from_other_threads_too(tmp_path: Path) -> None:
    caught: list[BaseException] = []

    def work() -> None:
        try:
            process.run(["sleep", "600"], timeout_s=0.1)
        except ProgramError as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(caught) == 1


def test_the_number_of_a_program_that_was_waited_for_gets_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[int] = []
    with process.running(["true"], log_path=tmp_path / "log") as program:
        program.wait()
        monkeypatch.setattr(process, "descendants", lambda pid: {pid + 1})  # those of the number's next owner
        monkeypatch.setattr(os, "killpg", lambda pid, _: signalled.append(pid))
        monkeypatch.setattr(os, "kill", lambda pid, _: signalled.append(pid))
    assert signalled == []


def _has_ended_by_now(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


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


def test_our_own_python_finds_the_library_that_we_were_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was built with --enable-shared may find its libpython by LD_LIBRARY_PATH alone."""
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with (tmp_path / "stderr").open("wb") as stderr:
        asking = [sys.executable, "-c", "import os; print(os.environ.get('LD_LIBRARY_PATH'))"]
        with process.conversing(asking, stderr=stderr) as running:
            assert running.stdout is not None
            assert running.stdout.read().decode() == f"{tmp_path}\n"
    assert "LD_LIBRARY_PATH" not in process.base_environment()


def test_a_program_in_our_place_whose_output_nobody_reads_any_more_is_ended_all_the_same() -> None:
    talks = "trap 'yes | head -c 1000000; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with pytest.raises(KeyError), process.in_our_place(["sh", "-c", talks], env=dict(os.environ)) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        raise KeyError
    assert running.returncode is not None


def test_a_program_that_prints_nothing_is_seen_to_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends only once it was looked at several times."""
    monkeypatch.setattr(process, "SECONDS_BETWEEN_TICKS", 0.01)
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 5:
            (tmp_path / "seen").touch()

    process.run(["sh", "-c", 'until [ -e "$0" ]; do sleep 0.01; done', tmp_path / "seen"], on_tick=look)
    assert len(looks) >= 5


def test_a_program_in_our_place_runs_on_the_processors_that_are_named_and_we_on_ours() -> None:
    before = os.sched_getaffinity(0)
    one = max(before)
    shows = ["grep", "Cpus_allowed_list", "/proc/self/status"]
    with process.in_our_place(shows, env=dict(os.environ), processors=(one,)) as running:
        printed, _ = running.communicate()
    assert printed.split()[1] == str(one).encode()
    assert os.sched_getaffinity(0) == before


def test_processors_that_the_kernel_does_not_give_are_named() -> None:
    beyond = 8000
    with pytest.raises(MissingToolError) as error, process.in_our_place(["true"], env={}, processors=(beyond,)):
        pytest.fail("it can't have started")
    assert f"on the processors {beyond}" in error.value.what
    assert "Cpus_allowed_list" in error.value.cure
