"""Reads of variables turned into reads of constants, through a graph's nodes and the functions that get handles.

A node that has the handle of a variable, or a reference to it, gets the value itself; a function that was called with
the handle is written a second time, for the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from npu_serving.errors import ModelFileError
from npu_serving.models.attribute_values import (
    AttributeBytes,
    AttributeValue,
    FunctionCall,
    encode,
    encoded_shape,
    type_number,
)
from npu_serving.models.graph_def import BoundFunction, FunctionDef, NodeDef
from npu_serving.models.operator_definitions import operator_definition
from npu_serving.wire_bytes import bytes_field, number_field

RESOURCE = "resource"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_BRANCHES = ("If", "StatelessIf")
_CASE = "Case"  # the branches of tf.switch_case, as a list of functions
_LOOPS = ("While", "StatelessWhile")
_PASSES = ("Identity", "Switch", "Enter", "Exit", "Merge", "NextIteration")
_OF_REFERENCES = {f"Ref{name}": name for name in _PASSES}
_IS_INITIALIZED = ("VarIsInitializedOp", "IsVariableInitialized")
_DEEPEST = 50  # functions within functions
_MOST_BOUND = 10_000  # functions that are made, more than any model has


@dataclass(frozen=True)
class HeldValue:
    """What a variable holds: the type and the shape of its value."""

    dtype: str
    shape: tuple[int, ...]


Bindings = tuple["HeldValue | None", ...]


class Library:
    """The functions of a graph, and those that were made from them for values in place of handles."""

    def __init__(self, functions: Mapping[str, FunctionDef]) -> None:
        self.functions = dict(functions)
        self.changes: dict[str, str] = {}
        """The nodes that need a variable, with their operators."""
        self._bound: dict[tuple[str, Bindings], tuple[BoundFunction, Bindings]] = {}
        self._depth = 0

    def bound(self, name: str, bindings: Bindings) -> tuple[FunctionDef, Bindings]:
        """The function for these values in place of the handles among its arguments, and what its results hold."""
        key = (name, bindings)
        if key not in self._bound:
            if self._depth >= _DEEPEST or len(self._bound) >= _MOST_BOUND:
                raise _too_deep(name)
            self._depth += 1
            self._bound[key] = self._made(self.functions[name], bindings)
            self._depth -= 1
            made = self._bound[key][0]
            self.functions[made.name] = made
        return self._bound[key]

    def _made(self, function: FunctionDef, bindings: Bindings) -> tuple[BoundFunction, Bindings]:
        rewriting = HandleRewriting(self, function.nodes, function)
        given = dict(zip((name for name, _ in function.inputs), bindings))
        rewriting.held.update({name: value for name, value in given.items() if value is not None})
        nodes = rewriting.rewritten()
        results = tuple(rewriting.held.get(function.returns.get(name, "")) for name, _ in function.outputs)
        made = BoundFunction(
            self._free(f"{function.name}_frozen"),
            tuple((name, of if value is None else value.dtype) for (name, of), value in zip(function.inputs, bindings)),
            tuple((name, of if value is None else value.dtype) for (name, of), value in zip(function.outputs, results)),
            nodes,
            {name: rewriting.renamed(result) for name, result in function.returns.items()},
            function.start,
            function.end,
        )
        return made, results

    def _free(self, name: str) -> str:
        number, found = 0, name
        while found in self.functions:
            number += 1
            found = f"{name}_{number}"
        return found


class HandleRewriting:
    """The nodes of a graph, or of a function, on the way to constants in place of variables.

    `held` has the tensors that were handles of variables, or references to them, by what an input that is one of them
    is written as: NODE:NUMBER in a graph, an argument or NODE:OUTPUT:NUMBER in a function.
    """

    def __init__(self, library: Library, nodes: Iterable[NodeDef], function: FunctionDef | None = None) -> None:
        self._library, self._function = library, function
        self._nodes = {node.name: node for node in nodes}
        self.held: dict[str, HeldValue] = {}
        self._made: dict[str, list[NodeDef]] = {}
        self._renames: dict[str, str] = {}

    def replace(self, node: NodeDef, constant: NodeDef, held: HeldValue) -> None:
        """Puts a constant in the place of a variable."""
        self._made[node.name] = [constant]
        self.held[self._output(node, "", 0)] = held

    def rewritten(self) -> list[NodeDef]:
        """The nodes, changed where they have to be."""
        for name in self._in_order():
            if name not in self._made:
                self._rewrite(self._nodes[name])
        found = [each for name, node in self._nodes.items() for each in self._made.get(name, [node])]
        return [self._with_renamed_inputs(node) for node in found] if self._renames else found

    def renamed(self, written: str) -> str:
        """An input as it is written now: where an operator became another one, its output may have another name."""
        return self._renames.get(written, written)

    def _in_order(self) -> list[str]:
        """The names of the nodes, each after those it needs; what goes round in a loop comes in any order."""
        waits = dict.fromkeys(self._nodes, 0)
        then: dict[str, list[str]] = {}
        for name, node in self._nodes.items():
            for each in node.inputs:
                before = self._nodes.get(each.lstrip("^").partition(":")[0])
                if before is not None and before.op not in ("NextIteration", "RefNextIteration"):
                    waits[name] += 1
                    then.setdefault(before.name, []).append(name)
        ready = [name for name, count in waits.items() if not count]
        ordered = []
        while ready:
            name = ready.pop()
            ordered.append(name)
            for after in then.get(name, ()):
                waits[after] -= 1
                if not waits[after]:
                    ready.append(after)
        return [*ordered, *(name for name, count in waits.items() if count)]

    def _rewrite(self, node: NodeDef) -> None:
        data = [each for each in node.inputs if not each.startswith("^")]
        bindings = tuple(self.held.get(self._key(each)) for each in data)
        first = next((each for each in bindings if each is not None), None)
        if first is None:
            return
        if node.op in _OF_REFERENCES or node.op in _PASSES:
            self._pass_on(node, first)
        elif node.op in _IS_INITIALIZED:
            self._put(node, _boolean(node.name), {"is_initialized": "output"})
        elif node.op in _READS:
            self._read(node, first)
        elif node.op in _CALLS or node.op in self._library.functions:
            self._call(node, bindings)
        elif node.op in _BRANCHES:
            self._branch(node, bindings)
        elif node.op == _CASE:
            self._case(node, bindings)
        elif node.op in _LOOPS:
            self._loop(node, bindings)
        elif self._needs_variable(node, bindings):
            where = f" in the function {self._function.name}" if self._function is not None else ""
            self._library.changes[node.name + where] = node.op

    def _read(self, node: NodeDef, held: HeldValue) -> None:
        """An operator that reads a variable: the one that does the same with a value."""
        operator, attributes, output = _READS[node.op]
        made: dict[str, AttributeBytes] = {}
        for name, source in attributes.items():
            if source in node.attributes:
                made[name] = node.attributes[source]
            elif source == "":
                made[name] = _type(held.dtype)
        extra = []
        inputs = list(node.inputs)
        if operator == "GatherV2":
            axis = self._free_node(f"{node.name}/axis")
            made["Taxis"] = _type("int32")
            extra.append(_axis(axis))
            inputs.insert(2, axis if self._function is None else f"{axis}:output:0")
        self._put(node, NodeDef(node.name, operator, tuple(inputs), node.device, made), {output: "output"}, extra)

    def _pass_on(self, node: NodeDef, held: HeldValue) -> None:
        """An operator that hands on what it gets: the handle before, the value now."""
        is_reference = node.op in _OF_REFERENCES
        if not is_reference and node.value("T") is not None and node.value("T") != AttributeValue("type", RESOURCE):
            return  # it read the reference, and hands on a value
        operator = _OF_REFERENCES.get(node.op, node.op)
        attributes = {**node.attributes, "T": _type(held.dtype)}
        self._put(node, NodeDef(node.name, operator, node.inputs, node.device, attributes))
        definition = operator_definition(operator)
        outputs = definition.outputs if definition is not None else ()
        for number, output in enumerate(outputs):
            if operator != "Merge" or not number:
                self.held[self._output(node, output.name, 0 if self._function is not None else number)] = held

    def _call(self, node: NodeDef, bindings: Bindings) -> None:
        by_name = node.op in self._library.functions
        called = FunctionCall(node.op) if by_name else self._called(node, "f")
        if called is None:
            return
        function, results = self._library.bound(called.name, bindings)
        attributes = dict(node.attributes)
        if not by_name:
            attributes["f"] = encode(AttributeValue("func", FunctionCall(function.name, called.attributes)))
            attributes["Tin"] = _types_with(node, "Tin", bindings)
            attributes["Tout"] = _types_with(node, "Tout", results)
        operator = function.name if by_name else node.op
        self._put(node, NodeDef(node.name, operator, node.inputs, node.device, attributes))
        for number, held in enumerate(results):
            if held is not None:
                name, place = (function.outputs[number][0], 0) if by_name else ("output", number)
                self.held[self._output(node, name, number if self._function is None else place)] = held

    def _branch(self, node: NodeDef, bindings: Bindings) -> None:
        attributes = dict(node.attributes)
        for branch in ("then_branch", "else_branch"):
            called = self._called(node, branch)
            if called is None:
                return
            function, results = self._library.bound(called.name, bindings[1:])
            if any(results):
                self._library.changes[node.name] = node.op
            attributes[branch] = encode(AttributeValue("func", FunctionCall(function.name, called.attributes)))
        attributes["Tin"] = _types_with(node, "Tin", bindings[1:])
        self._put(node, NodeDef(node.name, node.op, node.inputs, node.device, attributes))

    def _case(self, node: NodeDef, bindings: Bindings) -> None:
        found = node.value("branches")
        calls: tuple[FunctionCall, ...] = found.value if found is not None and found.kind == "list(func)" else ()
        if not calls or any(call.name not in self._library.functions for call in calls):
            self._library.changes[node.name] = node.op
            return
        branches = []
        for call in calls:
            function, results = self._library.bound(call.name, bindings[1:])
            if any(results):
                self._library.changes[node.name] = node.op
            branches.append(FunctionCall(function.name, call.attributes))
        attributes = {
            **node.attributes,
            "branches": encode(AttributeValue("list(func)", tuple(branches))),
            "Tin": _types_with(node, "Tin", bindings[1:]),
        }
        self._put(node, NodeDef(node.name, node.op, node.inputs, node.device, attributes))

    def _loop(self, node: NodeDef, bindings: Bindings) -> None:
        attributes = dict(node.attributes)
        for part in ("cond", "body"):
            called = self._called(node, part)
            if called is None:
                return
            function, results = self._library.bound(called.name, bindings)
            if part == "body" and results != bindings:
                self._library.changes[node.name] = node.op
            attributes[part] = encode(AttributeValue("func", FunctionCall(function.name, called.attributes)))
        attributes["T"] = _types_with(node, "T", bindings)
        shapes = node.value("output_shapes")
        if shapes is not None and shapes.kind == "list(shape)" and len(shapes.value) == len(bindings):
            new = tuple(shape if held is None else held.shape for shape, held in zip(shapes.value, bindings))
            attributes["output_shapes"] = encode(AttributeValue("list(shape)", new))
        self._put(node, NodeDef(node.name, node.op, node.inputs, node.device, attributes))
        for number, held in enumerate(bindings):
            if held is not None:
                self.held[self._output(node, "output", number)] = held

    def _called(self, node: NodeDef, attribute: str) -> FunctionCall | None:
        found = node.value(attribute)
        if found is None or found.kind != "func" or found.value.name not in self._library.functions:
            self._library.changes[node.name] = node.op
            return None
        call: FunctionCall = found.value
        return call

    def _needs_variable(self, node: NodeDef, bindings: Bindings) -> bool:
        """Whether it can't do with a value: it takes a handle, or a reference that it would change."""
        definition = operator_definition(node.op)
        if definition is None:
            return True
        arguments = definition.inputs
        if any(argument.number or argument.type_list for argument in arguments):
            return any(argument.is_reference or argument.data_type == RESOURCE for argument in arguments) or (
                RESOURCE in _types_in(node)
            )
        return any(
            held is not None and (argument.is_reference or argument.data_type == RESOURCE)
            for held, argument in zip(bindings, arguments)
        )

    def _put(
        self,
        node: NodeDef,
        made: NodeDef,
        outputs: Mapping[str, str] | None = None,
        extra: Iterable[NodeDef] = (),
    ) -> None:
        """Has a node in the place of another; `outputs` are names of its outputs that are others now."""
        attributes = {name: value for name, value in made.attributes.items() if name != "_output_shapes"}
        self._made[node.name] = [
            *extra,
            NodeDef(made.name, made.op, made.inputs, made.device, attributes),
        ]
        if self._function is not None:
            for before, after in (outputs or {}).items():
                if before != after:
                    self._renames[f"{node.name}:{before}:0"] = f"{node.name}:{after}:0"

    def _with_renamed_inputs(self, node: NodeDef) -> NodeDef:
        inputs = tuple(map(self.renamed, node.inputs))
        if inputs == node.inputs:
            return node
        return NodeDef(node.name, node.op, inputs, node.device, node.attributes)

    def _key(self, written: str) -> str:
        return written if ":" in written or self._function is not None else f"{written}:0"

    def _output(self, node: NodeDef, name: str, number: int) -> str:
        return f"{node.name}:{number}" if self._function is None else f"{node.name}:{name}:{number}"

    def _free_node(self, name: str) -> str:
        number, found = 0, name
        while found in self._nodes:
            number += 1
            found = f"{name}_{number}"
        return found


