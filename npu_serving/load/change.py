"""A command that is run in the middle of a load test: what the server's callers notice of a change."""

from __future__ import annotations

import os
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path

from npu_serving import fsutil, process
from npu_serving.errors import RequestError
from npu_serving.shown_text import masked_words
from npu_serving.writers.shell import command_line


class TimedChange:
    """One command, as it was typed: split into words, and started without a shell. Its output goes to a log."""

    def __init__(self, text: str, log: Path) -> None:
        """RequestError for a text that can't be split, or that has no word."""
        try:
            self._argv = shlex.split(text)
        except ValueError as error:
            raise RequestError(
                f"--during {text!r} can't be split into words ({error}).",
                cure="close its quotes; it is split as a shell would, and run without one",
            ) from error
        if not self._argv:
            raise RequestError("--during is empty.", cure="name a command: --during './inv reload NAME'")
        process.require_program(self._argv[0], cure="name a program that is there, by its path if it is not on PATH")
        self.name = command_line(masked_words(self._argv))
        self.log = log
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it was started."""
        return self._running is not None

    def begin(self, stack: ExitStack) -> None:
        """Starts it, in this directory and with this environment, until `stack` ends at the latest."""
        fsutil.make_directory(self.log.parent)
        self._running = stack.enter_context(process.running(self._argv, log_path=self.log, env=os.environ))

    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._running is not None and self._running.poll() is not None

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None before it has ended."""
        return self._running.returncode if self._running is not None else None

    @property
    def how_it_ended(self) -> str:
        """Such as `with status 1`, with a blank before it; "" for one that succeeded."""
        return f" with status {self.returncode}" if self.returncode else ""
