"""What ./inv runs: invoke on this project's tasks, with an exit code of 2 for a request that can't be understood.

Plain `invoke` does the same but for that: it leaves with 1, and shows a traceback for an invoke.yaml that is no YAML.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invoke.parser.context import ParserContext


def main() -> None:
    """Runs the tasks of the command line and leaves with their exit code."""
    signal.signal(signal.SIGINT, _interrupt)
    try:
        _run()
    except _Interrupted:
        print("\nInterrupted before anything was begun.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `./inv --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Interrupted(BaseException):
    """Ctrl-C before a task has begun: invoke would take a KeyboardInterrupt for a failure."""


def _interrupt(_number: int, _frame: object) -> None:
    raise _Interrupted


def _run() -> None:
    from invoke.exceptions import ParseError
    from invoke.program import Program

    class Tasks(Program):
        """invoke's own program; only the exit code of a misunderstood command line differs."""

        def parse_core(self, argv: list[str] | None) -> None:
            """The flags before the task."""
            with _misunderstood(ParseError):
                super().parse_core(argv)

        def parse_tasks(self) -> None:
            """The tasks and their flags."""
            with _misunderstood(ParseError):
                super().parse_tasks()
                missing = _flag_without_value(self.core.unparsed, self.tasks)
                if missing:
                    raise ParseError(f"Flag {missing} needs a value, and none was given.")

    sys.argv[1:] = _help_first(sys.argv[1:])
    try:
        Tasks(name="inv", binary="./inv", binary_names=["inv"]).run()
    except Exception:
        # invoke reads invoke.yaml before any task can; if that is at fault, our own reader says what is wrong with it.
        _check_settings()
        raise


def _help_first(words: list[str]) -> list[str]:
    """`TASK --help` as `--help TASK`: invoke would take --help for the value of a positional argument."""
    core = words[:2] if words[:1] == ["--search-root"] else []
    rest = words[len(core) :]
    if rest[:1] and not rest[0].startswith("-") and {"--help", "-h"} & set(rest[1:]):
        return [*core, "--help", rest[0]]
    return words


def _flag_without_value(words: list[str], tasks: list[ParserContext]) -> str:
    """The flag that may be given several times and stands there without its value; invoke leaves it out silently."""
    for task in tasks:
        for word, following in zip(words, [*words[1:], None]):
            repeatable = word in task.flags and task.flags[word].kind is list
            if repeatable and (following is None or following in task.flags):
                return word
    return ""


class _misunderstood:  # noqa: N801 - used like a function; contextlib would be one more import at every start
    def __init__(self, kind: type[Exception]) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, self._kind):
            print(f"{error}\nNext: ./inv --list shows the tasks, ./inv TASK --help the flags of one", file=sys.stderr)
            sys.exit(2)


def _check_settings() -> None:
    from npu_serving.errors import SettingsError
    from npu_serving.settings import load_settings

    try:
        load_settings()
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


main()
