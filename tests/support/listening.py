"""A reporter that says nothing, and keeps what it would have said."""

from __future__ import annotations

from npu_serving.console import Silent


class Listening(Silent):
    """`said` has the notes and the warnings, in their order."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)
        self.said.append(text)
