"""What ./inv runs: invoke on this project's tasks, with an exit code of 2 for an invalid command line.

Plain `invoke` does the same but for that, --version, --debug and the completion: it leaves with 1 there, and shows a
traceback for an invoke.yaml that is not YAML.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from invoke.collection import Collection
    from invoke.exceptions import ParseError
    from invoke.parser.argument import Argument
    from invoke.parser.context import ParserContext

DEBUG_HELP = "Show where each error came from, and every program that is started, with its environment and its time."


NOT_OURS = (
    "collection",
    "command-timeout",
    "config",
    "dry",
    "echo",
    "hide",
    "list-depth",
    "list-format",
    "no-dedupe",
    "prompt-for-sudo-password",
    "pty",
    "warn-only",
    "write-pyc",
)
"""Flags of invoke's that no task of ours heeds."""


def main() -> None:
    """Runs the tasks of the command line and leaves with their exit code."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, _interrupted)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # `inv` blocks it until it can be answered: that is now
    gc.set_threshold(50_000, 20, 100)  # a graph's nodes stay to the end: to look at them often is a fifth of the time
    try:
        _run()
    except SystemExit as ending:
        if isinstance(ending.__context__, KeyboardInterrupt) and ending.code == 1:  # invoke's word for it
            sys.exit(130)
        raise
    except BrokenPipeError:  # `./inv --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ModuleNotFoundError as error:
        _environment_lacks(error)


def _environment_lacks(error: ModuleNotFoundError) -> None:
    """Ends with a message where a package of the environment is gone, and has the next call install it again."""
    from importlib.util import find_spec

    package = (error.name or "").partition(".")[0]
    if not package or package in ("npu_serving", "tasks"):
        raise error
    try:
        is_there = find_spec(error.name or "") is not None
    except ModuleNotFoundError:  # a package that is there, and lacks the module still
        is_there = False
    if is_there:
        raise error
    cure = "run the same command again: ./inv installs what is missing"
    try:
        for name in os.listdir(sys.prefix):
            if name.startswith(
                "installed-requirements"
            ):  # what `inv` looks at; it reinstalls what is called unfinished
                os.chdir(sys.prefix)
                os.replace(name, name.replace("installed", "unfinished"))
    except OSError:  # an environment that somebody else has made for all
        cure = (
            "have its owner run the same command, or have an environment of your own: export NPU_SERVING_VENV=DIRECTORY"
        )
    print(f"The Python package {error.name} is missing in {sys.prefix}.\nNext: {cure}", file=sys.stderr)
    sys.exit(4)


def _interrupted(_number: int, _frame: object) -> None:
    """Ctrl-C before a task has begun: nothing is to be cleared away, and an exception could get lost in an import."""
    os.write(2, b"\nInterrupted before anything was begun.\n")
    os._exit(130)


_OF_INVOKE: dict[str, dict[str, object]] = {
    "unittest.mock": {"Mock": None},
    "importlib.metadata": {"version": lambda _name: ""},
}
"""What invoke imports for the tests of tasks and for its own version, with the names that it looks for there. With all
that those import, such as asyncio and email, they are a fifth of a short command.
"""


def _import_invoke() -> None:
    """Imports invoke without the modules that none of our tasks needs; whoever needs one gets the real one later."""
    instead = {name: values for name, values in _OF_INVOKE.items() if name not in sys.modules}
    for name, values in instead.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(values)
    try:
        import invoke  # noqa: F401
    finally:
        for name in instead:
            del sys.modules[name]


def _run() -> None:
    _import_invoke()
    from invoke.config import Config
    from invoke.exceptions import ParseError
    from invoke.parser import Parser
    from invoke.program import Program

    class ProjectConfig(Config):
        """invoke's configuration without ~/.invoke.* and /etc/invoke.*: nothing in them is for these tasks."""

        def load_base_conf_files(self) -> None:
            """Reads none of them."""

    class Tasks(Program):
        """invoke's own program; an invalid command line, --version, --debug and --complete are handled here."""

        def core_args(self) -> list[Argument]:
            """The flags before the task."""
            arguments = super().core_args()
            for argument in arguments:
                if argument.name == "debug":
                    argument.help = DEBUG_HELP
            return arguments

        def parse_core_args(self) -> None:
            """Them, read; --debug is taken out, as invoke would show its own work."""
            with _invalid_command_line(ParseError, self.initial_context):
                super().parse_core_args()
                self._refuse_what_does_nothing()
            self._take_debug()
            shell = self.args["print-completion-script"].value
            if shell:
                from npu_serving.completion import print_script

                sys.exit(print_script(shell))

        def parse_core(self, argv: list[str] | None) -> None:
            """What is to be done for them at once."""
            with _invalid_command_line(ParseError, self.initial_context):
                super().parse_core(argv)

        def parse_tasks(self) -> None:
            """The tasks and their flags."""
            with _invalid_command_line(ParseError, self.initial_context, self.collection.task_names):
                self._parse_with_what_is_left_out()
                self._take_debug()
                self._refuse_what_does_nothing()
                missing = _flag_without_value(self.core.unparsed, self.tasks)
                if missing:
                    name = missing[1].lstrip("-")
                    raise ParseError(f"Flag <Argument: {name}> needed value and was not given one!", missing[0])

        def _make_parser(self) -> Parser:
            """One that looks at the flags of the tasks that are asked for: those of all take longer than many tasks."""
            parser = Parser(initial=self.initial_context)
            parser.contexts = _Contexts(self.collection)  # type: ignore[assignment]
            return parser

        def _parse_with_what_is_left_out(self) -> None:
            """The tasks; an argument that may be left out is given as "", since invoke knows no such arguments."""
            try:
                super().parse_tasks()
            except ParseError as error:
                if error.context is None or "did not receive required positional arguments" not in str(error):
                    raise
                missing = [str(argument.name) for argument in error.context.missing_positional_args]
                if not set(missing) <= set(self._optional(error.context)):
                    raise
                self.core.unparsed.extend(f"--{name}=" for name in missing)
                super().parse_tasks()

        def _optional(self, task: ParserContext) -> tuple[str, ...]:
            """The arguments of the task that may be left out (commands/flags.py)."""
            return getattr(self.collection[task.name], "may_lack", ())

        def print_help(self) -> None:
            """The flags before the task, but for those of invoke's that do nothing here."""
            print("Usage: ./inv [--debug] TASK [--flag ...]\n\nFlags before the task:\n")
            shown = {
                name
                for name in self.initial_context.args
                if name not in NOT_OURS and name not in ("complete", "search-root")
            }
            rows = [
                self.initial_context.help_for(name)
                for name in self.initial_context.flag_names()
                if name.lstrip("-") in shown
            ]
            self.print_columns(rows)
            print("The tasks: ./inv --list. The flags of one: ./inv TASK --help.")

        def _refuse_what_does_nothing(self) -> None:
            """Invoke's own flags for what no task here does: taken in silence, `--dry` would run the task."""
            tasks: list[ParserContext] = list(getattr(self, "tasks", ()))
            for name in NOT_OURS:
                if self.args[name].value != self.args[name].default:
                    raise ParseError(f"No idea what '--{name}' is!", tasks[0] if tasks else self.initial_context)
            if isinstance(self.args.list.value, str):
                raise ParseError(f"No idea what {self.args.list.value!r} is!", self.initial_context)
            if len(tasks) > 1:
                raise ParseError(f"One task at a time: {' '.join(str(task.name) for task in tasks)}", tasks[0])
            for task in tasks:
                for argument in task.positional_args:
                    if not str(argument.value).startswith("--"):
                        continue
                    # a flag, where the argument should have been
                    lacking = f"'' did not receive required positional arguments: {argument.name!r}"
                    may_lack = argument.name in self._optional(task)
                    raise ParseError(f"No idea what {argument.value!r} is!" if may_lack else lacking, task)

        def parse_cleanup(self) -> None:
            """What is to be done instead of a task."""
            if self.args.complete.value:
                from npu_serving.completion import candidates

                words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
                sys.stdout.writelines(f"{word}\n" for word in candidates(words, self.initial_context, self.parser))
                sys.exit(0)
            with _invalid_command_line(ParseError, self.initial_context, self.collection.task_names):
                super().parse_cleanup()

        def print_version(self) -> None:
            """The project's version, the commit, and what it builds."""
            from npu_serving.version import version_text

            print(version_text())

        def _take_debug(self) -> None:
            if self.args.debug.value:
                from npu_serving import debugging

                debugging.switch_on()
                self.args.debug.set_value(False, cast=False)

    sys.argv[1:] = _help_first(sys.argv[1:])
    try:
        Tasks(name="inv", binary="./inv", binary_names=["inv"], config_class=ProjectConfig).run()
    except Exception:
        # invoke reads invoke.yaml before any task can; if that is at fault, our own reader says what is wrong with it.
        _check_settings()
        raise


