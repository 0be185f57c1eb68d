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


SUPPORTED_PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")


class Result(Protocol):
    """What a task's work returns. Where it isn't always 0, it has an `exit_code` as well."""

    def to_json(self) -> dict[str, object]:
        """For --json."""

    def text(self) -> str:
        """For a person."""


def answer(work: Callable[[Console], Result | None], *, as_json: bool) -> NoReturn:
    """Does the work, prints its result to standard output, and leaves with its exit code."""
    with errors_shown(as_json=as_json):
        result = work(Console())
        if result is not None:
            text = json.dumps(result.to_json(), indent=2, sort_keys=True) if as_json else result.text()
            _leave_at_once_when_interrupted(EXIT_INTERRUPTED, "Interrupted while the result was printed.")
            _print(text)
        code = int(getattr(result, "exit_code", 0))
        _leave_at_once_when_interrupted(code)
    sys.exit(code)


def answer_each(work: Callable[[Console], Iterator[Result]], *, as_json: bool) -> NoReturn:
    """Prints each result of the work when it comes, as one line, and leaves with the exit code of the last."""
    code = 0
    with errors_shown(as_json=as_json, indent=None):
        for result in work(Console()):
            code = int(getattr(result, "exit_code", 0))
            if not _print(json.dumps(result.to_json(), sort_keys=True) if as_json else result.text()):
                break  # nobody is reading any more
        _leave_at_once_when_interrupted(code)
    sys.exit(code)


@contextlib.contextmanager
def errors_shown(*, as_json: bool, indent: int | None = 2) -> Iterator[None]:
    """Ends the process with a message and an exit code where the block fails."""
    try:
        _interruptible()
        yield
    except NpuServingError as error:
        debugging.show_traceback(error)
        _show_error(error, as_json=as_json, indent=indent)
    except OSError as error:
        debugging.show_traceback(error)
        # Whatever was not expected elsewhere, such as a name that is too long or a directory that can't be entered.
        refused = as_error(error, Path(os.fsdecode(error.filename or "a file")), doing="used")
        _show_error(refused, as_json=as_json, indent=indent)
    except KeyboardInterrupt as error:
        _leave_at_once_when_interrupted(EXIT_INTERRUPTED)
        debugging.show_traceback(error)
        print("\nInterrupted; nothing keeps running. Run the same command again to continue.", file=sys.stderr)
        if as_json:
            print(json.dumps({"error": "Interrupted", "exit_code": EXIT_INTERRUPTED}, indent=indent))
        sys.exit(EXIT_INTERRUPTED)


def _show_error(error: NpuServingError, *, as_json: bool, indent: int | None) -> NoReturn:
    _leave_at_once_when_interrupted(error.exit_code)
    print(error, file=sys.stderr)
    if as_json:
        print(json.dumps(error.to_json(), indent=indent))
    sys.exit(error.exit_code)


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


def run_pytest(*, unit: bool, matching: str, long: bool, coverage: bool, seed: int | None) -> None:
    """Becomes pytest; with `coverage` it runs pytest, and leaves with its exit code when the lines that ran are listed.

    In CI, and with `seed`, the tests run in a random order, whose seed is shown.
    """
    os.chdir(PROJECT_ROOT)
    words = ["pytest", "tests/unit" if unit else "tests", *_workers(one_is_enough=bool(matching))]
    environment = dict(os.environ)
    if matching:
        words += ["-k", matching]
    else:
        words += ["--durations=30", "--durations-min=1"]
    if long:
        words += ["-m", "long"]
        environment["NPU_SERVING_TEST_TIER"] = "long"
    if seed is not None or os.environ.get("CI") == "true":
        words += ["-p", "randomly", *([f"--randomly-seed={seed}"] if seed is not None else [])]
    python = [sys.executable, "-m"]
    if not coverage:
        process.replace_this_process([*python, *words], env=environment)
    (PROJECT_ROOT / "build" / "coverage").mkdir(parents=True, exist_ok=True)
    process.run([*python, "coverage", "erase"], env=environment)  # what a run that was killed has left
    done = process.run([*python, "coverage", "run", "-m", *words], env=environment, check=False, on_line=_echo)
    for command in ("combine", "report"):
        process.run([*python, "coverage", command], env=environment, cure="see what pytest says above", on_line=_echo)
    sys.exit(done.returncode)


def _workers(*, one_is_enough: bool) -> list[str]:
    """pytest-xdist's flags for a worker on each processor; tests/conftest.py says which tests go together."""
    processors = len(os.sched_getaffinity(0))
    if one_is_enough or processors == 1:
        return []
    return ["-n", str(processors), "--dist", "loadscope", "--no-loadscope-reorder"]


def run_unit_tests_on_each_python() -> None:
    """Runs the unit tests on each supported Python that is here, and leaves with 1 if any failed."""
    outcomes = {}
    for version in SUPPORTED_PYTHONS:
        python = _python_of(version)
        if python is None:
            outcomes[version] = "is not on this machine"
            continue
        print(f"== Python {version}: {python}", flush=True)
        environment = {
            **os.environ,
            "NPU_SERVING_PYTHON": str(python),
            "NPU_SERVING_VENV": str(PROJECT_ROOT / "build" / "pythons" / version),
        }
        (PROJECT_ROOT / "build" / "pythons").mkdir(parents=True, exist_ok=True)
        command = [str(PROJECT_ROOT / "inv"), "test", "--unit"]
        done = process.run(command, env=environment, check=False, on_line=_echo)
        outcomes[version] = f"{'passed' if done.returncode == 0 else 'FAILED'} in {done.seconds:.0f} s, with {python}"
    for version, outcome in outcomes.items():
        print(f"Python {version} {outcome}")
    sys.exit(1 if any(outcome.startswith("FAILED") for outcome in outcomes.values()) else 0)


def _python_of(version: str) -> Path | None:
    """A Python of that version with which an environment can be made: on PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [process.find_program(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python3"))]
    asked = f"import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for python in candidates:
        if python is not None and process.run([python, "-I", "-c", asked], check=False).returncode == 0:
            return python
    return None


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
        print(MissingToolError("shellcheck is not installed.", cure="apt-get install shellcheck"), file=sys.stderr)
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
    print("lint: there is something to fix" if failed else "lint: clean")
    sys.exit(1 if failed else 0)


def run_benchmarks(name: str) -> None:
    """Runs bench/NAME.py, or all of them one after the other."""
    known = {path.stem: path for path in sorted((PROJECT_ROOT / "bench").glob("[a-z]*.py"))}
    if name and name not in known:
        error = RequestError(f"There is no benchmark {name!r}.", cure=f"choose one of {', '.join(known)}")
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


def _interruptible() -> None:
    """Has whatever is being done end with Interrupted when a signal comes that means so."""
    sys.unraisablehook = _interrupt_again
    for number in process.ENDING_SIGNALS:
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
