"""A program in the place of this process: its output, its signals and its end are ours, and its lines are looked at."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import selectors
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Callable, NoReturn

from npu_serving import fsutil, process
from npu_serving.process import ENDING_SIGNALS, Arg, OnLine

if TYPE_CHECKING:
    Program = subprocess.Popen[bytes]

PASSED_SIGNALS = (*ENDING_SIGNALS, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PIECES_AT_ONCE = 16  # of one stream, before the other one and the end are looked at again


def supervise(
    argv: Sequence[Arg],
    *,
    env: Mapping[str, str],
    on_line: OnLine,
    on_start: Callable[[int], None] | None = None,
    processors: Sequence[int] = (),
    after_output: Callable[[], None] | None = None,
    cwd: Path | None = None,
) -> int:
    """Runs a program in this one's place: its exit status at the end, negative for a signal.

    It has our standard input, terminal and process group, so that Ctrl-C and Ctrl-Z reach it as if it had been typed
    itself; what it prints goes on at once and unchanged, and the lines to `on_line` as well; `on_start` gets its
    number. Signals that come to us are passed on, so that it gets a terminal's Ctrl-C twice. It is ended when we are
    killed. Where nobody reads our output any more, the program runs on. `after_output` is called when a piece of its
    output has been written: a log may have grown too long. With `processors` it runs on these only.
    """
    ours = process.in_our_place(argv, env=env, cwd=cwd, processors=processors)
    with _signals_passed_on() as pass_them_to, ours as program:
        pass_them_to(program)
        if on_start is not None:
            on_start(program.pid)
        _pass_on(program, on_line, after_output)
    return program.returncode


def end_like(returncode: int) -> NoReturn:
    """Ends this process as that program ended: with its exit status, or by the same signal."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if returncode < 0:
        with contextlib.suppress(OSError, ValueError):  # the program's core is of use, ours is not
            resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-returncode, signal.SIG_DFL)
        os.kill(os.getpid(), -returncode)
    os._exit(128 - returncode if returncode < 0 else returncode)


def in_background(work: Callable[[int], object], *, log: Path) -> int:
    """Runs `work` in a process of its own, which outlives us, our terminal and our session; returns at once.

    Its standard input is /dev/null, its output is added to `log`, whose directory it works in, and nothing else that
    we have opened is open there. `work` gets a descriptor to write to; what is returned is the end to read it from.
    """
    ours, its_own = os.pipe()
    with fsutil.explained(log):
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()  # or it would be written twice
    child = os.fork()
    if child == 0:
        _leave_session_and_work(work, output, its_own, log.parent)
    os.close(output)
    os.close(its_own)
    os.waitpid(child, 0)
    return ours


def _leave_session_and_work(work: Callable[[int], object], output: int, tell: int, directory: Path) -> NoReturn:
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)  # so that its child belongs to the machine's init, and is nobody's zombie
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in [int(name) for name in os.listdir("/proc/self/fd")]:  # a pipe of a shell, a lock, the log
            if number > 2 and number != tell:
                with contextlib.suppress(OSError):
                    os.close(number)
        os.chdir(directory)
        work(tell)
        status = 0
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(status)


@contextlib.contextmanager
def _signals_passed_on() -> Iterator[Callable[[Program], None]]:
    """The signals that come to us while the block runs, for the program that it names; also those that came before."""
    came: list[int] = []
    programs: list[Program] = []

    def pass_on(number: int, _frame: object) -> None:
        if programs:
            with contextlib.suppress(ProcessLookupError):  # it ends at this very moment; later on it gets none
                programs[0].send_signal(number)
        else:
            came.append(number)

    def pass_them_to(program: Program) -> None:
        programs.append(program)
        for number in came:
            program.send_signal(number)

    former = {
        number: signal.signal(number, pass_on)
        for number in PASSED_SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN  # as under nohup
    }
    try:
        yield pass_them_to
    finally:
        for number, handler in former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _pass_on(program: Program, on_line: OnLine, after_output: Callable[[], None] | None) -> None:
    """Passes on what the program prints until it has ended; what it has started may hold its output open for longer."""
    assert program.stdout is not None
    assert program.stderr is not None
    targets = {program.stdout: _Outlet(1), program.stderr: _Outlet(2)}
    lines = {stream: process.LineAssembler(None, on_line, keep=False) for stream in targets}
    ended, told = os.pipe()
    waiter = threading.Thread(target=_tell_end, args=(program, told), daemon=True)
    waiter.start()
    with selectors.DefaultSelector() as selector:
        selector.register(ended, selectors.EVENT_READ)
        for stream in targets:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        running = True
        while running:
            ready = [key.fileobj for key, _ in selector.select()]
            running = ended not in ready
            for stream, outlet in targets.items():
                if stream in selector.get_map() and not _pass_on_what_is_there(stream, outlet, lines[stream]):
                    selector.unregister(stream)
            if after_output is not None:
                after_output()
    waiter.join()
    os.close(ended)
    for stream in targets:
        lines[stream].close()
        stream.close()


def _tell_end(program: Program, told: int) -> None:
    program.wait()
    os.close(told)


def _pass_on_what_is_there(stream: IO[bytes], outlet: _Outlet, lines: process.LineAssembler) -> bool:
    """False at the end of the stream. What the program has started may write faster than we read, and for ever."""
    for _ in range(PIECES_AT_ONCE):
        try:
            piece = os.read(stream.fileno(), 1 << 16)
        except BlockingIOError:
            break
        if not piece:
            return False
        outlet.write(piece)
        lines.add(piece)
    return True


class _Outlet:
    """A descriptor of ours that a program's output goes on to, until nobody reads it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._open = True

    def write(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left and self._open:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # somebody made it non-blocking, and it is full
                select.select([], [self._descriptor], [])
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    break  # this piece is lost; somebody may make room for the next one
                self._open = False  # its reader has left
