"""Ctrl-C from the first line of `inv` on: 130, one line, no traceback, and nothing keeps running.

No moment is guessed: a stand-in for Python says that it has come to a point, and waits there for the signal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MARK = "NPU_SERVING_TEST_INTERRUPTED"
SAID = re.compile(r"\nInterrupted[^\n]*\n")
POINTS = 25
MOMENTS = 12

WAYS = {"terminal": os.killpg, "the process alone": os.kill}
"""A terminal's Ctrl-C goes to everything that runs in it; `kill -INT` to one process."""

# Says that it has come to a point, and goes on when it is told to.
HOLD = """
hold() {{ touch '{place}/reached'; while [ ! -e '{place}/go-on' ]; do sleep 0.05; done; }}
"""

# Counts the calls of functions from within `import site` on, and sends itself SIGINT at the given one.
COUNTING = """
import os, signal, sys
at, count, us = int(os.environ["INTERRUPT_AT"]), 0, os.getpid()
def counting(*_):
    global count
    count += 1
    if count == at and os.getpid() == us:  # not in a fork on its way to be another program
        os.kill(us, signal.SIGINT)
if at == 0:
    os.kill(us, signal.SIGINT)
elif at > 0:
    sys.setprofile(counting)
else:
    import atexit
    atexit.register(lambda: open(os.environ["COUNT_IN"], "w").write(str(count)))
    sys.setprofile(counting)
"""


