"""graph-nodes: what a model holds: signatures, likely inputs and outputs, operators, parameters, devices, its nodes."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Callable

from npu_serving.console import amount_text, table
from npu_serving.errors import RequestError
from npu_serving.inspection.opened_model import OpenedModel
from npu_serving.models.attribute_values import ELEMENT_BYTES, Shape, tensor_header, type_name
from npu_serving.models.graph_def import GraphDef, NodeDef
from npu_serving.models.layout import model_name_of
from npu_serving.models.likely_tensors import likely_inputs, likely_outputs, node_of
from npu_serving.models.saved_model import ModelSignature, TensorSpec, tag_flags
from npu_serving.models.tensor_shapes import TensorShapes
from npu_serving.models.tensor_types import output_runs
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import shell_word

SHOWN_NODES = 200
"""Of a list of nodes, unless --limit says another number."""
_SHOWN_OPERATORS, _SHOWN_NAMES, _SHOWN_ENDS = 12, 10, 50
_QUICKLY_WALKED = 20_000  # nodes
_LONGEST_LIST = 500  # letters of the names in a command to type
_MOST_OUTPUTS = 64  # of one node, that are listed
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # in a checkpoint of TensorFlow 2: how its values belong together
_NOTHING = type_name(0)  # of an operator that is only run
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp")


@dataclass(frozen=True)
class ShownNode:
    """A node with the types and shapes of its outputs; a type is "?" where TensorFlow 1.15 has no such operator."""

    name: str
    operator: str
    outputs: tuple[TensorSpec, ...]
    inputs: tuple[str, ...]
    device: str
    function: str = ""

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return {
            "name": self.name,
            "op": self.operator,
            "outputs": [spec.to_json() for spec in self.outputs],
            "inputs": list(self.inputs),
            "device": self.device,
            **({"function": self.function} if self.function else {}),
        }

    def row(self) -> tuple[str, ...]:
        """As a line of the table."""
        outputs = ", ".join(map(_described, self.outputs))
        name = f"{self.function}/{self.name}" if self.function else self.name
        return tuple(map(in_a_line, (name, self.operator, outputs, " ".join(self.inputs), self.device)))


@dataclass(frozen=True)
class Parameters:
    """Constants or variables: how many there are, their elements, and their bytes (of texts, none)."""

    count: int
    elements: int
    size_bytes: int

    def to_json(self) -> dict[str, object]:
        """The numbers."""
        return {"count": self.count, "elements": self.elements, "bytes": self.size_bytes}

    def text(self, what: str) -> str:
        """In a line, such as `23,000 in 12 variables (92 KB)`."""
        one = "" if self.count == 1 else "s"
        return f"{self.elements:,} in {self.count:,} {what}{one} ({amount_text(self.size_bytes, 'bytes')})"


@dataclass(frozen=True)
class ShownVariable:
    """A variable of the checkpoint, or of the graph where there is no checkpoint: then its bytes are computed."""

    name: str
    data_type: str
    shape: Shape
    size_bytes: int

    def to_json(self) -> dict[str, object]:
        """All of it."""
        shape = None if self.shape is None else list(self.shape)
        return {"name": self.name, "dtype": self.data_type, "shape": shape, "bytes": self.size_bytes}


@dataclass(frozen=True)
class NodeFilter:
    """Which nodes are listed: of operators and with a name that match these patterns, needed by that signature.

    `limit` 0 lists all, None as many as fit: SHOWN_NODES in a text, all in JSON.
    """

    operators: tuple[str, ...] = ()
    name: str = ""
    signature: str = ""
    wanted: bool = False
    limit: int | None = None

    @property
    def lists(self) -> bool:
        """Whether nodes are listed at all."""
        return bool(self.wanted or self.operators or self.name or self.signature)

    def by_name(self) -> Callable[[str], bool]:
        """Whether a name is wanted. RequestError for a regular expression that can't be one."""
        return _matching("--name", self.name) if self.name else lambda _name: True

    def by_operator(self) -> Callable[[str], bool]:
        """Whether an operator is wanted. RequestError as in by_name()."""
        wanted = [_matching("--op", each) for each in self.operators]
        return lambda operator: not wanted or any(is_it(operator) for is_it in wanted)


