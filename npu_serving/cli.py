"""What tasks.py needs around a result: printing it, showing an error, the exit code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

from npu_serving import debugging, process
from npu_serving.console import Console
from npu_serving.errors import EXIT_INTERRUPTED, NpuServingError, RequestError
from npu_serving.fsutil import as_error
from npu_serving.repeated_flags import NOTHING_TYPED, RepeatedFlags
from npu_serving.shown_text import fit_to_show, printable, shortened, without_login


class Result(Protocol):
    """What a task's work returns. Where it isn't always 0, it has an `exit_code` as well.

    One whose texts are a model's, and not this project's, says so by `is_data`.
    """

    def to_json(self) -> dict[str, object]:
        """For --json."""

    def text(self) -> str:
        """For a person."""


def answer(
    work: Callable[[Console], Result | None], *, as_json: bool, repeated: RepeatedFlags = NOTHING_TYPED
) -> NoReturn:
    """Does the work, prints its result to standard output, and leaves with its exit code.

    The commands that it names as the next ones get the flags that were typed, where they take them.
    """
    with errors_shown(as_json=as_json, repeated=repeated):
        result = work(Console())
        if result is not None:
            text = _shown(result, repeated, as_json=as_json, indent=2)
            _leave_at_once_when_interrupted(EXIT_INTERRUPTED, "Interrupted while the result was printed.")
            _print(text)
        code = int(getattr(result, "exit_code", 0))
        _leave_at_once_when_interrupted(code)
    sys.exit(code)


def answer_each(
    work: Callable[[Console], Iterator[Result]], *, as_json: bool, repeated: RepeatedFlags = NOTHING_TYPED
) -> NoReturn:
    """Prints each result of the work when it comes, as one line, and leaves with the exit code of the last."""
    code = 0
    with errors_shown(as_json=as_json, indent=None, repeated=repeated):
        for result in work(Console()):
            code = int(getattr(result, "exit_code", 0))
            if not _print(_shown(result, repeated, as_json=as_json, indent=None)):
                break  # nobody is reading any more
        _leave_at_once_when_interrupted(code)
    sys.exit(code)


def _shown(result: Result, repeated: RepeatedFlags, *, as_json: bool, indent: int | None) -> str:
    """The result as it is printed: without passwords, unless it is what a model answered, which is left as it is."""
    is_data = getattr(result, "is_data", False)
    if as_json:
        document = result.to_json()
        shown = document if is_data else _without_logins(repeated.in_json(document))
        return json.dumps(shown, indent=indent, sort_keys=True)
    text = result.text()
    return printable(text) if is_data else fit_to_show(repeated.in_text(text))


@contextlib.contextmanager
def errors_shown(*, as_json: bool, indent: int | None = 2, repeated: RepeatedFlags = NOTHING_TYPED) -> Iterator[None]:
    """Ends the process with a message and an exit code where the block fails."""
    try:
        _interruptible()
        yield
    except NpuServingError as error:
        debugging.show_traceback(error)
        error.cure = repeated.in_step(error.cure, error.what)
        _show_error(error, as_json=as_json, indent=indent)
    except OSError as error:
        debugging.show_traceback(error)
        # Whatever was not expected elsewhere, such as a name that is too long or a directory that can't be entered.
        refused = as_error(error, Path(os.fsdecode(error.filename or "a file")), doing="used")
        _show_error(refused, as_json=as_json, indent=indent)
    except (RecursionError, MemoryError) as error:
        debugging.show_traceback(error)
        _show_error(_too_much(error), as_json=as_json, indent=indent)
    except KeyboardInterrupt as error:
        _leave_at_once_when_interrupted(EXIT_INTERRUPTED)
        debugging.show_traceback(error)
        said = str(error) or "nothing that this command started keeps running. Run it again to continue."
        print(f"\nInterrupted; {said}", file=sys.stderr)
        if as_json:
            _print_if_possible(json.dumps({"error": "Interrupted", "exit_code": EXIT_INTERRUPTED}, indent=indent))
        sys.exit(EXIT_INTERRUPTED)


def _too_much(error: BaseException) -> NpuServingError:
    """The error to show for what is too deep or too large to be worked on, wherever that is noticed."""
    if isinstance(error, RecursionError):
        return RequestError(
            "Something that was read is nested too deeply.",
            cause="a file or a directory was made by a program, or is malicious",
            cure="./inv --debug in front of the task shows what was being read; name another one",
        )
    return NpuServingError(
        "The memory that this program may use is used up.",
        cause="something that was read is very large, or ulimit -v or the container allows little",
        cure="./inv --debug in front of the task shows what was read; free -m and ulimit -v show how much there is",
    )


def _show_error(error: NpuServingError, *, as_json: bool, indent: int | None) -> NoReturn:
    _leave_at_once_when_interrupted(error.exit_code)
    print(shortened(fit_to_show(str(error))), file=sys.stderr)
    if as_json:
        _print_if_possible(json.dumps(_without_logins(error.to_json()), indent=indent))
    sys.exit(error.exit_code)


def _without_logins(value: object) -> object:
    """A JSON value, with without_login() for each text in it."""
    if isinstance(value, dict):
        return {key: _without_logins(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_logins(item) for item in value]
    return without_login(value) if isinstance(value, str) else value


def _print_if_possible(text: str) -> None:
    """Prints it; where that fails, the exit code that is known already tells more than another error."""
    try:
        print(text, flush=True)
    except (OSError, ValueError):
        _silence_stdout()


def _print(text: str) -> bool:
    """Prints it; a path that is not UTF-8 is shown escaped. False where the reader has left (`| head`): no error."""
    try:
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return False
    except (OSError, ValueError) as error:  # a full disk, a closed descriptor
        print(
            f"Could not print the result ({error}).\nNext: check the disk or the program that standard output goes to",
            file=sys.stderr,
        )
        _silence_stdout()
        sys.exit(1)
    return True


def _silence_stdout() -> None:
    """Keeps Python from flushing what can't be written when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal that means the same.

    A class of our own, because CPython remembers a plain KeyboardInterrupt that was raised within exec(), as in the
    making of a dataclass, and ends by SIGINT in the end even though it was handled.
    """


def _interruptible() -> None:
    """Has whatever is being done end with Interrupted when a signal comes that means so."""
    sys.unraisablehook = _interrupt_again
    for number in process.ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupted)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # in `./inv unbundle` it is blocked until here


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    """An interruption that came within a destructor or a callback, where Python drops it: it comes again, later."""
    if isinstance(unraisable.exc_value, Interrupted):
        signal.signal(signal.SIGALRM, _interrupted)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
    else:
        sys.__unraisablehook__(unraisable)


def _leave_at_once_when_interrupted(code: int, text: str = "") -> None:
    """From here on a signal only makes it quicker: what there was to do is done, and the exit code is known."""

    def leave(_number: int, _frame: FrameType | None) -> None:
        if text:
            os.write(2, f"\n{text}\n".encode())
        os._exit(code)

    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    for number in process.ENDING_SIGNALS:
        signal.signal(number, leave)


def seconds(text: str, flag: str) -> float:
    """The time in seconds that was given with `flag`: more than 0, and less than a day."""
    plain = text.replace(".", "", 1)
    value = float(text) if plain.isdecimal() and plain.isascii() else 0.0
    if not 0 < value < 86400:
        raise RequestError(f"{flag} must be a number of seconds, not {text!r}.", cure="use a value such as 10 or 0.5")
    return value
