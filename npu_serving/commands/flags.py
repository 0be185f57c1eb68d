"""`command`: a function as a task, with the flags of the settings it takes and the way from its result to the screen.

Nothing heavy is imported up here or in the modules beside it, so that `--list` costs no more than invoke itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from invoke.tasks import Task

from npu_serving.settings import WITHOUT_ADAPTER, Settings, load_table, table_of, user_path, was_given, whole_number

if TYPE_CHECKING:
    from invoke.parser.argument import Argument

    from npu_serving.console import Console

NEEDS_ADAPTER = (
    "verify-serving", "rebuild-after-cann", "serve", "warm-cache", "check-deployment", "render-deployment"
)  # fmt: skip
"""Tasks for which --adapter none says nothing."""
MOST_SECONDS = 86400  # of a wait: a day

Command = TypeVar("Command", bound=Callable[..., Any])

SHARED_HELP = {
    "build": "a build that list-builds shows; the current one by default",
    "json": "print one JSON document",
    "dry_run": "print the plan and change nothing",
}

OFFERED: dict[str, tuple[str, ...]] = {}
"""The settings that each task takes as flags, by the task's name."""
REPEATED = ("build", "deployment", "overlay", "server", "set", "toolchains", "url", "version")
"""The flags of their own that tasks share, and that a next step has to repeat to mean the same."""
TAKEN: dict[str, tuple[str, ...]] = {}
"""All flags that a next step may repeat, by the task's name, without dashes."""


@dataclass(frozen=True)
class Call:
    """What a command gets besides its own flags."""

    console: Console
    given: Mapping[str, Any]
    """The flags of settings that were given, by the setting's name."""
    table: type[Any] = Settings

    @cached_property
    def settings(self) -> Settings:
        """invoke.yaml's settings overridden by the flags; SettingsError for values of the wrong kind."""
        return load_table(self.table, self.given)  # type: ignore[no-any-return]


def command(
    *,
    settings: Sequence[str] = (),
    help: Mapping[str, str] | None = None,
    kinds: Mapping[str, type] | None = None,
    json: bool = True,
    lines_with: str = "",
    optional: Sequence[str] = (),
    short: Mapping[str, str] | None = None,
    chosen_by: Sequence[str] = (),
    aliases: Sequence[str] = (),
    table: type[Any] = Settings,
) -> Callable[[Command], Task[Command]]:
    """Makes a task of `function(call, *, its own flags)`, which returns a result to print, or None.

    `settings` names settings, or groups of them, that the task takes as flags. A flag's own kind is that of its
    default, or stands in `kinds` where the default is None: int, or Path. `help` has the help of the task's own flags,
    and may say more of a setting's. With the flag `lines_with` the result is an iterator, printed a line at a time.
    `optional` names parameters that have a default and are typed as arguments all the same, without a flag. `short` has
    a letter for a flag that everybody expects to have one. `chosen_by` names flags by which a person chooses what
    the task is about: a next step names that itself, and they are not repeated in it. `aliases` are other names.
    """

    def task_of(function: Command) -> Task[Command]:
        own = list(inspect.signature(function).parameters.values())[1:]
        rows = [row for row in table_of(table).values() if row.name in settings or row.group in settings]
        wanted_kinds = {**{item.name: type(item.default) for item in own}, **(kinds or {})}

        def body(_context: object, **words: Any) -> None:
            as_json = words.pop("json", False)
            given = {row.name: words[row.parameter] for row in rows if was_given(words[row.parameter])}
            flags = {item.name: words[item.name] for item in own}

            def work(console: Console) -> Any:
                _refuse_without_adapter(task.name, given)
                converted = {
                    name: _converted(value, wanted_kinds[name], _flag(name))
                    for name, value in flags.items()
                    if value is not None and value != []
                }
                return function(Call(console, given, table), **converted)

            typed = {row.flag: given[row.name] for row in rows if row.name in given}
            typed |= {name: flags[name] for name in REPEATED if flags.get(name)}
            _answer(work, as_json=as_json, by_line=bool(lines_with and flags[lines_with]), typed=typed)

        body.__doc__, body.__name__, body.__module__ = function.__doc__, function.__name__, function.__module__
        body.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY),
                *(_parameter(item.name, _default(item, optional)) for item in own),
                *(_parameter(row.parameter, False if row.kind is bool else None) for row in rows),
                *([_parameter("json", False)] if json else []),
            ]
        )
        names = {item.name for item in own} | ({"json"} if json else set())
        said = {
            **{row.parameter: row.flag_help for row in rows},
            **{name: text for name, text in SHARED_HELP.items() if name in names},
            **(help or {}),
        }
        task: _Task[Command] = _Task(
            body,
            name=function.__name__.replace("_", "-"),
            help=said,
            aliases=tuple(aliases),
            iterable=[
                *(item.name for item in own if item.default == ()),
                *(row.parameter for row in rows if row.kind is tuple),
            ],
            auto_shortflags=False,
        )
        task.may_lack = tuple(optional)
        task.short = dict(short or {})
        OFFERED[task.name] = tuple(row.name for row in rows)
        repeated = (item.name for item in own if item.name in REPEATED and item.name not in chosen_by)
        TAKEN[task.name] = (*(row.flag for row in rows), *repeated)
        return task

    return task_of


