"""partition-graph: what of a model the NPU computes, the in_out_pair that follows, and what a run has made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving.cann.operator_list import OperatorLists
from npu_serving.console import table
from npu_serving.errors import EXIT_ACTION_NEEDED, RequestError
from npu_serving.findings import NOTE, PROBLEM, WARNING, Finding
from npu_serving.inspection.folded_graph import PictureNode
from npu_serving.inspection.picture import CPU, GREY, NOTHING, NPU, SIDES, draw_overview, write_picture
from npu_serving.options.in_out_pair import MIXED, OPTION, pairs_text
from npu_serving.partition.asked_graph import AskedGraph
from npu_serving.partition.check_result import Comparison, compared, read_check_result
from npu_serving.partition.npu_rules import GREY as GREY_REASON
from npu_serving.partition.plan import FLEETING, Division, divided, hindered_operators, taken_by
from npu_serving.partition.run_graph import FED, run_graph
from npu_serving.shown_text import in_a_line
from npu_serving.writers.shell import command_line
from npu_serving.writers.yaml import yaml_block

KIND = "partition"
_SHOWN = 5
_REASONS_SHOWN = 25


@dataclass(frozen=True)
class GraphPartition:
    """What was found of one signature's graph; `options` are those that put it into effect."""

    asked: AskedGraph
    division: Division = field(repr=False)
    lists: OperatorLists = field(repr=False)
    options: Mapping[str, bool | str]
    findings: tuple[Finding, ...]
    with_nodes: bool = False
    comparison: Comparison | None = None
    picture: Path | None = None
    deployment: Path | None = None
    written: bool = False

    @property
    def exit_code(self) -> int:
        """3 where something has to be done first, or where a run went otherwise than foreseen."""
        went_wrong = self.comparison is not None and not self.comparison.agrees
        needs_action = went_wrong or any(finding.needs_action for finding in self.findings)
        return EXIT_ACTION_NEEDED if needs_action else 0

    def to_json(self) -> dict[str, object]:
        """All of it; each node only where asked for."""
        division = self.division
        return {
            "model": str(self.asked.path),
            "signature": self.asked.signature,
            "inputs": list(self.asked.feeds),
            "outputs": list(self.asked.fetches),
            "list": str(self.lists.path),
            "nodes": division.counted,
            "constants": len(division.sides.constants),
            "npu_could_compute": len(division.able),
            "on_npu": len(division.able & division.on_npu) if division.needs_pair else len(division.able),
            "by_itself": division.by_itself,
            "on_cpu": [
                {"operator": operator, "nodes": count, "why": why}
                for (operator, why), count in hindered_operators(division).items()
            ],
            "parts": [
                {
                    "nodes": len(division.able & part.nodes),
                    "values_in": part.values_in,
                    "values_out": part.values_out,
                    "is_best": part.is_best,
                    "pairs": [[list(pair.firsts), list(pair.lasts)] for pair in part.pairs],
                }
                for part in division.parts
            ],
            "one_part_more": division.rest,
            "options": dict(self.options),
            "findings": [
                {
                    "severity": finding.severity,
                    "what": finding.what,
                    "cure": finding.cure,
                    "details": list(finding.details),
                }
                for finding in self.findings
            ],
            **({"each_node": self._each_node()} if self.with_nodes else {}),
            "comparison": self.comparison.to_json() if self.comparison is not None else None,
            "picture": str(self.picture) if self.picture is not None else None,
            "deployment": str(self.deployment) if self.deployment is not None else None,
            "written": self.written,
            "exit_code": self.exit_code,
        }

    def text(self) -> str:
        """The share, what stays on the CPU and why, the parts, and what to write."""
        division = self.division
        able, counted = len(division.able), division.counted
        lines = [
            f"{self.asked.describe()}: {counted} nodes run, {len(division.sides.constants)} constants aside.",
            f"  The NPU can compute {able} of them ({_percent(able, counted)}), by {self.lists.path}.",
        ]
        lines += self._left_to_the_cpu()
        lines += ["", *self._advice()]
        if self.with_nodes:
            rows = [(each["name"], each["operator"], each["side"], each["why"]) for each in self._each_node()]
            lines += [
                "",
                table([tuple(map(in_a_line, row)) for row in rows], header=("NODE", "OPERATOR", "SIDE", "WHY")),
            ]
        for finding in self.findings:
            heading = {PROBLEM: "Problem", WARNING: "Warning", NOTE: "Note"}[finding.severity]
            lines += ["", f"{heading}: {in_a_line(finding.what)}"]
            lines += [f"  {in_a_line(detail)}" for detail in finding.details]
            lines += [f"Next: {finding.cure}"] if finding.cure else []
        if self.comparison is not None:
            lines += ["", self.comparison.text()]
        if self.picture is not None:
            lines += ["", f"The picture is in {self.picture}."]
        return "\n".join(lines)

    def _left_to_the_cpu(self) -> list[str]:
        rows = [
            (in_a_line(operator), str(count), in_a_line(why))
            for (operator, why), count in hindered_operators(self.division).items()
        ]
        if not rows:
            return []
        more = [f"and {len(rows) - _REASONS_SHOWN} more rows: --json has all"] if len(rows) > _REASONS_SHOWN else []
        return ["", table(rows[:_REASONS_SHOWN], header=("STAYS ON THE CPU", "NODES", "WHY")), *more]

    def _advice(self) -> list[str]:
        division = self.division
        if not division.parts:
            return ["Nothing is left for the NPU: the CPU would silently serve the model."]
        if not division.needs_mixed:
            return ["All of it goes to the NPU in one part: leave mix_compile_mode and in_out_pair out."]
        if not division.needs_pair:
            why = "the adapter takes these nodes in one part by itself"
            if len(division.parts) > 1:
                why = f"the adapter takes these nodes in {division.by_itself} parts by itself"
            lines = [f"{MIXED} without {OPTION}: {why}."]
        else:
            on_npu = len(division.able & division.on_npu)
            several = "one part" if len(division.parts) == 1 else f"{len(division.parts)} parts"
            lines = [
                f"The best division in {several} has {on_npu} nodes ({_percent(on_npu, division.counted)}) on the NPU."
            ]
            for number, part in enumerate(division.parts, 1):
                name = (
                    "It" if len(division.parts) == 1 else f"Part {number}, of {len(division.able & part.nodes)} nodes,"
                )
                values = "1 value" if part.values_in == 1 else f"{part.values_in} values"
                lines.append(f"  {name} is given {values} and gives {part.values_out}.")
            if division.rest:
                count = len(division.parts) + 1
                more = "1 node" if division.rest == 1 else f"{division.rest} nodes"
                lines.append(f"  --parts {count} would put {more} more there, with one more way there and back.")
            able = len(division.able)
            lines.append(
                f"  Without {OPTION} the adapter takes all {able} nodes, in {division.by_itself} parts or more."
            )
        if self.deployment is not None:
            verb = "Written into" if self.written else "To be written into"
            lines.append(f"{verb} {self.deployment}:")
        else:
            lines.append("Write this into the model's session options (npu: in deployment.yaml):")
        lines += yaml_block(dict(self.options), 2).rstrip("\n").split("\n")
        return lines

    def _each_node(self) -> list[dict[str, str]]:
        return [
            {"name": name, "operator": node.op, "side": side, "why": why}
            for name, node, (side, why) in zip(
                self.division.graph.names, self.division.graph.nodes, node_sides(self.division)
            )
        ]