@dataclass(frozen=True)
class GraphView:
    """What a model holds."""

    model: OpenedModel
    operators: Mapping[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    constants: Parameters
    variables: tuple[ShownVariable, ...]
    devices: Mapping[str, int]
    chosen: NodeFilter
    shapes: TensorShapes
    written: str = ""
    """What was done besides: the picture's file, or what netron shows."""

    def to_json(self) -> dict[str, object]:
        """All of it; all nodes, unless some were chosen."""
        model, graph = self.model, self.model.graph
        functions = {
            name: {
                "inputs": [list(each) for each in function.inputs],
                "outputs": [list(each) for each in function.outputs],
                "nodes": len(function.nodes),
            }
            for name, function in graph.graph.functions.items()
        }
        return {
            "file": str(model.path),
            "kind": model.kind.name,
            "tensorflow_version": graph.tensorflow_version,
            "tags": sorted(graph.tags),
            "all_tags": [sorted(tags) for tags in model.all_tags],
            "signatures": {name: of.to_json() for name, of in sorted(graph.signatures.items())},
            "inputs": [spec.to_json() for spec in self.inputs],
            "outputs": [_spec(spec.name, graph.graph, self.shapes).to_json() for spec in self.outputs],
            "operators": dict(self.operators),
            "functions": functions,
            "constants": self.constants.to_json(),
            "variables": [variable.to_json() for variable in self.variables],
            "devices": dict(self.devices),
            "assets": dict(graph.assets),
            "nodes": [node.to_json() for node in self._listed(self.chosen.limit or 0)[0]],
            "notes": list(model.notes),
            "next": self.next_step(),
        }

    def text(self) -> str:
        """The summary, or the nodes that were asked for."""
        return "\n".join(self._node_lines() if self.chosen.lists else self._summary())

    def next_step(self) -> str:
        """What to type next: a check of what can be served, a conversion of what can't."""
        path = shell_word(self.model.path)
        if self.model.kind.message == "SavedModel":
            return f"./inv check-model {shell_word(self.model.path.parent)}"
        inputs, outputs = (";".join(spec.name for spec in specs) for specs in (self.inputs, self.outputs))
        named = "".join(
            f" {flag} {shell_word(names)}"
            for flag, names in (("--inputs", inputs), ("--outputs", outputs))
            if names and len(names) < _LONGEST_LIST and names.isprintable()
        )
        return f"./inv convert-pb {path}{named} --output models/{model_name_of(self.model.path)}"

    def _summary(self) -> list[str]:
        model, graph = self.model, self.model.graph
        made_by = f", written by TensorFlow {in_a_line(graph.tensorflow_version)}" if graph.tensorflow_version else ""
        tags = f", tags {in_a_line(','.join(sorted(graph.tags)))}" if graph.tags else ""
        lines = [f"{model.path}: {model.kind.what}{made_by}{tags}"]
        others = [tag_flags(each) for each in model.all_tags if each != graph.tags]
        if others:
            lines.append(f"its other graphs: {in_a_line('; '.join(others))}")
        lines += model.notes
        lines += [self._operator_line(), *self._parameter_lines()]
        if graph.graph.functions:
            named = [f"{name} ({len(of.nodes)})" for name, of in graph.graph.functions.items()]
            lines.append(f"functions, with their nodes: {_some(named)}")
        if self.devices:
            placed = [f"{device} ({count})" for device, count in self.devices.items()]
            lines.append(f"placed on devices, by the number of nodes: {_some(placed)}")
        if graph.assets:
            lines.append(f"assets: {_some(graph.assets.values())}")
        if graph.signatures:
            lines += ["", table(_signature_rows(graph.signatures), header=("SIGNATURE", "", "NAME", "TENSOR", "TYPE"))]
        else:
            rows = [
                (word, spec) for word, specs in (("input", self.inputs), ("output", self.outputs)) for spec in specs
            ]
            is_large = len(graph.graph.nodes) > _QUICKLY_WALKED
            shown = [
                (f"likely {word}", in_a_line(spec.name), _described(spec, with_shape=word == "input" or not is_large))
                for word, spec in rows[:_SHOWN_ENDS]
            ]
            lines += ["", table(shown) if shown else "neither an input nor an output can be guessed"]
        return [*lines, "", *filter(None, [self.written]), f"Next: {self.next_step()}"]

    def _operator_line(self) -> str:
        nodes = len(self.model.nodes.nodes)
        counted = sorted(self.operators.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{in_a_line(name)} {count:,}" for name, count in counted[:_SHOWN_OPERATORS])
        more = f" and {len(counted) - _SHOWN_OPERATORS} other operators" if len(counted) > _SHOWN_OPERATORS else ""
        return f"{nodes:,} node{'' if nodes == 1 else 's'}: {listed}{more}" if nodes else "no nodes"

    def _parameter_lines(self) -> list[str]:
        parts: list[str] = []
        lines: list[str] = []
        known = [variable for variable in self.variables if variable.shape is not None]
        if self.variables:
            elements = sum(_elements(variable.shape) for variable in known)
            total = Parameters(len(self.variables), elements, sum(variable.size_bytes for variable in self.variables))
            where = "" if self.model.variables is not None else ", of which no values are beside it"
            parts.append(f"{total.text('variable')}{where}")
            largest = sorted(self.variables, key=lambda variable: -variable.size_bytes)[:5]
            shown = [
                f"{variable.name} {_described(TensorSpec('', variable.data_type, variable.shape))}"
                for variable in largest
            ]
            lines = [f"  the largest: {_some(shown)}"]
        if self.constants.count:
            parts.append(self.constants.text("constant"))
        return [*([f"parameters: {'; '.join(parts)}"] if parts else []), *lines]

    def _node_lines(self) -> list[str]:
        nodes, matching = self._listed(SHOWN_NODES if self.chosen.limit is None else self.chosen.limit)
        if not nodes:
            return [f"no node matches; ./inv graph-nodes {shell_word(self.model.path)} says which operators there are"]
        header: tuple[str, ...] = ("NODE", "OPERATOR", "OUTPUTS", "INPUTS", "DEVICE")
        rows = [node.row() for node in nodes]
        if not any(row[-1] for row in rows):
            header, rows = header[:-1], [row[:-1] for row in rows]
        lines = [table(rows, header=header)]
        if matching > len(nodes):
            lines.append(f"... and {matching - len(nodes):,} more: --limit 0 lists all")
        return [*lines, *filter(None, [self.written])]

    def _listed(self, limit: int) -> tuple[list[ShownNode], int]:
        """The first so many of the chosen nodes, all for 0, and how many there are."""
        found = list(_chosen_nodes(self.model, self.chosen))
        shown = found[:limit] if limit else found
        return [_shown_node(node, where, self.model.nodes, self.shapes) for node, where in shown], len(found)


def view_of(model: OpenedModel, chosen: NodeFilter) -> GraphView:
    """What the model holds, and the nodes that the filter chooses.

    RequestError for a signature that the model lacks, and for a pattern that can't be one.
    """
    graph = model.nodes
    shapes = TensorShapes(graph)
    chosen.by_name()
    chosen.by_operator()
    if chosen.signature:
        _needed(model, chosen.signature)
    operators = Counter(node.op for node in graph.nodes)
    for function in graph.functions.values():
        operators.update(node.op for node in function.nodes)
    signatures = model.graph.signatures
    guessed = ([], []) if signatures else (likely_inputs(graph), likely_outputs(graph))
    # What shape the last tensor has takes a walk through the whole graph.
    walks = len(graph.nodes) <= _QUICKLY_WALKED
    inputs = tuple(_spec(name, graph, shapes) for name in guessed[0])
    outputs = tuple(_spec(name, graph, shapes if walks else None) for name in guessed[1])
    return GraphView(
        model=model,
        operators=dict(sorted(operators.items())),
        inputs=inputs,
        outputs=outputs,
        constants=_constants(graph),
        variables=_variables(model),
        devices=dict(Counter(node.device for node, _ in _all_nodes(graph) if node.device).most_common()),
        chosen=chosen,
        shapes=shapes,
    )


def _matching(flag: str, typed: str) -> Callable[[str], bool]:
    """Whether a text is what was typed: a regular expression between slashes, else a pattern of the shell's kind."""
    if len(typed) > 1 and typed[0] == typed[-1] == "/":
        try:
            expression = re.compile(typed[1:-1])
        except re.error as error:
            raise RequestError(
                f"{flag} {typed} is not a regular expression: {error}.",
                cause="between slashes stands one, as Python's re has them",
                cure=f"{flag} {'block1/*' if flag == '--name' else 'Conv*'!r} is a pattern of the shell's kind",
            ) from None
        return lambda text: expression.search(text) is not None
    pattern = re.compile(fnmatch.translate(typed))
    return lambda text: pattern.match(text) is not None


def _all_nodes(graph: GraphDef) -> Iterator[tuple[NodeDef, str]]:
    """The nodes of the graph, and of its functions with the function's name."""
    for node in graph.nodes:
        yield node, ""
    for name, function in graph.functions.items():
        for node in function.nodes:
            yield node, name


def _chosen_nodes(model: OpenedModel, chosen: NodeFilter) -> Iterator[tuple[NodeDef, str]]:
    needed = _needed(model, chosen.signature) if chosen.signature else None
    named, of_operator = chosen.by_name(), chosen.by_operator()
    for node, function in _all_nodes(model.nodes):
        if needed is not None and (function or node.name not in needed):
            continue
        if of_operator(node.op) and named(node.name):
            yield node, function


def _needed(model: OpenedModel, name: str) -> set[str]:
    """The nodes that a request to a signature needs."""
    signature = model.graph.signatures.get(name)
    if signature is None:
        there = ", ".join(sorted(model.graph.signatures)) or "none"
        raise RequestError(
            f"{model.path} has no signature {name}.",
            cause=f"it has {there}",
            cure=f"--signature {sorted(model.graph.signatures)[0]}" if model.graph.signatures else "omit --signature",
        )
    fed = {node_of(tensor) for spec in signature.inputs.values() for tensor in (spec.name, *spec.others)}
    waiting = [node_of(tensor) for spec in signature.outputs.values() for tensor in (spec.name, *spec.others)]
    seen = set(waiting)
    while waiting:
        node = model.nodes.by_name.get(waiting.pop())
        if node is None or node.name in fed:
            continue
        new = {node_of(each) for each in node.inputs} - seen
        seen |= new
        waiting += new
    return seen


def _shown_node(node: NodeDef, function: str, graph: GraphDef, shapes: TensorShapes | None) -> ShownNode:
    runs = output_runs(node, graph.functions)
    if runs is None:
        types = ["?"]
    else:
        types = [kind for run in runs for _ in range(run.times) for kind in run.types][:_MOST_OUTPUTS]
    names = [f"{node.name}:{number}" for number in range(len(types))]
    outputs = tuple(
        TensorSpec(name, kind, None if function or shapes is None else shapes.shape_of(name))
        for name, kind in zip(names, types)
    )
    return ShownNode(node.name, node.op, outputs, node.inputs, node.device, function)


def _spec(tensor: str, graph: GraphDef, shapes: TensorShapes | None) -> TensorSpec:
    node = graph.by_name[tensor.rpartition(":")[0]]
    shown = _shown_node(node, "", graph, shapes).outputs
    return shown[0] if shown else TensorSpec(tensor, "?", None)


def _constants(graph: GraphDef) -> Parameters:
    count = elements = size = 0
    for node, _ in _all_nodes(graph):
        if node.op == "Const" and (value := node.attributes.get("value")) is not None:
            header = tensor_header(value)
            if header is not None:
                count, elements, size = count + 1, elements + header.elements, size + header.size_bytes
    return Parameters(count, elements, size)


def _variables(model: OpenedModel) -> tuple[ShownVariable, ...]:
    if model.variables is not None:
        return tuple(
            ShownVariable(name, each.dtype, each.shape, each.size_bytes)
            for name, each in model.variables.items()
            if name != _OBJECT_GRAPH
        )
    found = []
    for node in model.nodes.nodes:
        if node.op in _VARIABLES:
            kind, shape = node.value("dtype"), node.value("shape")
            data_type = kind.value if kind is not None and kind.kind == "type" else "?"
            sizes: Shape = shape.value if shape is not None and shape.kind == "shape" else None
            found.append(ShownVariable(node.name, data_type, sizes, _elements(sizes) * ELEMENT_BYTES.get(data_type, 0)))
    return tuple(found)


def _elements(shape: Shape) -> int:
    number = 0 if shape is None else 1
    for size in shape or ():
        number *= max(size, 0)
    return number


def _described(spec: TensorSpec, *, with_shape: bool = True) -> str:
    """The type and the shape of a tensor, of which no shape may be known here; a signature says what it may be."""
    if not with_shape:
        return spec.data_type
    return spec.describe() if spec.shape is not None else f"{spec.data_type}, shape unknown"


def _signature_rows(signatures: Mapping[str, ModelSignature]) -> list[tuple[str, ...]]:
    rows = []
    for name, signature in sorted(signatures.items()):
        for word, specs in (("input", signature.inputs), ("output", signature.outputs)):
            for alias, spec in sorted(specs.items()):
                shown = "" if spec.data_type == _NOTHING else spec.describe()
                rows.append(tuple(map(in_a_line, (name, word, alias, spec.name, shown))))
        if not signature.inputs and not signature.outputs:
            rows.append((in_a_line(name), "", "", "", ""))
    return rows


def _some(names: Iterable[str]) -> str:
    listed: Sequence[str] = list(names)
    more = f" and {len(listed) - _SHOWN_NAMES} more" if len(listed) > _SHOWN_NAMES else ""
    return ", ".join(map(in_a_line, listed[:_SHOWN_NAMES])) + more
