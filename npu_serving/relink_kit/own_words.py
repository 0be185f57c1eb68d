"""What a message says to type, in the words of a relink kit: the project is not there where a kit runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from npu_serving.writers.shell import command_line, shell_word

_OF_RELINK = ("--adapter", "--linker", "--install-link", "--dry-run")
_COMMANDS = {
    "rebuild-after-cann": ("relink", _OF_RELINK),
    "build-serving": ("relink", _OF_RELINK),
    "verify-serving": ("verify", ("--adapter",)),
    "rollback": ("rollback", ("--build", "--force", "--dry-run")),
}
"""What the kit's own command for a task is called, and the flags of the task that it takes, with their meaning."""
_MAKES = ("build-serving", "fetch-deps", "package", "rebuild-after-cann", "render-overlay")
"""What is done where the kit was made; the rest looks at the machine that it is typed on."""
_TASK = re.compile(r"\./inv ([a-z][a-z-]*)((?: (?:--[a-z][a-z-]*(?: (?!--)[^\s,;:()]+)?|[A-Z]{3,}\b|\{[0-9]\}))*)")
_FLAG = re.compile(r" (--[a-z][a-z-]*)")
_KIT = re.compile(r"\bpython3 [F]ILE\b")


@dataclass(frozen=True)
class OwnWords:
    """Turns messages into the kit's own words. `place` are the flags that the command that runs was given, which the
    next one needs as well: where the servers and CANN are.
    """

    kit_path: str
    place: Sequence[str] = ()

    def of(self, what: object) -> object:
        """A message, or JSON, with the kit's commands in place of the project's tasks; of a task that the kit does not
        have it says where that is typed.
        """
        if isinstance(what, dict):
            return {key: self.of(value) for key, value in what.items()}
        if isinstance(what, (list, tuple)):
            return [self.of(value) for value in what]
        if isinstance(what, str):
            return _TASK.sub(self._command, _KIT.sub(lambda _: f"python3 {shell_word(self.kit_path)}", what))
        return what

    def _command(self, found: re.Match[str]) -> str:
        task, typed = found.groups()
        own, flags = _COMMANDS.get(task, ("", ()))
        given = _FLAG.findall(typed)
        if own and all(flag in flags for flag in given):
            return f"{command_line(['python3', self.kit_path, own, *self.place])}{typed}"
        if task == "list-builds":
            at = self.place.index("--dist") + 1 if "--dist" in self.place else 0
            return command_line(["ls", self.place[at] if at else "dist"])
        where = "on the machine that made this kit" if task in _MAKES else "where npu-serving is installed"
        return f"{found[0]} ({where})"