def _refuse_without_adapter(task: str, given: Mapping[str, Any]) -> None:
    if task in NEEDS_ADAPTER and given.get("adapter") == WITHOUT_ADAPTER:
        from npu_serving.errors import RequestError

        raise RequestError(
            f"{task} has no use for --adapter none.",
            cause="it works on a server that was built already; only a task that builds one can do without an adapter",
            cure="leave --adapter out: a build that was linked without one is known by its manifest",
        )


class _Task(Task[Command]):
    may_lack: tuple[str, ...] = ()
    """The arguments that may be left out: invoke has no such thing, so __main__.py gives them, as ""."""
    short: Mapping[str, str] = {}

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """The flags, with their help each time: invoke takes it out of `help` while it reads it."""
        kept = dict(self.help)
        try:
            arguments = super().get_arguments(ignore_unknown_help)
            for argument in arguments:
                argument.names = (*argument.names, *self.short.get(argument.name or "", ""))
            return arguments
        finally:
            self.help = kept


def _parameter(name: str, default: object) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)


def _default(item: inspect.Parameter, optional: Sequence[str]) -> object:
    """What invoke is to know: it would convert what was typed to the kind of a default, which is done here."""
    if item.name in optional:
        return inspect.Parameter.empty
    return item.default if item.default is inspect.Parameter.empty or isinstance(item.default, bool) else None


def _converted(value: Any, kind: type, flag: str) -> Any:
    if kind is int:
        return whole_number(value, flag)
    if kind is Path:
        return user_path(value, flag)
    return tuple(value) if kind is tuple else value


def _flag(parameter: str) -> str:
    return "--" + parameter.strip("_").replace("_", "-")


def _answer(work: Callable[[Console], Any], *, as_json: bool, by_line: bool, typed: Mapping[str, Any]) -> None:
    from npu_serving.cli import answer, answer_each
    from npu_serving.repeated_flags import RepeatedFlags

    repeated = RepeatedFlags(typed, TAKEN)

    def checked(console: Console) -> Any:
        repeated.refuse_hidden()
        return work(console)

    if by_line:
        answer_each(checked, as_json=as_json, repeated=repeated)
    answer(checked, as_json=as_json, repeated=repeated)


def refuse_together(flag: str, because: str, /, **others: object) -> None:
    """RequestError for those of the other flags that were given, by name, where `flag` leaves them without effect."""
    from npu_serving.errors import RequestError

    given = " and ".join(_flag(name) for name, value in others.items() if value)
    if given:
        raise RequestError(f"{given} would have no effect with {flag}.", cause=because, cure=f"leave out {given}")


def check_timeout(seconds: int) -> None:
    """RequestError for a --timeout below a second or above a day."""
    from npu_serving.errors import RequestError

    if not 0 < seconds <= MOST_SECONDS:
        raise RequestError(
            f"--timeout can't be {seconds}.",
            cause="it is a number of seconds",
            cure=f"use one from 1 to {MOST_SECONDS}",
        )