class Wrapped:
    """An `inv` that is started, interrupted, and asked how it ended."""

    def __init__(self, project: Path, *words: str, **variables: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NPU_", "PIP_"))}
        self.mark = f"{project}-{time.monotonic_ns()}"
        self.child = subprocess.Popen(
            [project / "inv", *words],
            cwd=project,
            env={**environment, "NPU_SERVING_PYTHON": sys.executable, MARK: self.mark, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Until it is so; an `inv` that has ended before is the failure that it is."""
        while not condition():
            assert self.child.poll() is None, self.child.communicate()
            time.sleep(0.01)

    def interrupt(self, way: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            WAYS[way](self.child.pid, signal.SIGINT)

    def ended(self) -> tuple[int, str, str]:
        out, err = self.child.communicate(timeout=300)
        assert self.running() == []
        return self.child.returncode, out, err

    def running(self) -> list[str]:
        """What was started by this `inv` and still runs: each of them has its mark in its environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in path.read_bytes().split(b"\0"):
                    found.append((path.parent / "cmdline").read_text().replace("\0", " "))
        return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The wrapper, this package and one requirement, without an environment."""
    place = tmp_path / "a project"
    place.mkdir()
    for name in ("inv", "tasks.py", "invoke.yaml"):
        shutil.copy2(ROOT / name, place)
    for name in ("npu_serving", "locks"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    found = re.search(r"^invoke==(?:.*\\\n)+.*\n", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert found
    (place / "requirements.txt").write_text(found.group(0))
    return place


def stand_in(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\nexec '{sys.executable}' \"$@\"\n")
    path.chmod(0o755)
    return path


def made_environment(project: Path, script: str = "") -> Path:
    """An environment that passes for finished; its Python does what the script says and goes on as ours."""
    place = project / ".venv"
    stand_in(place / "bin" / "python", script)
    shutil.copy(project / "requirements.txt", place / "installed-requirements.txt")
    return place


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("question", ["version_info", "import venv"])
def test_while_it_looks_for_a_python(project: Path, tmp_path: Path, question: str, way: str) -> None:
    script = HOLD.format(place=tmp_path) + f'case "$*" in *"{question}"*) hold ;; esac'
    python = stand_in(tmp_path / "python3", script)
    inv = Wrapped(project, "--list", NPU_SERVING_PYTHON=str(python))
    inv.wait_for((tmp_path / "reached").exists)
    inv.interrupt(way)
    (tmp_path / "go-on").touch()
    code, out, err = inv.ended()
    assert (code, out) == (130, ""), err
    assert SAID.fullmatch(err), err
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("way", WAYS)
def test_while_the_environment_is_made(project: Path, tmp_path: Path, way: str) -> None:
    script = HOLD.format(place=tmp_path) + 'case "$*" in *"-m venv"*) (hold) & wait ;; esac'
    python = stand_in(tmp_path / "python3", script)
    inv = Wrapped(project, "--list", NPU_SERVING_PYTHON=str(python))
    inv.wait_for((tmp_path / "reached").exists)
    inv.interrupt(way)
    code, _, err = inv.ended()
    assert code == 130
    assert SAID.fullmatch(err), err
    after = Wrapped(project, "--list")  # the next call begins where this one was ended
    assert after.ended()[0] == 0


@pytest.mark.parametrize("way", WAYS)
def test_while_pip_waits_for_an_index_and_the_next_call_installs_it_whole(project: Path, way: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as index:  # it answers nothing
        url = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
        inv = Wrapped(project, "--list", PIP_INDEX_URL=url, PIP_CONFIG_FILE=os.devnull)
        connection, _ = index.accept()
        with connection:
            inv.interrupt(way)
            code, _, err = inv.ended()
    assert code == 130
    assert SAID.search(err), err
    assert "Traceback" not in err
    assert not (project / ".venv/installed-requirements.txt").exists()
    _half_installed(project)
    code, out, err = Wrapped(project, "--list", **pip_settings()).ended()
    assert code == 0, err
    assert "build-serving" in out


def _half_installed(project: Path) -> None:
    """What pip would take for installed, were it not told: all that describes a package, and none of its files."""
    (version,) = re.findall(r"invoke==(\S+)", (project / "requirements.txt").read_text())
    packages = next((project / ".venv/lib").glob("python3*/site-packages"))
    described = packages / f"invoke-{version}.dist-info"
    described.mkdir()
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: invoke\nVersion: {version}\n")
    (described / "RECORD").write_text("")


def pip_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


@pytest.mark.parametrize("way", WAYS)
def test_while_another_call_makes_the_environment(project: Path, way: str) -> None:
    with (project / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        inv = Wrapped(project, "--list")
        inv.wait_for(lambda: any(line.startswith("flock ") for line in inv.running()))
        inv.interrupt(way)
        code, _, err = inv.ended()
    assert code == 130
    assert SAID.fullmatch(err), err


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("blocked_by", ["env", "perl"])
def test_while_python_imports_site(project: Path, tmp_path: Path, way: str, blocked_by: str) -> None:
    """Where Python prints a traceback if it is left to itself; perl does what an older coreutils can't."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, time\n"
        f"open({str(tmp_path / 'reached')!r}, 'w').close()\n"
        f"while not os.path.exists({str(tmp_path / 'go-on')!r}):\n"
        "    time.sleep(0.01)\n"
    )
    made_environment(project, f"export PYTHONPATH='{site}'; shift")  # -I, with which Python does not look there
    older = tmp_path / "older"
    older.mkdir()
    if blocked_by == "perl":
        assert shutil.which("perl")
        (older / "env").write_text('#!/bin/sh\ncase "$1" in --block*) exit 125;; esac\nexec /usr/bin/env "$@"\n')
        (older / "env").chmod(0o755)
    inv = Wrapped(project, "--list", PATH=f"{older}:{os.environ['PATH']}")
    inv.wait_for((tmp_path / "reached").exists)
    inv.interrupt(way)
    (tmp_path / "go-on").touch()
    code, out, err = inv.ended()
    assert (code, out) == (130, ""), err
    assert SAID.fullmatch(err), err


@pytest.fixture
def counting(project: Path, tmp_path: Path) -> Iterator[Callable[[int], Wrapped]]:
    """Runs of a task that are interrupted at a certain call of a function; without any, the calls are counted."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(COUNTING)
    made_environment(project, f"export PYTHONPATH='{site}'; shift")  # -I, with which Python does not look there
    yield lambda at: Wrapped(project, "doctor", INTERRUPT_AT=str(at), COUNT_IN=str(tmp_path / "count"))


def test_at_any_call_of_a_function_from_pythons_own_start_to_the_end_of_a_task(
    counting: Callable[[int], Wrapped], tmp_path: Path
) -> None:
    whole, printed, _ = counting(-1).ended()
    assert whole in (0, 3)
    total = int((tmp_path / "count").read_text())
    early = 0
    for at in range(0, total, total // POINTS):
        code, out, err = counting(at).ended()
        assert "Traceback" not in err, f"{at}: {err}"
        if out == printed:
            assert code in (whole, 130)
            continue
        early += 1
        assert code == 130, (at, err)
        assert len(SAID.findall(err)) == 1, (at, err)
    assert early > POINTS // 2


def test_at_any_moment_of_a_busy_machine(project: Path) -> None:
    """Wherever it hits: before the first line the shell's own end by the signal is all that there is."""
    made_environment(project)
    began = time.monotonic()
    whole, _, _ = Wrapped(project, "doctor").ended()
    takes_s = time.monotonic() - began
    chance = random.Random(8)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        for moment in range(MOMENTS):
            inv = Wrapped(project, "doctor")
            time.sleep(chance.uniform(0, 2 * takes_s))
            inv.interrupt(list(WAYS)[moment % 2])
            code, _, err = inv.ended()
            assert "Traceback" not in err, err
            assert code in (whole, 130, -signal.SIGINT), (code, err)
            if code == 130:
                assert len(SAID.findall(err)) == 1, err
    finally:
        for process in busy:
            process.kill()
            process.wait()
