"""A program in our place: what it prints, the signals that come, and how we end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npu_serving import process, supervision
from npu_serving.settings import PROJECT_ROOT


def supervised(tmp_path: Path, program: str, *, before: str = "") -> subprocess.Popen[bytes]:
    """A process that runs `sh -c program` in its own place and ends as it ends; `before` is Python."""
    script = (
        "import os, signal, sys\nfrom npu_serving import supervision\nlines = []\n"
        f"{before}\n"
        f"code = supervision.supervise(['sh', '-c', {program!r}], env=dict(os.environ), on_line=lines.append)\n"
        f"open({str(tmp_path / 'lines')!r}, 'w').write('\\n'.join(lines))\n"
        "supervision.end_like(code)\n"
    )
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe)


@pytest.mark.parametrize(("ending", "code"), [("exit 0", 0), ("exit 77", 77), ("kill -ABRT $$", -6), ("kill $$", -15)])
def test_a_program_in_our_place_is_heard_unchanged_and_we_end_as_it_does(
    ending: str, code: int, tmp_path: Path
) -> None:
    with supervised(tmp_path, f"printf 'out\\377\\n'; printf 'no end' >&2; {ending}") as running:
        out, err = running.communicate()
    assert (running.returncode, out, err) == (code, b"out\xff\n", b"no end")
    assert sorted((tmp_path / "lines").read_text().splitlines()) == ["no end", "out\ufffd"]


def test_signals_reach_the_program_in_our_place_and_it_decides_how_it_ends(tmp_path: Path) -> None:
    with supervised(tmp_path, "trap 'echo stopping; exit 5' TERM; echo ready; while :; do sleep 0.05; done") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.terminate()
        assert running.communicate()[0] == b"stopping\n"
    assert running.returncode == 5


def test_a_signal_that_is_ignored_as_under_nohup_stays_ignored(tmp_path: Path) -> None:
    ignoring = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with supervised(tmp_path, "echo ready; read line; kill -HUP $$; exit 4", before=ignoring) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGHUP)
        running.communicate(b"go\n")
    assert running.returncode == 4


def test_a_program_in_our_place_ends_with_us(tmp_path: Path) -> None:
    with supervised(tmp_path, "echo $$; exec sleep 600") as running:
        assert running.stdout is not None
        pid = int(running.stdout.readline())
        running.kill()
    while Path(f"/proc/{pid}/stat").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
        time.sleep(0.01)


def test_a_program_in_our_place_runs_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    program = f"echo first; read line; seq 100000; echo last >&2; touch '{tmp_path}/done'; exit 3"
    with supervised(tmp_path, program) as running:
        assert running.stdout is not None
        assert running.stdin is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"first\n"
        running.stdout.close()
        running.stdin.write(b"go\n")
        running.stdin.close()
        assert running.stderr.read() == b"last\n"
    assert (running.returncode, (tmp_path / "done").exists()) == (3, True)


def test_what_the_program_has_started_does_not_keep_us_when_it_has_ended(tmp_path: Path) -> None:
    with supervised(tmp_path, "sleep 600 & echo $!; exit 6") as running:
        assert running.wait() == 6
        assert running.stdout is not None
        os.kill(int(running.stdout.readline()), signal.SIGKILL)


def test_a_stream_that_never_pauses_leaves_us_time_for_the_other_one_and_for_the_end() -> None:
    with open("/dev/zero", "rb", buffering=0) as endless, open(os.devnull, "wb") as nowhere:
        lines = process.LineAssembler(None, None, keep=False)
        assert supervision._pass_on_what_is_there(endless, supervision._Outlet(nowhere.fileno()), lines)


def test_output_goes_on_when_there_is_room_again_on_the_disk(tmp_path: Path) -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    try:
        outlet = supervision._Outlet(descriptor)
        outlet.write(b"lost")
        with (tmp_path / "log").open("wb") as log:
            os.dup2(log.fileno(), descriptor)
        outlet.write(b"kept")
    finally:
        os.close(descriptor)
    assert (tmp_path / "log").read_bytes() == b"kept"


IN_BACKGROUND = """
import os, sys
from pathlib import Path
from npu_serving.supervision import in_background
os.dup2(os.open(sys.argv[2], os.O_RDONLY), 7)
os.set_inheritable(7, True)
def work(tell):
    opened = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    said = [os.getcwd(), os.readlink("/proc/self/fd/0"), os.getsid(0) != int(sys.argv[3]), 7 in opened]
    os.write(tell, repr(said).encode())
    print("into the log")
    sys.stdout.flush()
    if sys.argv[4] == "fails":
        raise RuntimeError("it broke")
print("before", end="")
pipe = in_background(work, log=Path(sys.argv[1]))
said = b""
while piece := os.read(pipe, 1000):
    said += piece
print(said.decode(), end="")
"""


@pytest.mark.parametrize("how", ["works", "fails"])
def test_work_in_the_background_has_left_our_session_and_all_that_we_have_opened(tmp_path: Path, how: str) -> None:
    log = tmp_path / "place" / "log"
    log.parent.mkdir()
    argv = [sys.executable, "-c", IN_BACKGROUND, str(log), __file__, str(os.getsid(0)), how]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(PROJECT_ROOT)})
    assert done.stdout == "before" + repr([str(log.parent), os.devnull, True, False]), "and is not printed twice"
    assert done.stderr == ""
    assert log.read_text().startswith("into the log\n")
    assert ("RuntimeError: it broke" in log.read_text()) == (how == "fails")
