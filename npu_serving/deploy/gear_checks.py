"""The gears of a deployment against the inputs of its model: what TF Adapter assigns in silence, and to which input.

The adapter never compares a name of input_shape. It orders the graph's inputs by the bytes of their nodes' names and
gives them the entries one after the other, so an entry in the wrong place is another input's shape.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from npu_serving.findings import NOTE, WARNING, Finding
from npu_serving.models.saved_model import MetaGraph, ModelSignature, TensorSpec
from npu_serving.shown_text import in_a_line

KIND = "gears"
SHAPES, GEARS, NODE_TYPE = "input_shape", "dynamic_dims", "dynamic_node_type"
PLACEHOLDERS = 1  # the value of dynamic_node_type; 0 means datasets
_NEXT = "IteratorGetNext"


@dataclass(frozen=True)
class _ShapeEntry:
    """One input in input_shape."""

    name: str
    sizes: tuple[int, ...]  # none for a scalar

    def __str__(self) -> str:
        return f"{self.name}:{','.join(map(str, self.sizes)) or '0'}"


def check_gears(options: Mapping[str, object], graph: MetaGraph, where: str) -> Iterator[Finding]:
    """What is wrong with the gears for a model with that graph; `where` is the place of the options in the file.

    The form of the three options, and whether they agree with each other, is judged with all other options.
    """
    entries = _entries(options.get(SHAPES))
    gears = _gears(options.get(GEARS))
    if not entries or not gears:
        return
    place = f"{where}.{SHAPES}"
    many = graph.graph.operators.get(_NEXT, 0)
    if options.get(NODE_TYPE) != PLACEHOLDERS:
        if many != 1:
            what = f"{NODE_TYPE} is 0, for inputs from a dataset, and the model has {many} nodes {_NEXT}"
            instead = f"for the inputs of requests write {NODE_TYPE} {PLACEHOLDERS}"
            yield Finding(
                f"{what}: the adapter takes one, and no other number of them.", instead, kind=KIND, where=place
            )
        yield from _of_both_kinds(graph, place)
        return
    if many:
        what = f"The gears are for the inputs of requests, and the model reads from a dataset as well ({_NEXT})"
        cure = "give the dataset fixed shapes where the model is made: only one of the two kinds may have gears"
        yield Finding(f"{what}, whose shapes have to be fixed then.", cure, WARNING, KIND, place)
    of_each = {
        name: list(_against(entries, gears, signature, name, place))
        for name, signature in sorted(graph.signatures.items())
        if signature.inputs and not any(spec.others for spec in signature.inputs.values())
    }
    fitting = [name for name, found in of_each.items() if not any(item.needs_action for item in found)]
    for name, found in of_each.items():
        if not fitting or name in fitting:
            yield from found
        else:
            what = f"The gears are for {fitting[0]}; requests of the signature {in_a_line(name)} would fail."
            yield Finding(what, "leave it unused", NOTE, KIND, place, details=tuple(item.what for item in found))


def _of_both_kinds(graph: MetaGraph, where: str) -> Iterator[Finding]:
    """Inputs of requests that change their size where the gears are for a dataset: only one may (the guide, 5.6)."""
    changing = {
        spec.node: spec
        for _, signature in sorted(graph.signatures.items())
        for _, spec in sorted(signature.inputs.items())
        if spec.shape is None or any(size < 0 for size in spec.shape)
    }
    for node, spec in changing.items():
        what = (
            f"The gears are for a dataset, and the input {in_a_line(node)} of requests changes too: {spec.describe()}"
        )
        cure = (
            f"give it a fixed shape where the model is made, or write {NODE_TYPE} {PLACEHOLDERS} for gears of requests"
        )
        yield Finding(f"{what}; only one of the two kinds may.", cure, WARNING, KIND, where)


def gear_shapes(options: Mapping[str, object], signature: ModelSignature) -> list[dict[str, tuple[int, ...]]]:
    """The shapes of the inputs, by their names in the signature, of each gear; none without gears that fit it."""
    entries, gears = _entries(options.get(SHAPES)), _gears(options.get(GEARS))
    by_node = {spec.node: name for name, spec in signature.inputs.items()}
    names = [by_node[node] for node in sorted(by_node, key=lambda node: node.encode("utf-8", "surrogatepass"))]
    unknown = sum(size < 0 for entry in entries for size in entry.sizes)
    if len(entries) != len(names) or options.get(NODE_TYPE) != PLACEHOLDERS:
        return []
    found = []
    for gear in gears:
        if len(gear) != unknown:
            return []
        values = iter(gear)
        found.append(
            {
                name: tuple(next(values) if size < 0 else size for size in entry.sizes)
                for name, entry in zip(names, entries)
            }
        )
    return found


def _against(
    entries: list[_ShapeEntry], gears: list[tuple[int, ...]], signature: ModelSignature, name: str, where: str
) -> Iterator[Finding]:
    by_node = {spec.node: (key, spec) for key, spec in signature.inputs.items()}
    nodes = sorted(by_node, key=lambda node: node.encode("utf-8", "surrogatepass"))
    cure = f"write {_proposal(entries, nodes, by_node)}"
    shown = ", ".join(in_a_line(node) for node in nodes)
    if len(entries) != len(nodes):
        yield Finding(
            f"{SHAPES} has {len(entries)} {'entry' if len(entries) == 1 else 'entries'}, and the signature "
            f"{in_a_line(name)} has {len(nodes)} ({shown}): the adapter would refuse every request.",
            cure,
            kind=KIND,
            where=where,
        )
        return
    means = [_meant(entry.name, by_node) for entry in entries]
    values = _values_of(entries, gears)
    for entry, node, meant, of_entry in zip(entries, nodes, means, values):
        if meant is not None and meant != node:
            yield Finding(
                f"{SHAPES} has {entry} where the adapter expects {in_a_line(node)}: it takes the entries in the order "
                f"of the nodes' names ({shown}), so another input would get this shape.",
                cure,
                kind=KIND,
                where=where,
            )
            return
        if meant is None:
            yield Finding(
                f"{SHAPES} names {in_a_line(entry.name)}, which is not an input of the signature {in_a_line(name)}; "
                f"the adapter takes it for {in_a_line(node)}.",
                cure,
                WARNING,
                KIND,
                where,
            )
        spec = by_node[node][1]
        why = _misfit(entry, spec, of_entry)
        if why:
            yield Finding(
                f"{SHAPES} has {entry}, and the model's input {in_a_line(node)} is {spec.describe()}: {why}.",
                cure,
                kind=KIND,
                where=where,
            )


def _misfit(entry: _ShapeEntry, spec: TensorSpec, values: list[set[int]]) -> str:
    """Why a model could not be asked with that shape; "" where it could."""
    if spec.shape is None:
        return ""
    if len(entry.sizes) != len(spec.shape):
        return f"it has {len(spec.shape)} dimensions, not {len(entry.sizes)}"
    for place, (size, own, possible) in enumerate(zip(entry.sizes, spec.shape, values), start=1):
        taken = possible if size < 0 else {size}
        if own >= 0 and taken - {own}:
            return f"its dimension {place} is {own}, and never {', '.join(map(str, sorted(taken - {own})))}"
    return ""


def _values_of(entries: list[_ShapeEntry], gears: list[tuple[int, ...]]) -> list[list[set[int]]]:
    """The values that the gears give to each dimension of each entry: the k-th of a gear is for the k-th -1."""
    found, at = [], 0
    for entry in entries:
        of_entry: list[set[int]] = []
        for size in entry.sizes:
            of_entry.append({gear[at] for gear in gears if at < len(gear)} if size < 0 else set())
            at += size < 0
        found.append(of_entry)
    return found


def _meant(name: str, by_node: Mapping[str, tuple[str, TensorSpec]]) -> str | None:
    """The node that an entry's name is meant for: by its name as it is, or as 6.3 wants it, or by the signature's."""
    plain = plain_node_name(name)
    for is_it in (
        lambda node, key: node == name,
        lambda node, key: plain_node_name(node) == plain,
        lambda node, key: key == name,
    ):
        found = [node for node, (key, _) in by_node.items() if is_it(node, key)]
        if len(found) == 1:
            return found[0]
    return None


def plain_node_name(name: str) -> str:
    """A name of letters, digits and _ alone: the adapter of CANN 6.3 ends the process at any other character."""
    return re.sub("[^A-Za-z0-9_]", "_", name)


def _proposal(entries: list[_ShapeEntry], nodes: list[str], by_node: Mapping[str, tuple[str, TensorSpec]]) -> str:
    """An input_shape with every input in its place; with the sizes of the file where they name the input."""
    named = {_meant(entry.name, by_node): entry for entry in entries}
    parts = []
    for node in nodes:
        spec = by_node[node][1]
        own = named.get(node)
        sizes = own.sizes if own is not None and _fits_rank(own, spec) else spec.shape
        shown = "..." if sizes is None else ",".join(map(str, sizes)) or "0"
        parts.append(f"{plain_node_name(node)}:{shown}")
    return f"{SHAPES}: {';'.join(parts)}"


def _fits_rank(entry: _ShapeEntry, spec: TensorSpec) -> bool:
    return spec.shape is None or len(entry.sizes) == len(spec.shape)


def _entries(value: object) -> list[_ShapeEntry]:
    """The entries of input_shape; none where its form is wrong, which is found elsewhere."""
    if not isinstance(value, str):
        return []
    entries = []
    for text in value.split(";"):
        if not text:
            continue
        found = re.fullmatch(r"([^:;]+):(-?[0-9]{1,18}(?:,-?[0-9]{1,18})*)", text)
        if found is None:
            return []
        entries.append(_ShapeEntry(found[1], () if found[2] == "0" else tuple(map(int, found[2].split(",")))))
    return entries


def _gears(value: object) -> list[tuple[int, ...]]:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{1,18}(?:[,;][0-9]{1,18})*;?", value):
        return []
    return [tuple(map(int, gear.split(","))) for gear in value.split(";") if gear]