def node_sides(division: Division) -> list[tuple[str, str]]:
    """The side of each node, NPU, CPU or "either" for constants, and why; "" where the NPU has it."""
    on_npu = division.on_npu if division.needs_pair else division.able
    found = []
    for number in range(len(division.graph.nodes)):
        hindrance = division.sides.hindrances.get(number)
        if hindrance is not None:
            found.append(("CPU", hindrance.why))
        elif number in on_npu:
            found.append(("NPU", ""))
        elif number in division.sides.constants:
            found.append(("either", "a constant goes along with who reads it"))
        elif division.graph.nodes[number].op in FLEETING:
            found.append(("CPU", "it computes nothing, at the end of a part"))
        else:
            found.append(("CPU", "a way through it would lead out of a part and back"))
    return found


def partition_graph(
    asked: AskedGraph,
    lists: OperatorLists,
    *,
    parts: int = 1,
    variables_on_host: bool = False,
    with_nodes: bool = False,
    check_result: Path | None = None,
) -> GraphPartition:
    """The graph of that signature divided by the adapter's rules. RequestError, ModelFileError where it can't run."""
    if parts < 1:
        raise RequestError(
            f"--parts can't be {parts}.",
            cause="it is how often a request may go over to the NPU",
            cure="use --parts 1, or a larger number",
        )
    graph = run_graph(asked.graph, feeds=asked.feeds, fetches=asked.fetches)
    division = divided(graph, lists, parts=parts, variables_on_host=variables_on_host)
    comparison = None
    if check_result is not None:
        comparison = compared(check_result, read_check_result(check_result), division, asked.graph)
    options: dict[str, bool | str] = {}
    if division.parts and division.needs_mixed:
        options[MIXED] = True
        if division.needs_pair:
            options[OPTION] = pairs_text(division.pairs)
    findings = tuple(_findings(asked, division, lists, variables_on_host, OPTION in options))
    return GraphPartition(asked, division, lists, options, findings, with_nodes, comparison)


