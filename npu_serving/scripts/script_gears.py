"""The gears of a script: of the whole graph, of a part of it, and the ranges of its inputs; with the guide's rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from npu_serving.deploy.gear_checks import check_gears, gear_shapes, plain_node_name
from npu_serving.errors import RequestError
from npu_serving.models.saved_model import GraphContent, TensorSpec
from npu_serving.options.catalogue import OptionValue
from npu_serving.scripts.script_model import DEFAULT_SIGNATURE, ScriptModel, check_nodes
from npu_serving.scripts.script_options import refuse_findings
from npu_serving.shown_text import in_a_line

SHAPES, DIMS, NODE_TYPE = "input_shape", "dynamic_dims", "dynamic_node_type"
_DATASET, _PLACEHOLDERS = 0, 1  # the values of dynamic_node_type
_PART_SHAPE = re.compile(r"([0-9]{1,4}):((?:-1|[0-9]{1,18})(?:,(?:-1|[0-9]{1,18}))*)")
_PART_GEAR = re.compile(r"[0-9]{1,18}(?:,[0-9]{1,18})*")
_GROUP = re.compile(r"(data|getnext):((?:\[[^\]]*\],?)*)")

GearShapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class ScriptPart:
    """A node at the beginning of a part of the graph, the shapes of its inputs by their numbers, and its gears."""

    node: str
    shapes: str
    gears: str


@dataclass(frozen=True)
class WholeGears:
    """The three options of gears, the shapes of the inputs in each gear, and what is to be said of them."""

    options: Mapping[str, OptionValue]
    shapes: tuple[GearShapes, ...]
    notes: tuple[str, ...] = ()


def whole_gears(
    asked: Mapping[str, OptionValue], model: ScriptModel, from_dataset: Sequence[str], fed: Sequence[str]
) -> WholeGears:
    """The gears of the whole graph, for what comes from the dataset or for what is fed.

    Without input_shape it follows from the model: a size that it leaves open is one of the gears'. RequestError where
    the gears don't fit the inputs, and where inputs of both kinds change their size, of which only one may (the guide,
    5.6).
    """
    kind = asked.get(NODE_TYPE, _DATASET if from_dataset else _PLACEHOLDERS)
    names, others = (from_dataset, fed) if kind == _DATASET else (fed, from_dataset)
    if not names:
        what = "the dataset" if kind == _DATASET else "placeholders"
        raise RequestError(
            f"{NODE_TYPE} is {kind}, for inputs from {what}, and the script has none.",
            cause="0 is for a dataset, 1 for what is fed",
            cure=f"--option {NODE_TYPE}={_PLACEHOLDERS if kind == _DATASET else _DATASET}, or leave it out",
        )
    for name in others:
        _refuse_changing(name, model.inputs[name])
    options = {SHAPES: asked.get(SHAPES, "") or _shapes(names, model), DIMS: asked[DIMS], NODE_TYPE: kind}
    graph = model.meta_graph(names)
    found = list(check_gears({**options, NODE_TYPE: _PLACEHOLDERS}, graph, "--option"))
    refuse_findings(found)
    shapes = gear_shapes({**options, NODE_TYPE: _PLACEHOLDERS}, graph.signatures[DEFAULT_SIGNATURE])
    if not shapes:
        raise RequestError(
            f"{DIMS} {asked[DIMS]!r} does not fit {SHAPES} {options[SHAPES]!r}.",
            cause=f"each gear has a size for each -1 of {SHAPES}, in their order",
            cure=f"give --option {DIMS}='SIZES;SIZES', with , between the sizes of a gear",
        )
    return WholeGears(options, tuple(shapes), tuple(item.what for item in found))


def part_gears(words: Sequence[str], graph: GraphContent | None) -> tuple[ScriptPart, ...]:
    """The parts of `--part NODE=SHAPES=GEARS`, such as `resize=0:-1,-1,3=480,480;960,960`.

    RequestError for another form, and where the rules are broken: the shapes of all inputs of the node, by their
    numbers; a size in each gear for each -1; as many gears at each node (the guide, 5.6).
    """
    if not words:
        raise RequestError(
            "The feature subgraph-gears needs --part.",
            cause="it says where the part of the graph begins, and for which sizes it is compiled",
            cure="--part 'NODE=0:-1,-1,3=480,480;960,960'",
        )
    parts = tuple(map(_part, words))
    nodes = [part.node for part in parts]
    twice = next((node for node in nodes if nodes.count(node) > 1), None)
    if twice is not None:
        raise RequestError(f"--part names {in_a_line(twice)} twice.", cure="leave one of the two out")
    counts = {part.node: part.gears.count(";") + 1 for part in parts}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{in_a_line(node)} has {count}" for node, count in counts.items())
        raise RequestError(
            f"The nodes of a part have different numbers of gears: {shown}.",
            cause="a gear is chosen for the whole part (the guide, 5.6)",
            cure="give each --part as many gears",
        )
    if graph is not None:
        check_nodes(graph, nodes, "--part")
        for part in parts:
            _check_inputs(part, graph)
    return parts


def check_ranges_of_inputs(ranges: str, model: ScriptModel, from_dataset: Sequence[str], fed: Sequence[str]) -> None:
    """RequestError where dynamic_inputs_shape_range has not a shape for each input, or one that its input can't have.

    The order is the dataset's, and for placeholders that of their names (the guide, 7.3).
    """
    groups = {found[1]: found[2] for found in _GROUP.finditer(re.sub(r"\s", "", ranges))}
    for label, names in (("getnext", from_dataset), ("data", fed)):
        shapes = re.findall(r"\[([^\]]*)\]", groups.get(label, ""))
        ordered = in_byte_order(names, model)
        if len(shapes) != len(ordered):
            raise RequestError(
                f"dynamic_inputs_shape_range has {len(shapes)} shapes in {label}, and the script has "
                f"{len(ordered)} such inputs{': ' if ordered else ''}{', '.join(map(in_a_line, ordered))}.",
                cause="getnext is for what the dataset gives, data for what is fed; fixed inputs count as well",
                cure=f"write a shape for each in this order, such as {label}:[1~32,224,224,3],[]",
            )
        for name, shape in zip(ordered, shapes):
            _check_range(name, shape, model.inputs[name])


def in_byte_order(names: Iterable[str], model: ScriptModel) -> list[str]:
    """Inputs by the bytes of their nodes' names, as TF Adapter counts them."""
    return sorted(names, key=lambda name: model.inputs[name].node.encode("utf-8", "surrogatepass"))