class _Contexts(Mapping[str, "ParserContext"]):
    """The tasks as invoke's parser knows them, by name and alias, each made when it is asked for."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self._names = {alias: name for name, aliases in collection.task_names.items() for alias in (name, *aliases)}
        self._made: dict[str, ParserContext] = {}

    def __getitem__(self, word: str) -> ParserContext:
        from invoke.parser.context import ParserContext

        name = self._names[word]
        if name not in self._made:
            aliases, arguments = self._collection.task_names[name], self._collection[name].get_arguments()
            self._made[name] = ParserContext(name=name, aliases=aliases, args=arguments)
        return self._made[name]

    def __contains__(self, word: object) -> bool:
        return word in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._collection.task_names)

    def __len__(self) -> int:
        return len(self._collection.task_names)

    def __deepcopy__(self, _memo: object) -> _Contexts:
        return self  # the parser copies the one that it goes on with


def _help_first(words: list[str]) -> list[str]:
    """`TASK --help` as `--help TASK`: invoke would take --help for the value of a positional argument."""
    core = words[:2] if words[:1] == ["--search-root"] else []
    while words[len(core) : len(core) + 1] in (["--debug"], ["-d"]):
        core = words[: len(core) + 1]
    rest = words[len(core) :]
    if rest[:1] and not rest[0].startswith("-") and {"--help", "-h"} & set(rest[1:]):
        return [*core, "--help", rest[0]]
    return words


def _flag_without_value(words: list[str], tasks: list[ParserContext]) -> tuple[ParserContext, str] | None:
    """The flag that may be given several times and is written without its value; invoke leaves it out silently."""
    for task in tasks:
        for word, following in zip(words, [*words[1:], None]):
            repeatable = word in task.flags and task.flags[word].kind is list
            if repeatable and (following is None or following in task.flags):
                return task, word
    return None


class _invalid_command_line:  # noqa: N801 - used like a function; contextlib would be one more import at every start
    """Ends the process with a message and exit code 2 where the command line is invalid."""

    def __init__(self, kind: type[ParseError], core: ParserContext, tasks: Iterable[str] = ()) -> None:
        self._kind = kind
        self._core = core
        self._tasks = tasks

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        no_number = isinstance(error, ValueError) and "invalid literal for int()" in str(error)  # --list-depth x
        if isinstance(error, self._kind) or no_number:
            from npu_serving.mistyped import explanation
            from npu_serving.shown_text import fit_to_show

            assert isinstance(error, Exception)
            print(fit_to_show(str(explanation(error, self._core, list(self._tasks)))), file=sys.stderr)
            sys.exit(2)


def _check_settings() -> None:
    """Ends with a message where the project's configuration file is at fault."""
    from npu_serving.errors import NpuServingError
    from npu_serving.settings import load_settings
    from npu_serving.shown_text import fit_to_show

    try:
        load_settings()
    except NpuServingError as trouble:
        print(fit_to_show(str(trouble)), file=sys.stderr)
        sys.exit(trouble.exit_code)


main()
