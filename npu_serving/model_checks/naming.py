"""The kinds of findings on models, and how a cure names a model: as a deployment does, or as a task's argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from npu_serving.findings import PROBLEM, Finding
from npu_serving.shown_text import in_a_line
from npu_serving.wire_bytes import MalformedMessageError
from npu_serving.writers.shell import command_line, shell_word

BASE_PATH, MODEL_DIRECTORY, MODEL_FILE = "base-path", "model-directory", "model-file"
TAGS, SIGNATURES, SECURITY = "tags", "signatures", "security"

_SHOWN = 5


@dataclass(frozen=True)
class Naming:
    """What a person types to name another directory, other tags, or no warm-up; each with the place it belongs to.

    `base_path` has {path} in it, and `tags` {tags}, or {flags} for a task's.
    """

    base_path: str
    base_path_at: str
    versions_at: str
    tags: str
    tags_at: str
    warm_up: str

    def other_path(self, path: Path) -> str:
        """The cure where that path was meant."""
        return self.base_path.format(path=shell_word(path) if self.base_path.startswith("./inv") else path)

    def other_version(self, number: int) -> str:
        """The cure where that version was meant."""
        return f"use --version {number}" if self.versions_at == "--version" else "write another version"

    def other_tags(self, tags: Sequence[str]) -> str:
        """The cure where these tags were meant."""
        flags = command_line([word for tag in tags for word in ("--tag", tag)])
        return self.tags.format(tags=in_a_line(", ".join(tags)), flags=flags)


def deployment_naming(where: str) -> Naming:
    """For the model of a deployment, such as models.0."""
    return Naming(
        "write base_path: {path}",
        f"{where}.base_path",
        f"{where}.versions",
        "write server.saved_model_tags: [{tags}], or export it again",
        "server.saved_model_tags",
        "record it again, or set server.warm_up: false",
    )


def task_naming(model: Path) -> Naming:
    """For a model that was given to a task by its path."""
    return Naming(
        "./inv check-model {path}",
        str(model),
        "--version",
        "give {flags}, or export it again",
        "--tag",
        "record it again: ./inv write-warmup MODEL --request FILE --force",
    )


def conversion_of(directory: Path) -> str:
    """The command that writes the model of a version directory again, as TensorFlow 1.15.0 takes it."""
    base = directory.parent
    return f"./inv convert-pb {shell_word(directory)} --output {shell_word(base.with_name(base.name + '-converted'))}"


def damaged(file: Path, error: MalformedMessageError) -> Finding:
    """The finding on a part of a file that is read only where a rule needs it."""
    return Finding(f"{file} is damaged: {error}.", "copy or export the model again", PROBLEM, MODEL_FILE, str(file))


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
