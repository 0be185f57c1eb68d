"""Failures that are known: what a program prints, the likely cause, and what to type next; and the page made of them.

Each package that reads what such a program prints has its table, known_failures.yaml. docs/troubleshooting.md is made
of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from npu_serving import fsutil
from npu_serving.documents import Rule, read_document
from npu_serving.settings import PROJECT_ROOT
from npu_serving.writers.shell import shell_word

_PACKAGE = Path(__file__).parent
BUILDING = _PACKAGE / "building" / "known_failures.yaml"
LINKING = _PACKAGE / "linking" / "known_failures.yaml"
IMAGES = _PACKAGE / "images" / "known_failures.yaml"
SERVING = _PACKAGE / "serving" / "known_failures.yaml"
ENDINGS = _PACKAGE / "serving" / "known_endings.yaml"
CLIENT = _PACKAGE / "asking" / "known_failures.yaml"
OPTIONS = _PACKAGE / "options" / "known_failures.yaml"
CANN = _PACKAGE / "cann" / "known_failures.yaml"
DOCTOR = _PACKAGE / "doctor" / "known_failures.yaml"
COMPILERS = _PACKAGE / "conversion" / "known_failures.yaml"
SECTIONS = (
    (BUILDING, "Building the server", "What Bazel prints when `./inv build-serving` fails."),
    (
        LINKING,
        "Linking the server again",
        "What gcc and the linker print when a link fails that is done without Bazel.",
    ),
    (IMAGES, "Making the toolchain image", "What the Docker engine prints when `./inv build-image` fails."),
    (
        SERVING,
        "Starting a server",
        "What `tensorflow_model_server` or the dynamic loader prints when it does not start.",
    ),
    (ENDINGS, "A server that was killed", "What `./inv serve` and `./inv smoke` say of a server that a signal ended."),
    (
        OPTIONS,
        "TF Adapter and its options",
        "What the adapter prints when a graph is first run on the NPU.",
    ),
    (CANN, "CANN", "What CANN and the adapter print when the NPU is opened, a graph is compiled, or run."),
    (COMPILERS, "Compiling an om", "What CANN's `atc` and `aoe` print when `./inv convert-om` fails."),
    (
        DOCTOR,
        "The driver's tool",
        "What `npu-smi info` prints where it fails, as `./inv doctor --for serving` asks it.",
    ),
)
PAGE = PROJECT_ROOT / "docs" / "troubleshooting.md"

_BEGINNING = """\
# Troubleshooting

Every error of this project says what happened, the likely cause and what to type next. This page lists the failures of
other programs that it recognises in what they print. `./inv lint --fix` makes it of the tables `known_failures.yaml`;
to add a failure, add it there.

If yours is not here: `./inv doctor` looks at this machine, `./inv cann-info` at what is installed of CANN, and
`./inv verify-serving` at the server. Whoever helps you needs what `./inv support-bundle` puts into one file.

Python itself fails on a [relink kit](relink-kit.md) that was cut short: with a `SyntaxError`, or, on an empty one,
silently and with status 0. Copy the kit and its `.sha256` again, and type `sha256sum -c FILE.sha256`."""
_TABLE_HEAD = "| What is printed | Likely cause | Next |\n| --- | --- | --- |"
_GROUP = re.compile("{([0-9])}")
_UNKNOWN = "it"  # what a group of the pattern that matched nothing is called


def _pattern_rule(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        return f"must be a regular expression of Python's; it isn't from character {(error.pos or 0) + 1} on"
    return ""


@dataclass(frozen=True)
class KnownFailure:
    """A row of such a table. `{1}`, `{2}` in `cause` and `cure` are what the groups of `pattern` matched."""

    id: str
    pattern: Annotated[str, Rule(check=_pattern_rule)]
    """A regular expression that is searched in what the program printed."""
    example: str
    """What it prints, for the page of known failures."""
    cause: str
    cure: str

    def problems(self) -> Iterator[tuple[str, str]]:
        """What the reader of documents asks: whether the fields fit together."""
        if re.search(self.pattern, self.example) is None:
            yield "example", "does not match the pattern"
        groups = re.compile(self.pattern).groups
        for name in ("cause", "cure"):
            for used in _GROUP.findall(getattr(self, name)):
                if not 1 <= int(used) <= groups:
                    yield name, f"{{{used}}} is not a group of the pattern, which has {groups}"

    def diagnosis(self, output: str) -> Diagnosis | None:
        """What it says about that output; None where the pattern is not in it."""
        found = re.search(self.pattern, output)
        if found is None:
            return None
        cause = _GROUP.sub(lambda used: found[int(used[1])] or _UNKNOWN, self.cause)
        cure = _GROUP.sub(lambda used: shell_word(found[int(used[1])] or _UNKNOWN), self.cure)  # for its commands
        return Diagnosis(self.id, cause, cure)


@dataclass(frozen=True)
class Diagnosis:
    """The failure that an output shows: its id in the table, the likely cause, and what to type next."""

    id: str
    cause: str
    cure: str


def read_known_failures(table: Path) -> tuple[KnownFailure, ...]:
    """The rows of a table, in the order in which they are looked for."""
    return read_document(table, tuple[KnownFailure, ...])


def diagnose(table: Path, output: str) -> Diagnosis | None:
    """The first failure of that table that `output` shows, or None."""
    found = (failure.diagnosis(output) for failure in read_known_failures(table))
    return next((diagnosis for diagnosis in found if diagnosis is not None), None)


def render_page() -> str:
    """docs/troubleshooting.md: every known failure of every table."""
    parts = [_BEGINNING]
    for table, title, about in SECTIONS:
        rows = [_row(failure) for failure in read_known_failures(table)]
        parts += [f"## {title}", about, "\n".join([_TABLE_HEAD, *rows])]
    return "\n\n".join(parts) + "\n"


def page_is_current() -> bool:
    """Whether the page says what the tables do."""
    return PAGE.is_file() and fsutil.read_text(PAGE) == render_page()


def write_page() -> bool:
    """Writes the page; True if that changed it."""
    return fsutil.write_file(PAGE, render_page())


def _row(failure: KnownFailure) -> str:
    """A row of a table of GitHub's Markdown."""
    shown = failure.diagnosis(failure.example)
    cause, cure = (shown.cause, shown.cure) if shown is not None else (failure.cause, failure.cure)
    printed = "<br>".join(_code(line.strip()) for line in failure.example.splitlines())
    return f"| {printed} | {_cell(cause)} | {_cell(cure)} |"


def _code(text: str) -> str:
    """The text as it is, within as many backticks as it takes."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if len(fence) > 1 else ""
    return f"{fence}{space}{_cell(text)}{space}{fence}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
