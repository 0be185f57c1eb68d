"""The files of one version directory: which of them has the graph, and whether the server could read that."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from npu_serving.errors import ModelFileError
from npu_serving.findings import NOTE, Finding, as_finding
from npu_serving.model_checks.naming import MODEL_DIRECTORY, MODEL_FILE, TAGS, Naming, conversion_of
from npu_serving.models.saved_model import SAVED_MODEL, SAVED_MODEL_TEXT, SavedGraph, read_saved_model_graphs
from npu_serving.models.saved_model_writer import LARGEST_SERVED_GRAPH
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import shell_word

_SHOWN = 5


def read_version(directory: Path, tags: Collection[str], naming: Naming) -> tuple[SavedGraph | None, list[Finding]]:
    """The graph that the server would load, None without one, and what is wrong with its file.

    OSError and FileAccessError for what can't be read.
    """
    file, text = directory / SAVED_MODEL, directory / SAVED_MODEL_TEXT
    if not file.exists() and not text.exists():
        what = f"{directory} contains no {SAVED_MODEL}"
        cure = f"complete {directory} or remove it"
        return None, [Finding(f"{what}: the server could not load it.", cure, kind=MODEL_DIRECTORY, where=str(file))]
    found: list[Finding] = []
    if file.exists() and text.exists():
        what = f"{directory} has {SAVED_MODEL} and {SAVED_MODEL_TEXT}: the server passes over the text."
        found.append(Finding(what, f"rm {shell_word(text)}", NOTE, MODEL_FILE, str(text)))
    elif not file.exists():
        file = text
    try:
        size = file.stat().st_size
        if file.name == SAVED_MODEL and size > LARGEST_SERVED_GRAPH:
            return None, [*found, _too_large(directory, file, size)]
        graphs = read_saved_model_graphs(file)
    except ModelFileError as error:
        return None, [*found, as_finding(error, MODEL_FILE, str(file))]
    graph = next((each for each in graphs if each.tags == set(tags)), None)
    if graph is None:
        there = " and ".join(f"[{in_a_line(', '.join(sorted(each.tags)))}]" for each in graphs[:_SHOWN])
        what = f"{file} has no graph with the tags [{', '.join(tags)}]; there is one with {there}"
        cure = naming.other_tags(sorted(graphs[0].tags))
        found.append(Finding(f"{what}.", cure, kind=TAGS, where=naming.tags_at))
    return graph, found


def _too_large(directory: Path, file: Path, size: int) -> Finding:
    return Finding(
        f"{file} has {size} bytes, and TensorFlow 1.15.0 reads no graph of more than {LARGEST_SERVED_GRAPH}: the "
        "server could not load the model.",
        f"{conversion_of(directory)} --weights-as-variables",
        kind=MODEL_FILE,
        where=str(file),
    )
