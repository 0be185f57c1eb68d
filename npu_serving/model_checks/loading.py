"""What the server's loader runs, whether it can: restoring, the operations after it, the assets (loader.cc)."""

from __future__ import annotations

from collections.abc import Iterator

from npu_serving.findings import PROBLEM, Finding
from npu_serving.model_checks.examined import ExaminedGraph
from npu_serving.model_checks.naming import listed
from npu_serving.models.graph_def import node_of
from npu_serving.models.saved_model import SAVED_MODEL
from npu_serving.shown_text import in_a_line

LOADING = "loading"
_INDEX = "variables/variables.index"
_TABLES = ("HashTable", "HashTableV2")
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")


def check_loading(model: ExaminedGraph) -> Iterator[Finding]:
    """Why the loader would fail, and what it would leave without a value."""
    steps, nodes = model.steps, model.graph.by_name
    has_index = (model.directory / _INDEX).exists()
    if has_index and steps.restore not in nodes:
        named = f"the operation {in_a_line(steps.restore)}" if steps.restore else "no operation"
        what = f"{SAVED_MODEL} names {named} to restore its variables, which the graph does not have"
        what = what if steps.restore else f"{SAVED_MODEL} names no operation to restore the variables that are there"
        yield _not_loaded(model, what, "export the model again, or remove its directory variables")
    if len(steps.main) > 1:
        yield _not_loaded(
            model, f"{SAVED_MODEL} names {len(steps.main)} operations to run after that, and there may be one"
        )
    for name in steps.main:
        if node_of(name) not in nodes:
            yield _not_loaded(
                model, f"{SAVED_MODEL} names the operation {in_a_line(name)} to run, which the graph does not have"
            )
    for tensor, name in model.assets.items():
        if not (model.directory / "assets" / name).is_file():
            what = (
                f"The asset {in_a_line(name)}, which {in_a_line(tensor)} names, is not in {model.directory / 'assets'}"
            )
            yield _not_loaded(model, what, "copy the model again, with its directory assets")
    yield from _check_unset(model, _TABLES, "the table", "Table not initialized")
    if has_index:
        yield from _check_unset(model, _VARIABLES, "the variable", "Attempting to use uninitialized value")


def _check_unset(model: ExaminedGraph, operators: tuple[str, ...], kind: str, said: str) -> Iterator[Finding]:
    """Variables and tables that requests read, and that nothing gives a value at the load."""
    nodes = model.graph.by_name
    if model.at_load.functions and operators is _TABLES:
        return  # in TensorFlow 2 a function makes the table that it fills; requests find it by its shared name
    there = [node.name for operator in operators for node in model.graph.by_operator.get(operator, ())]
    names = [name for name in dict.fromkeys(there) if nodes[name].op in operators]
    ready = {_resource(model, name) for name in names if name in model.at_load.nodes}
    unset: dict[str, list[str]] = {}
    for signature, reached in model.by_signature.items():
        for name in names:
            if name in reached.nodes and _resource(model, name) not in ready:
                unset.setdefault(name, []).append(in_a_line(signature))
    if unset:
        names = sorted(unset)
        asked = sorted({signature for signatures in unset.values() for signature in signatures})
        what = f"Nothing gives {kind} {listed([in_a_line(name) for name in names])} a value when the model is loaded"
        what += f": requests of {listed(asked)} would fail ({said})."
        yield model.finding(what, "export it again, with its initialization", PROBLEM, LOADING, names)


def _resource(model: ExaminedGraph, name: str) -> str:
    """What a variable or a table is found by: nodes of one shared name are one resource."""
    node = model.graph.by_name[name]
    shared = node.value("shared_name")
    if shared is None or shared.kind != "string" or not shared.value:
        return name
    return f"{node.op}/{shared.value.decode('utf-8', 'surrogateescape')}"


def _not_loaded(model: ExaminedGraph, what: str, cure: str = "export the model again") -> Finding:
    return model.finding(f"{what}: the server could not load the model.", cure, PROBLEM, LOADING)