_READS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "ReadVariableOp": ("Identity", {"T": ""}, "value"),
    "ResourceGather": (
        "GatherV2",
        {"Tparams": "", "Tindices": "Tindices", "batch_dims": "batch_dims"},
        "output",
    ),
    "ResourceGatherNd": ("GatherNd", {"Tparams": "", "Tindices": "Tindices"}, "output"),
    "VariableShape": ("Shape", {"T": "", "out_type": "out_type"}, "output"),
}
"""The operator that does the same with a value, its attributes by those of the first ("" is the value's type), and what
the output of the first is named."""


def _types_with(node: NodeDef, attribute: str, bindings: Bindings) -> bytes:
    """A list of types with those of the values in the places of the handles'."""
    found = node.value(attribute)
    types = found.value if found is not None and isinstance(found.value, tuple) else ()
    new = tuple(of if held is None else held.dtype for of, held in zip(types, (*bindings, *[None] * len(types))))
    return encode(AttributeValue("list(type)", new)) if new else encode(AttributeValue("list"))


def _types_in(node: NodeDef) -> set[str]:
    found: set[str] = set()
    for value in map(node.value, node.attributes):
        if value is not None and value.kind == "list(type)":
            found.update(value.value)
        elif value is not None and value.kind == "type":
            found.add(value.value)
    return found


def _type(name: str) -> bytes:
    return encode(AttributeValue("type", name))


def _constant(name: str, dtype: str, value: bytes) -> NodeDef:
    tensor = number_field(1, type_number(dtype)) + bytes_field(2, encoded_shape(())) + bytes_field(4, value)
    return NodeDef(name, "Const", (), "", {"dtype": _type(dtype), "value": bytes_field(8, tensor)})


def _axis(name: str) -> NodeDef:
    return _constant(name, "int32", bytes(4))


def _boolean(name: str) -> NodeDef:
    return _constant(name, "bool", b"\1")


def _too_deep(name: str) -> ModelFileError:
    return ModelFileError(
        f"The variables can't become constants: the function {name} calls itself, or more than {_DEEPEST} others.",
        cause="a function that gets a variable calls itself with it",
        cure="name outputs that don't depend on that function",
    )
