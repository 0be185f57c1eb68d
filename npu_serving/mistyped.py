"""The message for an invalid command line: what is wrong with it, and the nearest valid task or flag."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from invoke.parser.context import ParserContext

OF_EACH_TASK = ("--help", "--debug")
BEFORE_A_TASK = (*OF_EACH_TASK, "--list", "--version", "--print-completion-script")

_OF_THE_GUIDE = {("convert-om", "--input-path"): "MODEL --output DIRECTORY/NAME"}
"""Flags of the guide's scripts (table 6-5) for which a task has an argument: what is typed instead."""

# invoke's own messages (invoke/parser/parser.py, invoke/program.py): only their text says which word is wrong.
_UNKNOWN = re.compile(r"No idea what (?P<word>.*) is!", re.DOTALL)
_NEEDS_VALUE = re.compile(r"Flag <Argument: (?P<name>[\w-]+).* needed value and was not given one!")
_NEEDS_POSITIONAL = re.compile(r"'.*' did not receive required positional arguments: (?P<names>.*)")
_SEVERAL_TASKS = re.compile(r"One task at a time: (?P<tasks>.*)")
_NO_NUMBER = re.compile(r"invalid literal for int\(\) with base 10: (?P<value>.*)", re.DOTALL)


def explanation(error: Exception, core: ParserContext, tasks: Sequence[str]) -> RequestError:
    """The error to show for one of invoke's; `core` has the flags that stand before a task."""
    context: ParserContext = getattr(error, "context", None) or core
    task = context.name or ""
    help_of_task = f"./inv {task} --help" if task else "./inv --help"
    unknown = _UNKNOWN.fullmatch(str(error))
    if unknown:
        flags = [*context.flags, *context.inverse_flags, *OF_EACH_TASK] if task else BEFORE_A_TASK
        swallowed = _flag_taken_for_an_argument(context)
        if swallowed is not None:
            return swallowed
        return _unknown(_unquoted(unknown["word"]), task, flags, tasks)
    needs_value = _NEEDS_VALUE.fullmatch(str(error))
    if needs_value:
        return RequestError(f"{_flag(needs_value['name'])} needs a value.", cure=help_of_task)
    needs_positional = _NEEDS_POSITIONAL.fullmatch(str(error))
    if needs_positional:
        names = " ".join(re.findall(r"'([^']*)'", needs_positional["names"])).upper()
        return RequestError(f"{task} needs {names}.", cure=f"./inv {task} {names}")
    no_number = _NO_NUMBER.fullmatch(str(error))
    if no_number:
        return RequestError(f"{no_number['value']} is not a whole number.", cure=help_of_task)
    several = _SEVERAL_TASKS.fullmatch(str(error))
    if several:
        words = several["tasks"].split()
        return RequestError(
            f"{' and '.join(words)} cannot be combined: one call runs one task.", cure=f"./inv {words[0]}"
        )
    return RequestError(f"The command line is not valid ({error}).", cure=help_of_task)


def _flag_taken_for_an_argument(context: ParserContext) -> RequestError | None:
    """What to say where invoke took an unknown flag for the task's argument, and complains of the word after it."""
    for argument in context.positional_args:
        word = str(argument.value)
        if word.startswith("--"):
            instead = _OF_THE_GUIDE.get((context.name or "", word.partition("=")[0].replace("_", "-")))
            near = (
                [instead] if instead else difflib.get_close_matches(word, [*context.flags, *context.inverse_flags], n=1)
            )
            usual = " ".join(str(each.name).strip("_").upper() for each in context.positional_args)
            cure = f"./inv {context.name} {near[0] if near else usual}"
            return RequestError(f"{context.name} has no flag {word}.", cure=cure)
    return None


def _unknown(word: str, task: str, flags: Iterable[str], tasks: Sequence[str]) -> RequestError:
    before = f"./inv {task} " if task else "./inv "
    if word.startswith("-"):
        instead = _OF_THE_GUIDE.get((task, word.partition("=")[0].replace("_", "-")))
        near = [instead] if instead else difflib.get_close_matches(word, [flag for flag in flags if flag != word], n=1)
        who = task or "./inv"
        return RequestError(f"{who} has no flag {word}.", cure=f"{before}{near[0]}" if near else f"{before}--help")
    near = _nearest_tasks(word, tasks)
    if task and not near:
        return RequestError(
            f"{task} does not take {word!r}, and there is no task of that name.", cure=f"{before}--help"
        )
    cure = " or ".join(f"./inv {name}" for name in near) or "./inv --list"
    return RequestError(f"There is no task {word!r}.", cure=cure)


def _nearest_tasks(word: str, tasks: Sequence[str]) -> list[str]:
    """Up to three: those that begin with the word, else those it is a part of, else the one it is nearly."""
    beginning = [name for name in tasks if name.startswith(f"{word}-")]
    containing = [name for name in tasks if word in name.split("-")]
    # Below this likeness it is another word: `run` does not mean `prune`, nor `start` `status`.
    return (beginning or containing or difflib.get_close_matches(word, tasks, n=1, cutoff=0.76))[:3]


def _unquoted(word: str) -> str:
    """The word that invoke quotes, as Python does in one place and with '...' in another."""
    try:
        return str(ast.literal_eval(word))
    except (SyntaxError, ValueError):
        return word[1:-1]


def _flag(name: str) -> str:
    return ("--" if len(name) > 1 else "-") + name.strip("_").replace("_", "-")
