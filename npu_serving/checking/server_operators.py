"""The operators that a server knows, as far as their names stand in its file: one that is missing keeps a model out.

A server says so only when it loads the model: Op type not registered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from npu_serving.deploy.model_checks import CheckedModel
from npu_serving.elf.constants import constants_of
from npu_serving.findings import WARNING, Finding
from npu_serving.shown_text import in_a_line

KIND = "unregistered-operator"
_IN_EVERY_SERVER = ("Placeholder", "Const", "Identity")


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
    if not wanted:
        return
    missing = _missing(files, {*wanted, *_IN_EVERY_SERVER})
    if missing & set(_IN_EVERY_SERVER):
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
                )


def _missing(files: Iterable[Path], names: set[str]) -> set[str]:
    missing = set(names)
    for file in files:
        data = constants_of(file)
        whole = set(data.split(b"\0"))
        # A linker keeps only the longer one of two texts where the other is its end.
        missing = {name for name in missing if name.encode() not in whole and name.encode() + b"\0" not in data}
    return missing
