"""`convert-pb`: a frozen graph, a checkpoint or a SavedModel made a version that a server loads, without TensorFlow.

The nodes that the outputs need are taken over as they stand in the file; only what TensorFlow 1.15.0 would trip over is
written again. It is looked at first as its importer does, so that a version that is published loads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from npu_serving import fsutil
from npu_serving.console import Reporter, amount_text
from npu_serving.conversion.edited_nodes import Edits
from npu_serving.conversion.fixed_conditions import with_constants
from npu_serving.conversion.graph_pieces import GraphPieces, graph_message, pieces_of
from npu_serving.conversion.needed_nodes import (
    ImportCheck,
    needed_functions,
    needed_names,
    refuse_double,
    refuse_unknown_operators,
    unknown_operators,
)
from npu_serving.conversion.signature_ends import SignatureEnds, chosen_ends, made_signature
from npu_serving.conversion.sources import ConversionSource, read_source
from npu_serving.conversion.tables import START_NODE, TableFilling, table_filling
from npu_serving.conversion.weights import SMALLEST_VARIABLE, Weights, with_variables
from npu_serving.errors import RequestError
from npu_serving.models.checkpoint import open_checkpoint
from npu_serving.models.checkpoint_writer import write_checkpoint
from npu_serving.models.freezing import frozen_graph, variables_of
from npu_serving.models.graph_def import FunctionDef, GraphDef, NodeDef
from npu_serving.models.layout import check_model_name
from npu_serving.models.pieces import Piece, pieces_size
from npu_serving.models.saved_model import ModelSignature
from npu_serving.models.saved_model_writer import (
    ASSETS,
    EXTRA_ASSETS,
    SERVE_TAG,
    VARIABLES,
    ServableGraph,
    checked_version,
    new_version,
    refuse_too_large,
    write_saved_model,
)
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import command_line

_SHOWN = 5


@dataclass(frozen=True)
class ConversionRequest:
    """What is asked for; `inputs` and `outputs` as they were typed, `batch_size` 0 for that of the graph."""

    source: Path
    output: Path
    version: int | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    signature: str = ""
    method: str = ""
    tags: tuple[str, ...] = ()
    batch_size: int = 0
    keep_unused: bool = False
    keep_devices: bool = False
    weights_as_variables: bool = False
    custom_operators: tuple[str, ...] = ()
    constants: Mapping[str, str] = field(default_factory=dict)
    assets: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class ConversionPlan:
    """A version that can be written, and what was done to get there."""

    request: ConversionRequest
    source: ConversionSource
    version: int
    nodes: tuple[NodeDef, ...]
    functions: tuple[FunctionDef, ...]
    signatures: Mapping[str, ModelSignature]
    main_op: str
    assets: Mapping[str, Path]
    left_out: int
    edits: Edits
    size_bytes: int
    frozen: tuple[str, ...] = ()
    """The variables that became constants."""
    weights: Weights | None = None
    """The constants that became variables."""
    notes: tuple[str, ...] = ()

    @property
    def directory(self) -> Path:
        """Where the version will be."""
        return self.request.output / str(self.version)

    @property
    def tags(self) -> tuple[str, ...]:
        """Those of the graph; a server asks for serve unless its configuration has others."""
        return self.source.tags or (SERVE_TAG,)

    def to_json(self) -> dict[str, object]:
        """The version, its signatures, and what became of the nodes."""
        return {
            "source": str(self.source.path),
            "kind": self.source.kind,
            "directory": str(self.directory),
            "version": self.version,
            "tags": list(self.tags),
            "signatures": {name: each.to_json() for name, each in sorted(self.signatures.items())},
            "nodes": len(self.nodes),
            "functions": len(self.functions),
            "left_out_nodes": self.left_out,
            "removed_devices": dict(sorted(self.edits.devices.items())),
            "removed_attributes": dict(sorted(self.edits.later.items())),
            "frozen_variables": list(self.frozen),
            "assets": sorted(path.name for path in self.assets.values()),
            "saved_model_bytes": self.size_bytes,
            "variables": 0 if self.weights is None else len(self.weights.constants),
            "variables_bytes": 0 if self.weights is None else self.weights.size_bytes,
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """What would be written."""
        return f"Would write {self.described()}"

    def described(self) -> str:
        """The version and what became of the graph, a line each."""
        lines = [f"{self.directory}: {len(self.nodes):,} nodes, saved_model.pb {amount_text(self.size_bytes, 'bytes')}"]
        for name, signature in sorted(self.signatures.items()):
            lines.append(f"  signature {in_a_line(name)} ({signature.method_name.rpartition('/')[2]})")
            for side, tensors in (("input ", signature.inputs), ("output", signature.outputs)):
                lines += [f"    {side} {in_a_line(key)}: {tensors[key].describe()}" for key in sorted(tensors)]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


@dataclass(frozen=True)
class ConvertedModel:
    """The version that was written."""

    plan: ConversionPlan

    def to_json(self) -> dict[str, object]:
        """What the plan has, and the next step."""
        return {**self.plan.to_json(), "next": self._next()}

    def text(self) -> str:
        """What was written, and what to type next."""
        return f"{self.plan.described()}\n\nNext: {'; then '.join(self._next())}"

    def _next(self) -> list[str]:
        base = self.plan.request.output
        return [
            command_line(["./inv", "check-model", base]),
            command_line(["./inv", "init-deployment", "--model", f"{base.name}={base}"]),
        ]


def plan_conversion(request: ConversionRequest, reporter: Reporter) -> ConversionPlan:
    """What would be written. The errors of a file or a request that no servable can be made of; nothing is written."""
    check_model_name(request.output.absolute().name)
    version = checked_version(request.output, request.version)
    with reporter.progress(f"read {request.source.name}"):
        source = read_source(request.source, request.tags)
        refuse_double(source.graph.nodes)
        return _planned(request, source, version)


def convert(plan: ConversionPlan, reporter: Reporter) -> ConvertedModel:
    """Writes the version. The errors are those of writing files, and of a source that was changed meanwhile."""
    with (
        new_version(plan.request.output, plan.request.version) as made,
        reporter.progress(f"write {plan.directory}", total=plan.size_bytes, unit="bytes") as progress,
        ExitStack() as stack,
    ):
        _copy_assets(plan, made.directory)
        parts = stack.enter_context(pieces_of(plan.source.graph))
        if plan.weights is not None:
            write_checkpoint(made.directory / VARIABLES / VARIABLES, plan.weights.variables(parts))
        write_saved_model(made.directory, [_servable(plan, _pieces(plan, parts))], progress.update)
    return ConvertedModel(replace(plan, version=made.number))


def _planned(request: ConversionRequest, source: ConversionSource, version: int) -> ConversionPlan:
    ends = chosen_ends(
        source, with_constants(source.graph, request.constants), request.inputs, request.outputs, request.batch_size
    )
    if ends.is_from_source:
        _refuse_without_effect(request)
    graph = ends.graph
    wanted = [*ends.nodes, *([source.main_op] if source.main_op else [])]
    names = needed_names(graph, wanted, ends.cut)
    filling = TableFilling() if source.main_op else table_filling(graph, names, request.assets, source.path.parent)
    names |= needed_names(graph, filling.nodes)
    variables = variables_of(graph, names)
    if variables:
        graph = _frozen(request, source, graph, [*wanted, *filling.nodes], ends.cut)
        names = needed_names(graph, [*wanted, *filling.nodes], ends.cut)
    if request.keep_unused:
        names = needed_names(graph, graph.by_name)
    edits = Edits(request.keep_devices, drop_noted_shapes=bool(ends.shapes))
    kept = [node for node in graph.nodes if node.name in names]
    functions = needed_functions(graph, kept)
    refuse_unknown_operators(unknown_operators(kept, functions, request.custom_operators))
    nodes = {node.name: edits.edited(node) for node in kept}
    ends.refuse_unfed(nodes)
    changed = {name: edits.edited_function(function) for name, function in functions.items()}
    if filling.nodes:
        nodes[START_NODE] = NodeDef(START_NODE, "NoOp", tuple(f"^{name}" for name in filling.nodes))
    ImportCheck(nodes, changed).refuse()
    weights = None
    if request.weights_as_variables:
        nodes, weights = with_variables(nodes)
    signatures = _signatures(request, source, ends)
    plan = ConversionPlan(
        request,
        source,
        version,
        tuple(nodes.values()),
        tuple(changed.values()),
        signatures,
        START_NODE if filling.nodes else source.main_op,
        {**source.assets, **filling.files},
        len(source.graph.nodes) - len(kept),
        edits,
        0,
        tuple(node.name for node in variables),
        weights,
    )
    with pieces_of(source.graph) as parts:
        size = pieces_size(_pieces(plan, parts))
    refuse_too_large(size)
    return replace(plan, size_bytes=size, notes=(*ends.notes, *_notes(plan)))


def _refuse_without_effect(request: ConversionRequest) -> None:
    """RequestError for what is about a signature that is made, where those of a SavedModel are kept."""
    for flag, value in (("--signature", request.signature), ("--method-name", request.method)):
        if value:
            raise RequestError(
                f"{flag} would have no effect.",
                cause="the SavedModel has signatures of its own, which stay as they are",
                cure=f"leave out {flag}, or make one signature: add --inputs and --outputs",
            )


def _signatures(request: ConversionRequest, source: ConversionSource, ends: SignatureEnds) -> dict[str, ModelSignature]:
    """Those of the source with what was typed in their place; a SavedModel keeps its own where nothing was."""
    if ends.is_from_source:
        return dict(ends.signatures)
    made = made_signature(ends, request.method)
    return {request.signature or "serving_default": made}


def _notes(plan: ConversionPlan) -> list[str]:
    notes = []
    if plan.frozen:
        notes.append(f"variables made constants: {len(plan.frozen):,}, by {plan.source.checkpoint}")
    if plan.left_out:
        notes.append(f"left out: {plan.left_out:,} nodes that the outputs don't need")
    if plan.edits.devices:
        count = sum(plan.edits.devices.values())
        notes.append(f"device placements removed: {count:,} nodes ({_listed(sorted(plan.edits.devices))})")
    if plan.edits.later:
        notes.append(f"attributes that TensorFlow 1.15.0 does not know removed: {_listed(sorted(plan.edits.later))}")
    if plan.weights is not None:
        size = amount_text(plan.weights.size_bytes, "bytes")
        notes.append(f"constants made variables: {len(plan.weights.constants):,}, of {size} in all")
    elif plan.request.weights_as_variables:
        least = amount_text(SMALLEST_VARIABLE, "bytes")
        notes.append(f"constants made variables: none, since none of them holds {least} or more")
    if plan.main_op:
        notes.append(f"run when the model is loaded: {plan.main_op}")
    if plan.assets:
        notes.append(f"assets: {_listed(sorted(path.name for path in plan.assets.values()))}")
    return notes


def _pieces(plan: ConversionPlan, parts: GraphPieces) -> list[Piece]:
    """The GraphDef."""
    graph = plan.source.graph
    return graph_message([*parts.nodes(plan.nodes), *parts.functions(plan.functions, graph.functions)], graph.versions)


def _servable(plan: ConversionPlan, pieces: Sequence[Piece]) -> ServableGraph:
    assets = {tensor: path.name for tensor, path in plan.assets.items()}
    saver = None if plan.weights is None else plan.weights.saver
    return ServableGraph(pieces, plan.signatures, plan.tags, plan.main_op, assets, saver)


def _copy_assets(plan: ConversionPlan, directory: Path) -> None:
    names: dict[str, Path] = {}
    for path in plan.assets.values():
        if names.setdefault(path.name, path) != path:
            raise RequestError(
                f"Two files of tables have one name: {names[path.name]} and {path}.",
                cause="in assets/ each file has a name of its own",
                cure="rename one of them",
            )
        fsutil.copy_file(path, directory / ASSETS / path.name)
    if (extra := plan.source.extra_assets) is not None:
        with fsutil.explained(extra, doing="copied"):
            for place, _, files in fsutil.walk(extra, onerror=_raised):
                for file in (Path(place, name) for name in files):  # a pipe, or a device without an end, is refused
                    fsutil.copy_file(file, directory / EXTRA_ASSETS / file.relative_to(extra))


def _raised(error: OSError) -> None:
    raise error


def _frozen(
    request: ConversionRequest, source: ConversionSource, graph: GraphDef, wanted: Sequence[str], cut: Collection[str]
) -> GraphDef:
    """The graph with constants in place of its variables. RequestError where their values are not there."""
    if source.checkpoint is None and source.path.suffix == ".meta":
        open_checkpoint(source.path.with_suffix(""))  # says what is the matter with it
    if source.checkpoint is None:
        missing = variables_of(graph, needed_names(graph, wanted, cut))
        raise RequestError(
            f"The outputs need variables, such as {missing[0].name}, and {source.path} has no values for them.",
            cause="the graph was not frozen: the values of its variables stand in a checkpoint",
            cure="convert the .meta file of the checkpoint, with its .index and .data files beside it",
        )
    if request.keep_unused:
        raise RequestError(
            "--keep-unused would keep nodes that save and train variables, which become constants.",
            cause=f"the values of the variables come from {source.checkpoint}",
            cure="leave out --keep-unused",
        )
    return frozen_graph(graph, wanted, open_checkpoint(source.checkpoint), fed=cut)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(in_a_line, names[:_SHOWN])) + more
