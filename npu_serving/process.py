"""The one gate through which programs are started: environment, process group, log, and the message on failure."""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Union, cast

from npu_serving import debugging, fsutil
from npu_serving.errors import MissingToolError, ProgramError, RequestError
from npu_serving.shown_text import hiding, masked_words
from npu_serving.writers.shell import command_line

Arg = Union[str, "os.PathLike[str]"]
OnLine = Callable[[str], None]

# What a program may know of the caller's environment. Everything else is left out, so that a build does not depend on
# who types it: TF_REVISION alone would switch off the check of TensorFlow's sha256.
PASSED_ON = ("HOME", "USER", "LOGNAME", "TERM", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SECONDS_AFTER_INTERRUPT = 10.0
SECONDS_AFTER_TERMINATE = 5.0
SECONDS_BETWEEN_TICKS = 1.0
TAIL_LINES = 25
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LONGEST_LINE = 1 << 16  # bytes of a line that is only looked at


@dataclass(frozen=True)
class Finished:
    """A program that has ended: its exit status (negative for a signal), what it printed, and how long it took."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def output(self) -> str:
        """Standard output and error, one after the other."""
        return self.stdout + self.stderr


def base_environment(path: str | None = None, *, proxies: bool = False) -> dict[str, str]:
    """An environment made from the allow-list; PATH is the caller's unless one is given."""
    names = PASSED_ON + (PROXY_VARIABLES if proxies else ())
    environment = {name: os.environ[name] for name in names if name in os.environ}
    environment["PATH"] = path if path is not None else os.environ.get("PATH", DEFAULT_PATH)
    return environment


def own_environment() -> dict[str, str]:
    """What our own Python is started with: base_environment(), and where the libpython is that it was linked with."""
    library_path = os.environ.get("LD_LIBRARY_PATH")
    return {**base_environment(), **({"LD_LIBRARY_PATH": library_path} if library_path else {})}


def find_program(name: str, *, path: str | None = None) -> Path | None:
    """The program of that name on PATH, or None."""
    found = shutil.which(name, path=path)
    return Path(found) if found else None


def require_program(name: str, *, cure: str) -> Path:
    """The program of that name on PATH; MissingToolError with the cure where there is none."""
    found = find_program(name)
    if found is None:
        raise MissingToolError(f"The program {name!r} is not on PATH.", cure=cure)
    return found


def run(
    argv: Sequence[Arg],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log_path: Path | None = None,
    on_line: OnLine | None = None,
    on_tick: Callable[[], None] | None = None,
    check: bool = True,
    timeout_s: float | None = None,
    cure: str = "",
) -> Finished:
    """Runs a program to its end and returns what it printed.

    The program gets a process group of its own, no terminal, and the environment of base_environment() unless `env`
    is given whole. Each line goes to `on_line` and to `log_path` (stdout and stderr as they come); `on_tick` is called
    about once a second meanwhile, also where nothing is printed. On Ctrl-C, on
    `timeout_s` and on any other exception the whole group and its descendants are ended.

    Raises MissingToolError when the program can't be started, RequestError for an argument that no program can be
    given, DiskFullError and the like when the log can't be written and, with `check`, ProgramError when it fails.
    """
    words = _words(argv)
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(opened_log(log_path, words)) if log_path is not None else None
        if log is not None:
            log.write(f"$ {command_line(masked_words(words), cwd)}\n")
        process = _popen(words, cwd, env, subprocess.PIPE, subprocess.PIPE)
        try:
            deadline = None if timeout_s is None else started + timeout_s
            stdout, stderr = _drain(process, log, on_line, deadline, on_tick)
            process.wait()
        except BaseException:
            end_process_tree(process)
            raise
        finally:
            _show_end(process, started)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
    finished = Finished(words, process.returncode, stdout, stderr, time.monotonic() - started)
    if check and finished.returncode != 0:
        raise failure(finished, log_path=log_path, cure=cure)
    return finished


class Log:
    """A file that text is added to, a piece at a time and at once; what can't be written is an error with a cure.

    Arguments and names that are not UTF-8 are written as the bytes that they are.
    """

    def __init__(self, path: Path, file: IO[bytes], hide: Callable[[str], str]) -> None:
        self._path = path
        self._file = file
        self._hide = hide

    def write(self, text: str) -> None:
        """Adds the text, whole."""
        left = memoryview(self._hide(text).encode("utf-8", "surrogateescape"))
        while left:
            with fsutil.explained(self._path):
                left = left[self._file.write(left) :]


@contextlib.contextmanager
def opened_log(path: Path, argv: Sequence[str] = ()) -> Iterator[Log]:
    """The log at `path`, to be added to; the secrets among the words of the command `argv` are not written."""
    with fsutil.explained(path):
        file = path.open("ab", buffering=0)  # nothing is kept back that closing would then fail to write
    with file:
        yield Log(path, cast("IO[bytes]", file), hiding(argv))


def failure(finished: Finished, *, log_path: Path | None = None, cure: str = "") -> ProgramError:
    """The error that says how a program ended, with the tail of its output and the path of its log."""
    command = command_line(masked_words(finished.argv))
    lines = [f"{Path(finished.argv[0]).name} {_how_it_ended(finished.returncode)}: {command}"]
    tail = [line for line in finished.output.splitlines() if line.strip()][-TAIL_LINES:]
    hide = hiding(finished.argv)
    lines += [f"    {hide(line)}" for line in tail]
    if log_path is not None:
        lines.append(f"The full output is in {log_path}")
    cure = cure or "correct what its output says, then run the same command again"
    return ProgramError("\n".join(lines), cure=cure, returncode=finished.returncode, output=finished.output)


@contextlib.contextmanager
def running(
    argv: Sequence[Arg],
    *,
    log_path: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    processors: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs beside this one until the block ends; its output goes to `log_path`.

    With `processors` it runs on these only.
    """
    with fsutil.explained(log_path):
        log = log_path.open("ab")
    with log:
        started = time.monotonic()
        process = _popen(_words(argv), cwd, env, log, log, processors=processors)
        try:
            yield process
        finally:
            end_process_tree(process, first=signal.SIGTERM)
            _show_end(process, started)


@contextlib.contextmanager
def conversing(
    argv: Sequence[Arg], *, stderr: IO[bytes], ends_itself: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A program of this project's own that is spoken to through its standard input and output until the block ends.

    One that `ends_itself` calls end_with_parent() when it starts. It is made without a copy of this process, in which
    grpc would set threads of its own going that then have no files any more.
    """
    started = time.monotonic()
    pipe = subprocess.PIPE
    process = _popen(_words(argv), None, own_environment(), pipe, stderr, stdin=pipe, is_prepared=not ends_itself)
    try:
        yield process
    finally:
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        end_process_tree(process, first=signal.SIGKILL)
        _show_end(process, started)


def end_with_parent() -> None:
    """Has the kernel end this process when the one that started it is killed."""
    _begin(_prctl(), ())


def replace_this_process(argv: Sequence[Arg], *, env: Mapping[str, str]) -> None:
    """Becomes that program: the terminal, its signals and its exit status are the program's from here on."""
    words = [os.fspath(arg) for arg in argv]
    debugging.show_start(words, str(Path.cwd()), env)
    try:
        os.execve(words[0], words, dict(env))  # noqa: S606 - an argument list, no shell
    except OSError as error:
        raise MissingToolError(
            f"Could not start {words[0]} ({error.strerror}).",
            cure=f"check that {words[0]} is a program for this machine that this user may execute",
        ) from error


@contextlib.contextmanager
def in_our_place(
    argv: Sequence[Arg], *, env: Mapping[str, str], cwd: Path | None = None, processors: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A program with our standard input, terminal and process group, whose output is ours to read.

    With `processors` it runs on these only.

    It is ended when we are killed, and where the block ends before it does.
    """
    started = time.monotonic()
    process = _popen(_words(argv), cwd, env, subprocess.PIPE, subprocess.PIPE, in_our_place=True, processors=processors)
    try:
        yield process
    finally:
        if process.poll() is None:
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()  # or what it prints at its end would wait for a reader
            process.terminate()
            process.wait()
        _show_end(process, started)


def end_process_tree(process: subprocess.Popen[bytes], *, first: int = signal.SIGINT) -> None:
    """Ends a program and everything it started: politely, then firmly, then for good.

    A signal that comes in between, such as a second Ctrl-C, has its effect when that is done.
    """
    if process.returncode is not None:
        return  # by now the number may be somebody else's
    with _signals_put_off():
        _end_process_tree(process, first)


def _end_process_tree(process: subprocess.Popen[bytes], first: int) -> None:
    waits = ((first, SECONDS_AFTER_INTERRUPT), (signal.SIGTERM, SECONDS_AFTER_TERMINATE), (signal.SIGKILL, None))
    family = {process.pid, *descendants(process.pid)}
    for number, patience_s in waits:
        family |= {pid for member in family for pid in descendants(member)}
        _signal_group(process, number)
        try:
            process.wait(timeout=patience_s)
            break
        except subprocess.TimeoutExpired:
            continue
    for pid in family - {process.pid}:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def _signals_put_off() -> Iterator[None]:
    """Keeps the signals that would end us until the block has ended; only the main thread can, and gets them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    former = {number: signal.signal(number, lambda which, _: came.append(which)) for number in ENDING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    for late in sorted(set(came)):
        signal.raise_signal(late)


def descendants(pid: int) -> set[int]:
    """The processes that `pid` started, and those that they started, according to /proc."""
    children: dict[int, set[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                # The second field, the program's name, may hold blanks and parentheses: count from behind the last one.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), set()).add(int(entry.name))
    found: set[int] = set()
    frontier = {pid}
    while frontier:
        frontier = {child for parent in frontier for child in children.get(parent, ())} - found
        found |= frontier
    return found


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if process.returncode is None:  # until then the number is the program's, even if it has ended
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _begin(prctl: Callable[[int, int], int], processors: Sequence[int]) -> None:
    """What the program's process does before it becomes the program.

    It asks the kernel to end it when the one that started it is killed (prctl(2), PR_SET_PDEATHSIG).
    """
    pr_set_pdeathsig = 1
    prctl(pr_set_pdeathsig, signal.SIGTERM)
    if processors:
        os.sched_setaffinity(0, processors)


@functools.cache
def _prctl() -> Callable[[int, int], int]:
    import ctypes

    return cast("Callable[[int, int], int]", ctypes.CDLL(None).prctl)


def _popen(
    argv: tuple[str, ...],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    *,
    in_our_place: bool = False,
    stdin: int = subprocess.DEVNULL,
    processors: Sequence[int] = (),
    is_prepared: bool = True,
) -> subprocess.Popen[bytes]:
    environment = dict(env) if env is not None else base_environment()
    debugging.show_start(argv, str(cwd or Path.cwd()), environment)
    prctl = _prctl()  # a thread of ours may hold what an import in the new process would wait for, for ever
    try:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=None if in_our_place else stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=not in_our_place,  # so Ctrl-C reaches us first; we pass it on to the whole group
            # It waits for no thread, and there is no other way.
            preexec_fn=(lambda: _begin(prctl, processors)) if is_prepared else None,  # noqa: PLW1509
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise ProgramError(
                f"Could not start {argv[0]} in {cwd}: the directory does not exist.",
                cause="it was removed in the meantime",
                cure="run the same command again",
            ) from error
        raise MissingToolError(
            f"The program {argv[0]!r} was not found.", cure="install it, or add its directory to PATH"
        ) from error
    except subprocess.SubprocessError as error:  # of _begin: the kernel leaves it none of the processors
        raise MissingToolError(
            f"Could not start {argv[0]} on the processors {', '.join(map(str, processors))}.",
            cause="a program that is started here may not use any of them",
            cure="grep Cpus_allowed_list /proc/self/status shows those that it may use",
        ) from error
    except (PermissionError, OSError) as error:
        raise MissingToolError(
            f"Could not start {argv[0]} ({error.strerror}).",
            cure=f"check that {argv[0]} is a program for this machine that this user may execute",
        ) from error


def _words(argv: Sequence[Arg]) -> tuple[str, ...]:
    """The arguments as the operating system can take them; RequestError where it can't."""
    words = tuple(os.fspath(arg) for arg in argv)
    for word in words:
        try:
            fit = b"\0" not in os.fsencode(word)
        except UnicodeEncodeError:
            fit = False
        if not fit:
            raise RequestError(
                f"{word!r} can't be an argument of {words[0]!r}.",
                cause="it contains a NUL byte, or half of a character",
                cure="use a name without it",
            )
    return words


class LineAssembler:
    """Puts the pieces of one stream together into whole lines; `text` holds those that are complete.

    Without `keep` nothing is held but the line that is not complete yet, and of a long one its last part.
    """

    def __init__(self, log: Log | None, on_line: OnLine | None, *, keep: bool = True) -> None:
        self.text: list[str] = []
        self._keep = keep
        self._rest = b""
        self._log = log
        self._on_line = on_line

    def add(self, piece: bytes) -> None:
        """Takes the next piece; hands on the lines that it completes."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop() if self._keep else lines.pop()[-LONGEST_LINE:]
        for line in lines:
            self._emit(line.decode(errors="replace") + "\n")

    def close(self) -> None:
        """Hands on what came after the last line end."""
        if self._rest:
            self._emit(self._rest.decode(errors="replace"))
            self._rest = b""

    def _emit(self, line: str) -> None:
        if self._keep:
            self.text.append(line)
        if self._log is not None:
            self._log.write(line)
        if self._on_line is not None:
            self._on_line(line.rstrip("\r\n"))


def _drain(
    process: subprocess.Popen[bytes],
    log: Log | None,
    on_line: OnLine | None,
    deadline: float | None,
    on_tick: Callable[[], None] | None = None,
) -> tuple[str, str]:
    """Reads both streams to their end; ProgramError when the deadline passes first."""
    assert process.stdout is not None
    assert process.stderr is not None
    lines = {process.stdout: LineAssembler(log, on_line), process.stderr: LineAssembler(log, on_line)}
    with selectors.DefaultSelector() as selector:
        for stream in lines:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                argv = cast("Sequence[Arg]", process.args)
                raise ProgramError(
                    f"{command_line(argv)} did not finish in time.",
                    cause="it hangs, or the machine is busy",
                    cure="run the same command again when the machine is less busy",
                )
            if on_tick is not None:
                on_tick()
                left = SECONDS_BETWEEN_TICKS if left is None else min(left, SECONDS_BETWEEN_TICKS)
            for key, _ in selector.select(left):
                piece = os.read(key.fd, 1 << 16)
                if piece:
                    lines[key.fileobj].add(piece)  # type: ignore[index]
                else:
                    selector.unregister(key.fileobj)
    for line in lines.values():
        line.close()
    return "".join(lines[process.stdout].text), "".join(lines[process.stderr].text)


def _show_end(process: subprocess.Popen[bytes], started: float) -> None:
    words = cast("tuple[str, ...]", process.args)
    debugging.show_end(words, _how_it_ended(process.returncode or 0), time.monotonic() - started)


def _how_it_ended(returncode: int) -> str:
    if returncode == 127:
        return "ended with status 127 (a program or a shared library was not found)"
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with status {returncode}"
