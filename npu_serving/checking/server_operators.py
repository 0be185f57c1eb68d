"""The operators that a server knows, as far as their names stand in its file: one that is missing keeps a model out.

A server says so only when it loads the model: Op type not registered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from npu_serving.deploy.model_checks import CheckedModel
from npu_serving.elf.constants import constants_of
from npu_serving.findings import WARNING, Finding
from npu_serving.model_checks.operators import UNKNOWN_OPERATOR
from npu_serving.shown_text import in_a_line

KIND = "unregistered-operator"
_IN_EVERY_SERVER = ("Placeholder", "Const", "Identity")


def with_server_operators(
    findings: Sequence[Finding], files: Iterable[Path], models: Sequence[CheckedModel]
) -> list[Finding]:
    """The findings on models, with those on operators judged by what the server of these files has.

    An operator that TensorFlow 1.15.0 does not know does not matter to a server into which it is linked; what is found
    to be unknown is not said twice. Raises ElfError and FileAccessError for files that can't be read.
    """
    files = list(files)
    unknown = {finding.found for finding in findings if finding.kind == UNKNOWN_OPERATOR}
    missing = _missing_among(files, unknown) if unknown else None
    kept = [
        finding
        for finding in findings
        if finding.kind != UNKNOWN_OPERATOR or missing is None or finding.found in missing
    ]
    said = {finding.found for finding in kept if finding.kind == UNKNOWN_OPERATOR}
    return kept + [each for each in operators_missing(files, models) if each.found not in said]


def operators_missing(files: Iterable[Path], models: Sequence[CheckedModel]) -> Iterator[Finding]:
    """The operators of each model that stand in none of these files: the server, and the adapter within it.

    Nothing for a server whose names can't be read, such as a stripped one. A name that is put together when the server
    starts (of TensorFlow's 1,400 operators, 35 for TPUs) is missing too, so that this is never more than a warning.
    Raises ElfError and FileAccessError for files that can't be read.
    """
    wanted = {
        name
        for model in models
        for version in model.versions
        if version.graph is not None
        for name in version.graph.graph.registered_operators()
    }
    missing = _missing_among(files, wanted) if wanted else None
    if missing is None:
        return
    for model in models:
        for version in model.versions:
            if version.graph is None:
                continue
            for name in sorted(missing & set(version.graph.graph.registered_operators())):
                of_model = f"{in_a_line(name)} of {model.name}, version {version.number}"
                yield Finding(
                    f"The operator {of_model} is not found in the server: it would not load the model (Op type not "
                    "registered).",
                    "export the model without it, or build a server into which its operator is linked",
                    WARNING,
                    KIND,
                    str(version.path),
                    found=name,
                )


def _missing_among(files: Iterable[Path], names: set[str]) -> set[str] | None:
    """Those of the names that stand in none of the files; None where the server's names can't be read."""
    missing = _missing(files, {*names, *_IN_EVERY_SERVER})
    return None if missing & set(_IN_EVERY_SERVER) else missing


def _missing(files: Iterable[Path], names: set[str]) -> set[str]:
    missing = set(names)
    for file in files:
        data = constants_of(file)
        whole = set(data.split(b"\0"))
        # A linker keeps only the longer one of two texts where the other is its end.
        missing = {name for name in missing if name.encode() not in whole and name.encode() + b"\0" not in data}
    return missing
