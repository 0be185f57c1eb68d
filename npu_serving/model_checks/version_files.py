"""The files of one version directory: its graph, the values of its variables, its warm-up requests."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from npu_serving.errors import ModelFileError
from npu_serving.findings import NOTE, Finding, as_finding
from npu_serving.model_checks.naming import MODEL_DIRECTORY, MODEL_FILE, TAGS, Naming
from npu_serving.models.saved_model import SAVED_MODEL, SAVED_MODEL_TEXT, MetaGraph, read_saved_model
from npu_serving.models.warm_up_file import WARM_UP_FILE, warm_up_trouble
from npu_serving.shown_text import in_a_line

_VARIABLES = frozenset(("VariableV2", "Variable", "VarHandleOp"))
_INDEX = Path("variables") / "variables.index"
_PART = re.compile(r"variables\.data-[0-9]{5}-of-([0-9]{5})")
_SHOWN = 5


def read_version(directory: Path, tags: Collection[str], naming: Naming) -> tuple[MetaGraph | None, list[Finding]]:
    """The graph that the server would load, None without one, and what is wrong with the version's directory."""
    file = directory / SAVED_MODEL
    if not file.exists():
        if (directory / SAVED_MODEL_TEXT).exists():
            what = f"{directory} has its model as text ({SAVED_MODEL_TEXT}), which is not looked into."
            return None, [Finding(what, severity=NOTE, kind=MODEL_FILE, where=str(directory))]
        what = f"{directory} contains no {SAVED_MODEL}"
        cure = f"complete {directory} or remove it"
        return None, [Finding(f"{what}: the server could not load it.", cure, kind=MODEL_DIRECTORY, where=str(file))]
    try:
        graphs = read_saved_model(file)
    except ModelFileError as error:
        return None, [as_finding(error, MODEL_FILE, str(file))]
    graph = next((each for each in graphs if each.tags == set(tags)), None)
    if graph is None:
        there = " and ".join(f"[{in_a_line(', '.join(sorted(each.tags)))}]" for each in graphs[:_SHOWN])
        what = f"{file} has no graph with the tags [{', '.join(tags)}]; there is one with {there}"
        cure = naming.other_tags(sorted(graphs[0].tags))
        return None, [Finding(f"{what}.", cure, kind=TAGS, where=naming.tags_at)]
    missing = _missing_variables(directory) if _VARIABLES & set(graph.graph.operators) else None
    if missing is None:
        return graph, []
    effect = "the server could not load the model"
    if missing == _INDEX:
        effect = "the server would load the model, and every request would fail (Attempting to use uninitialized value)"
    what = f"{directory / missing} is missing: {effect}."
    cure = "copy the model again, with its directory variables"
    return graph, [Finding(what, cure, kind=MODEL_DIRECTORY, where=str(directory))]


def check_warm_up(directory: Path, naming: Naming) -> Iterator[Finding]:
    """Whether the server would load the model with the requests that are recorded for it."""
    path = directory / WARM_UP_FILE
    if not path.is_file():
        return
    trouble = warm_up_trouble(path)
    if trouble:
        what = f"{path} would keep the server from loading the model: {trouble}."
        yield Finding(what, naming.warm_up, kind=MODEL_FILE, where=str(path))


def _missing_variables(directory: Path) -> Path | None:
    """The first file of the variables' values that is not there: the index, or one of the parts that it is about."""
    if not (directory / _INDEX).exists():
        return _INDEX
    names = {path.name for path in (directory / _INDEX.parent).iterdir()}
    parts = {int(found[1]) for found in map(_PART.fullmatch, names) if found}
    wanted = (f"variables.data-{number:05}-of-{max(parts, default=1):05}" for number in range(max(parts, default=1)))
    return next((_INDEX.parent / name for name in wanted if name not in names), None)