def _shapes(names: Sequence[str], model: ScriptModel) -> str:
    """input_shape as the model has it."""
    entries = []
    for name in in_byte_order(names, model):
        spec = model.inputs[name]
        if spec.shape is None:
            raise RequestError(
                f"The model does not say how many dimensions {in_a_line(name)} has.",
                cause="its placeholder takes any shape",
                cure=f"--option {SHAPES}='{plain_node_name(spec.node)}:-1,SIZE', with all inputs, ordered by name",
            )
        sizes = ",".join("-1" if size < 0 else str(size) for size in spec.shape)
        entries.append(f"{plain_node_name(spec.node)}:{sizes or '0'}")
    return ";".join(entries)


def _refuse_changing(name: str, spec: TensorSpec) -> None:
    if spec.shape is None or any(size < 0 for size in spec.shape):
        raise RequestError(
            f"The input {in_a_line(name)} changes its size as well: {spec.describe()}.",
            cause="of inputs from a dataset and inputs that are fed, only one kind may have gears (the guide, 5.6)",
            cure=f"leave {name} out of --fed, or add it, or freeze the model with a fixed size for it",
        )


def _part(text: str) -> ScriptPart:
    node, first, rest = text.partition("=")
    shapes, second, gears = rest.partition("=")
    if not (node and first and second):
        raise RequestError(
            f"--part {text!r} is not NODE=SHAPES=GEARS.",
            cause="it says where the part begins, which sizes change, and their values",
            cure="write it like --part 'NODE=0:-1,-1,3=480,480;960,960'",
        )
    node = node.partition(":")[0]
    entries = [_PART_SHAPE.fullmatch(entry) for entry in shapes.split(";")]
    if None in entries:
        raise RequestError(
            f"--part has the shapes {shapes!r} for {in_a_line(node)}, which are not NUMBER:SIZES.",
            cause="the inputs of a part are named by their numbers, not by names (the guide, 5.6)",
            cure="write 0:-1,-1,3 for the first input; a ; is between inputs",
        )
    numbers = [found[1] for found in entries if found is not None]
    changing = sum(found[2].split(",").count("-1") for found in entries if found is not None)
    if len(set(numbers)) < len(numbers):
        raise RequestError(f"--part has an input of {in_a_line(node)} twice.", cure="leave one of the two out")
    each = gears.split(";")
    wrong = [gear for gear in each if _PART_GEAR.fullmatch(gear) is None or gear.count(",") + 1 != changing]
    if wrong or not changing:
        raise RequestError(
            f"--part has {changing} sizes of -1 for {in_a_line(node)}, and the gear {wrong[0] if wrong else gears}.",
            cause="each gear has one size for each -1 (the guide, 5.6)",
            cure="write the gears with ; between them, and , between the sizes of one",
        )
    if len(each) < 2:
        raise RequestError(
            f"--part has one gear for {in_a_line(node)}.",
            cause="with one the sizes are fixed",
            cure="write two gears or more, with ; between them",
        )
    return ScriptPart(node, shapes, gears)


def _check_inputs(part: ScriptPart, graph: GraphContent) -> None:
    """RequestError where an input's shape is missing, or is there for an input that the node does not have."""
    inputs = graph.by_name[part.node].inputs
    given = {int(entry.partition(":")[0]) for entry in part.shapes.split(";")}
    changing = {number for number, name in enumerate(inputs) if _is_computed(name, graph)}
    if given - set(range(len(inputs))) or changing - given:
        wanted = _listed(changing) or "none that changes"
        raise RequestError(
            f"--part has the inputs {_listed(given)} of {in_a_line(part.node)}, and it has {wanted}.",
            cause="the shapes of all inputs are needed, those of constants apart (the guide, 5.6)",
            cure="write a shape for each, such as 0:-1,-1,3;1:1",
        )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


def _is_computed(name: str, graph: GraphContent) -> bool:
    node = graph.by_name.get(name)
    return node is None or node.operator != "Const"


def _check_range(name: str, shape: str, spec: TensorSpec) -> None:
    sizes = shape.split(",") if shape else []
    if spec.shape is None:
        return
    fits = len(sizes) == len(spec.shape) and all(
        own < 0 or size == "-1" or _includes(size, own) for size, own in zip(sizes, spec.shape)
    )
    if not fits:
        raise RequestError(
            f"dynamic_inputs_shape_range has [{shape}] for the input {in_a_line(name)}, which is {spec.describe()}.",
            cause="the shapes stand in the order of the dataset, or of the placeholders' names (the guide, 7.3)",
            cure="write them in that order, each with all its sizes",
        )


def _includes(size: str, own: int) -> bool:
    low, _, high = size.partition("~")
    highest = high or low
    return int(low) <= own and (highest == "-1" or own <= int(highest))
