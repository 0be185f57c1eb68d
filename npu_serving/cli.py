"""What tasks.py needs around a result: printing it, showing an error, the exit code, and the developers' tools."""

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
from npu_serving.errors import EXIT_INTERRUPTED, EXIT_UNFIT_TOOL, MissingToolError, NpuServingError, RequestError
from npu_serving.fsutil import as_error
from npu_serving.settings import PROJECT_ROOT

SHELL_SCRIPTS = (
    "inv",
    ".ci/run",
    ".ci/docker.sh",
    "docker/*.sh",
    "docker/guide/*.sh",
    "docker/runtime/[sh]*",
    "templates/completion/*.bash",
)


class Result(Protocol):
    """What a room hands to tasks.py. Where it isn't always 0, it has an `exit_code` as well."""

    def to_json(self) -> dict[str, object]:
        """For --json."""

    def text(self) -> str:
        """For a person."""


def answer(work: Callable[[Console], Result | None], *, as_json: bool) -> NoReturn:
    """Does the work, prints its result to standard output, and leaves with its exit code."""
    with errors_shown(as_json=as_json):
        result = work(Console())
    if result is not None:
        _print(json.dumps(result.to_json(), indent=2, sort_keys=True) if as_json else result.text())
    sys.exit(getattr(result, "exit_code", 0))


def answer_each(work: Callable[[Console], Iterator[Result]], *, as_json: bool) -> NoReturn:
    """Prints each result of the work when it comes, as one line, and leaves with the exit code of the last."""
    code = 0
    with errors_shown(as_json=as_json, indent=None):
        for result in work(Console()):
            code = getattr(result, "exit_code", 0)
            if not _print(json.dumps(result.to_json(), sort_keys=True) if as_json else result.text()):
                break  # nobody listens any more
    sys.exit(code)


@contextlib.contextmanager
def errors_shown(*, as_json: bool, indent: int | None = 2) -> Iterator[None]:
    """Ends the process with a message and an exit code where the block does not end well."""
    signal.signal(signal.SIGINT, _interrupted)
    signal.signal(signal.SIGHUP, _interrupted)  # the terminal was closed
    signal.signal(signal.SIGTERM, _interrupted)  # ended from outside like Ctrl-C: nothing keeps running
    try:
        yield
    except NpuServingError as error:
        debugging.show_traceback(error)
        print(error, file=sys.stderr)
        if as_json:
            print(json.dumps(error.to_json(), indent=indent))
        sys.exit(error.exit_code)
    except OSError as error:
        debugging.show_traceback(error)
        # Whatever no room foresaw, such as a name that is too long or a directory that can't be entered.
        refused = as_error(error, Path(os.fsdecode(error.filename or "a file")), doing="used")
        print(refused, file=sys.stderr)
        if as_json:
            print(json.dumps(refused.to_json(), indent=indent))
        sys.exit(refused.exit_code)
    except KeyboardInterrupt as error:
        debugging.show_traceback(error)
        print("\nInterrupted; nothing keeps running. The same command goes on from here.", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": "Interrupted", "exit_code": EXIT_INTERRUPTED}, indent=indent))
        sys.exit(EXIT_INTERRUPTED)


def _print(text: str) -> bool:
    """Prints it; a path that is no UTF-8 is shown escaped. False where the reader has left (`| head`): no error."""
    try:
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()
        return False
    except (OSError, ValueError) as error:  # a full disk, a closed descriptor
        print(f"The result can't be printed: {error}", file=sys.stderr)
        _silence_stdout()
        sys.exit(1)
    return True


def _silence_stdout() -> None:
    """Keeps Python from flushing what can't be written when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run_pytest(*, unit: bool, matching: str) -> None:
    """Becomes pytest."""
    os.chdir(PROJECT_ROOT)
    places = ["tests/unit"] if unit else ["tests"]
    words = [sys.executable, "-m", "pytest", *places, *(["-k", matching] if matching else [])]
    process.replace_this_process(words, env=os.environ)


def run_linters(*, fix: bool) -> None:
    """Runs them all and leaves with 1 if any found something."""
    from npu_serving import known_failures

    python = [sys.executable, "-m"]
    commands = [
        [*python, "ruff", "check", *(["--fix"] if fix else []), "."],
        [*python, "ruff", "format", *([] if fix else ["--check"]), "."],
        [*python, "mypy"],
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],  # the layers of pyproject.toml
    ]
    shellcheck = process.find_program("shellcheck")
    if shellcheck is not None:
        scripts = [str(path) for pattern in SHELL_SCRIPTS for path in sorted(PROJECT_ROOT.glob(pattern))]
        commands.append([str(shellcheck), "--external-sources", "--source-path=SCRIPTDIR", *scripts])
    elif os.environ.get("CI"):
        print(MissingToolError("There is no shellcheck.", cure="apt-get install shellcheck"), file=sys.stderr)
        sys.exit(EXIT_UNFIT_TOOL)
    else:
        print("shellcheck is not installed: the shell scripts are not checked.", file=sys.stderr)
    failed = False
    for command in commands:
        done = process.run(command, cwd=PROJECT_ROOT, check=False)
        failed |= done.returncode != 0
        if done.returncode != 0:
            print(done.output, end="")
    if fix:
        known_failures.write_page()
    elif not known_failures.page_is_current():
        print("docs/troubleshooting.md is not what the tables of known failures say: ./inv lint --fix")
        failed = True
    print("lint: something to mend" if failed else "lint: clean")
    sys.exit(1 if failed else 0)


def run_benchmarks(name: str) -> None:
    """Runs bench/NAME.py, or all of them one after the other."""
    known = {path.stem: path for path in sorted((PROJECT_ROOT / "bench").glob("[a-z]*.py"))}
    if name and name not in known:
        error = RequestError(f"There is no benchmark {name!r}.", cure=f"one of: {', '.join(known)}")
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    for path in [known[name]] if name else known.values():
        print(f"== {path.relative_to(PROJECT_ROOT)}", flush=True)
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
        done = process.run([sys.executable, path], cwd=PROJECT_ROOT, env=environment, check=False, on_line=_echo)
        if done.returncode != 0:
            sys.exit(done.returncode)


def _echo(line: str) -> None:
    print(line, flush=True)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal that means the same.

    A class of our own, because CPython remembers a plain KeyboardInterrupt that was raised within exec(), as in the
    making of a dataclass, and ends by SIGINT in the end even though it was handled.
    """


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


def seconds(text: str, flag: str) -> float:
    """The time in seconds that was given with `flag`: more than 0, and less than a day."""
    plain = text.replace(".", "", 1)
    value = float(text) if plain.isdecimal() and plain.isascii() else 0.0
    if not 0 < value < 86400:
        raise RequestError(f"{flag} must be a number of seconds, not {text!r}.", cure="give one such as 10 or 0.5")
    return value