def _findings(
    asked: AskedGraph, division: Division, lists: OperatorLists, variables_on_host: bool, has_pair: bool
) -> Iterable[Finding]:
    if not division.parts:
        yield Finding(
            f"No operator that {asked.describe()} runs goes to the NPU.",
            "name another list with --supported, or convert the model to operators that CANN's list has",
            PROBLEM,
            KIND,
        )
        return
    apart = division.variables_apart() if not variables_on_host and division.needs_mixed else ()
    if apart:
        count = len(dict(apart))
        yield Finding(
            f"{'A variable is' if count == 1 else f'{count} variables are'} used by nodes on the CPU: "
            f"with {MIXED} the adapter fails each run.",
            "write variable_placement: Host beside it, or make the variables constants: "
            + command_line(["./inv", "convert-pb", asked.path, "--output", "models/NAME"]),
            PROBLEM,
            KIND,
            details=tuple(f"{variable}, used by {node}" for variable, node in apart[:_SHOWN]),
        )
    if not has_pair:
        return
    if not all(part.is_best for part in division.parts):
        yield Finding(
            "The graph changes sides so often that the best part was not searched to the end: this is a good one.",
            severity=NOTE,
            kind=KIND,
        )
    numbers = division.graph.numbers
    passing = [
        name
        for pair in division.pairs
        if len(pair.firsts) > 1 or pair.firsts != pair.lasts
        for name in pair.lasts
        if division.graph.nodes[numbers[name]].op in FLEETING and numbers[name] not in division.graph.fetched
    ]
    if passing:
        yield Finding(
            f"{OPTION} has a last node that only passes a value on: where TensorFlow's optimizers take it out, "
            "the adapter silently takes the whole graph.",
            "compare after the first run: --from check_result.tf.json",
            WARNING,
            KIND,
            details=tuple(passing[:_SHOWN]),
        )
    yield from _of_other_signatures(asked, division, lists)


def _of_other_signatures(asked: AskedGraph, division: Division, lists: OperatorLists) -> Iterable[Finding]:
    """What the pairs do to the graphs of the other signatures: the adapter has one in_out_pair for all."""
    for name, (feeds, fetches) in asked.others.items():
        graph = run_graph(asked.graph, feeds=feeds, fetches=fetches)
        other = divided(graph, lists)
        taken = taken_by(graph, division.pairs)
        wrong = [number for number in sorted(taken) if number in other.sides.hindrances]
        if wrong:
            yield Finding(
                f"For the signature {name} the ranges take in nodes that stay on the CPU: its runs would fail.",
                "serve the signatures as two models with options of their own, or leave in_out_pair out",
                PROBLEM,
                KIND,
                details=tuple(f"{graph.names[number]} ({graph.nodes[number].op})" for number in wrong[:_SHOWN]),
            )
        elif not taken and other.needs_mixed:
            yield Finding(
                f"The graph of the signature {name} has none of the ranges: the adapter divides it by itself.",
                severity=NOTE,
                kind=KIND,
            )


def draw_partition(found: GraphPartition, path: Path) -> None:
    """Writes the picture of the graph with both sides coloured. MissingToolError where Graphviz is missing."""
    graph, sides = found.division.graph, found.division.sides
    kinds = {"NPU": NPU, "CPU": CPU, "either": NOTHING}
    nodes = []
    for number, (side, _) in enumerate(node_sides(found.division)):
        hindrance = sides.hindrances.get(number)
        kind = GREY if hindrance is not None and hindrance.code == GREY_REASON else kinds[side]
        inputs = [
            ("^" if each.is_control else "") + graph.names[each.node]
            for each in graph.inputs[number]
            if each.node != FED
        ]
        nodes.append(PictureNode(graph.names[number], graph.nodes[number].op, inputs, kind))
    write_picture(draw_overview(nodes, title=found.asked.describe(), legend=SIDES), path)


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 0:.1f} %"
