"""suggest-gears: input_shape and dynamic_dims for the shapes that clients send, and what each gear costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from npu_serving import fsutil
from npu_serving.console import Reporter, table
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.deploy.gear_checks import GEARS, NODE_TYPE, PLACEHOLDERS, SHAPES, check_gears
from npu_serving.errors import RequestError
from npu_serving.models.layout import check_model_directory, version_directories
from npu_serving.models.saved_model import SAVED_MODEL, MetaGraph, read_saved_model
from npu_serving.shown_text import in_a_line
from npu_serving.tuning.changing_shapes import ChangingShapes, changing_shapes, shape_to_cover
from npu_serving.tuning.gear_choice import FEWEST, MOST, GearChoice, choose_gears
from npu_serving.tuning.knobs import TunedSetting, index_of_model, place_of_options
from npu_serving.tuning.seen_shapes import SeenShapes, Sizes, seen_shapes
from npu_serving.tuning.tuned_file import write_tuned
from npu_serving.writers.yaml import yaml_string

MARK = "# suggest-gears: "
USUAL_MOST = 8
_COMPARED = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100)


@dataclass(frozen=True)
class SuggestedGears:
    """The gears, what they compute, and what other numbers of gears would."""

    seen: SeenShapes
    changing: ChangingShapes
    choice: GearChoice | None
    """None where one shape is all that came, for which no gears are needed."""
    needed: float
    by_number: tuple[tuple[int, float], ...] = ()
    """Numbers of gears, and what is computed then."""
    notes: tuple[str, ...] = ()
    file: Path | None = None
    """The deployment that gets them."""
    setting: TunedSetting | None = field(default=None, repr=False)
    written: str = field(default="", repr=False)
    is_dry: bool = False

    @property
    def options(self) -> dict[str, str | int]:
        """The three options of the session."""
        if self.choice is None:
            return {}
        entries = ";".join(each.entry() for each in self.changing.inputs)
        gears = ";".join(",".join(map(str, self.changing.gear(sizes))) for sizes in self.choice.gears)
        return {SHAPES: entries, GEARS: gears, NODE_TYPE: PLACEHOLDERS}

    def to_json(self) -> dict[str, object]:
        """For --json."""
        return {
            "requests": self.seen.requests,
            "left_out": dict(self.seen.left_out),
            "inputs": [
                {"name": each.name, "node": each.node, "shape": list(each.sizes)} for each in self.changing.inputs
            ],
            "options": self.options,
            "gears": [
                {
                    "shapes": {name: list(shape) for name, shape in shapes.items()},
                    "requests": requests,
                    "padding": padding,
                }
                for shapes, requests, padding in self._rows()
            ],
            "padding": self._padding(self.choice.computed) if self.choice else 0.0,
            "by_number": [{"gears": number, "padding": self._padding(computed)} for number, computed in self.by_number],
            "notes": list(self.notes),
            "deployment": str(self.file) if self.file is not None else None,
        }

    def text(self) -> str:
        """The gears with their cost, and what to paste where no deployment got them."""
        of_shapes = len(self.seen.counts)
        lines = [
            f"{_requests(self.seen.requests)} with "
            + ("one shape" if of_shapes == 1 else f"{of_shapes:,} different shapes")
        ]
        lines += [
            f"{_requests(count)} {why} {'is' if count == 1 else 'are'} left out"
            for why, count in self.seen.left_out.items()
        ]
        if self.choice is None:
            return "\n".join([*lines, "All of them have one shape, so no gears are needed.", *self.notes])
        of_all = self._padding(self.choice.computed)
        lines[0] += f", {len(self.choice.gears)} gears: {of_all:.1%} of what is computed is padding"
        rows = [
            (
                ", ".join(f"{in_a_line(name)} {list(shape)}" for name, shape in shapes.items()),
                f"{requests:,}",
                f"{padding:.1%}",
            )
            for shapes, requests, padding in self._rows()
        ]
        lines += ["", table(rows, header=("GEAR", "REQUESTS", "PADDING"))]
        if self.by_number:
            compared = [(str(number), f"{self._padding(computed):.1%}") for number, computed in self.by_number]
            lines += ["", table(compared, header=("GEARS", "PADDING OF ALL"))]
        if self.file is None:
            lines += ["", "Paste into deployment.yaml:", "", "npu:"]
            lines += [
                f"  {name}: {yaml_string(value) if isinstance(value, str) else value}"
                for name, value in self.options.items()
            ]
        else:
            would = "would be written" if self.is_dry else "are written"
            lines += ["", f"The options {would} into {self.file}."]
        return "\n".join([*lines, "", *self.notes])

    def comment(self) -> list[str]:
        """Why these gears, for the file that they are written into."""
        return self.text().split("\n\n")[0].splitlines()

    def _padding(self, computed: float) -> float:
        return round(1 - self.needed / computed, 6) if computed else 0.0

    def _rows(self) -> Iterable[tuple[dict[str, Sizes], int, float]]:
        """For each gear its shapes, how many requests are padded to it, and the part of their work that is padding."""
        import numpy

        if self.choice is None:
            return
        points = list(self.changing.counts)
        volumes = self.changing.volume.of(numpy.array(points, dtype=numpy.int64).reshape(len(points), -1))
        tops = self.changing.volume.of(numpy.array(self.choice.gears, dtype=numpy.int64))
        for number, sizes in enumerate(self.choice.gears):
            members = [at for at, gear in enumerate(self.choice.gear_of) if gear == number]
            requests = sum(self.changing.counts[points[at]] for at in members)
            asked = sum(self.changing.counts[points[at]] * volumes[at] for at in members)
            padding = 1 - float(asked) / (requests * float(tops[number])) if requests else 0.0
            yield self.changing.shapes(sizes), requests, round(padding, 6)


def suggest_gears(
    files: Sequence[Path],
    reporter: Reporter,
    *,
    model: str = "",
    signature: str = "",
    most: int = USUAL_MOST,
    model_path: Path | None = None,
    deployment: Path | None = None,
    cover: Sequence[str] = (),
    dry_run: bool = False,
) -> SuggestedGears:
    """The gears for the requests in the files, written into the deployment where one is named.

    RequestError for numbers of gears that no graph takes, requests that no gears fit, and a deployment in which they
    can't stand; DocumentError, ModelFileError and FileAccessError for files that can't be read.
    """
    if not FEWEST <= most <= MOST:
        raise RequestError(
            f"--most can't be {most}.",
            cause=f"a graph has from {FEWEST} to {MOST} gears",
            cure=f"use a number from {FEWEST} to {MOST}",
        )
    deployed = read_deployment(deployment) if deployment is not None else None
    index = index_of_model(deployed, model) if deployed is not None else 0
    if deployed is not None:
        _refuse_without_npu(deployed, index)
        model_path = model_path or Path(deployed.models[index].base_path)
    seen = seen_shapes(files, model or (deployed.models[index].name if deployed is not None else ""), signature)
    graph = _graph(model_path, deployed) if model_path is not None else None
    nodes = _nodes(graph, signature, seen) if graph is not None else {name: name for name in seen.names}
    changing = changing_shapes(seen, nodes, [shape_to_cover(text, seen) for text in cover])
    if len(changing.counts) == 1:
        return SuggestedGears(seen, changing, None, 0.0)
    with reporter.progress("choosing gears", unit="numbers of gears") as progress:
        found = _chosen(changing, most, progress.update)
    notes = _notes(changing, deployed, index, knows_nodes=graph is not None)
    needed = _needed(changing)
    by_number = tuple((number, choice.computed) for number, choice in found.items())
    result = SuggestedGears(seen, changing, found[max(found)], needed, by_number, notes, is_dry=dry_run)
    if graph is not None:
        wrong = [each for each in check_gears(result.options, graph, "npu") if each.needs_action]
        if wrong:
            raise RequestError(wrong[0].what, cause="the requests don't fit the model", cure=wrong[0].cure)
    if deployment is None or deployed is None:
        return result
    return _into(deployment, deployed, index, result)


def _chosen(changing: ChangingShapes, most: int, update: Callable[[float], None]) -> dict[int, GearChoice]:
    """The best gears for numbers of them up to `most`, by how many there really are."""
    points, counts = list(changing.counts), list(changing.counts.values())
    found: dict[int, GearChoice] = {}
    for number in sorted({*(number for number in _COMPARED if number < most), most}):
        choice = choose_gears(points, counts, changing.volume, number)
        if len(choice.gears) < FEWEST:  # one gear would do, where all others only have to fit: they get one as well
            choice = choose_gears(points, [count or 1 for count in counts], changing.volume, FEWEST)
        found.setdefault(len(choice.gears), choice)
        update(number)
        if len(choice.gears) < number:
            break
    return found


def _needed(changing: ChangingShapes) -> float:
    import numpy

    points = numpy.array(list(changing.counts), dtype=numpy.int64).reshape(len(changing.counts), -1)
    return float((changing.volume.of(points) * list(changing.counts.values())).sum())


def _refuse_without_npu(deployed: DeploymentFile, index: int) -> None:
    model = deployed.models[index]
    npu = deployed.npu_of(model)
    if npu is None:
        raise RequestError(
            f"The CPU serves {model.name}: gears are options of the NPU.", cure="give the deployment npu: {} first"
        )
    if npu.get("mix_compile_mode") is True:
        raise RequestError(
            f"{model.name} has mix_compile_mode: true, and the adapter ends the server where gears are set as well.",
            cause="gears are of a graph that the NPU computes as a whole",
            cure="remove mix_compile_mode (and in_out_pair) from the deployment, or do without gears",
        )


def _graph(path: Path, deployed: DeploymentFile | None) -> MetaGraph:
    """The graph of a model: of its newest version, or in the directory of one."""
    directory = path
    if not (path / SAVED_MODEL).is_file():
        check_model_directory(path, SAVED_MODEL)
        versions = version_directories(path)
        directory = versions[max(versions)]
    graphs = read_saved_model(directory / SAVED_MODEL)
    tags = set(deployed.server.saved_model_tags) if deployed is not None else {"serve"}
    return next((graph for graph in graphs if graph.tags == tags), graphs[0])


def _nodes(graph: MetaGraph, signature: str, seen: SeenShapes) -> dict[str, str]:
    """The node of each input. RequestError where requests and signature have different inputs."""
    wanted = set(seen.names)
    chosen = [graph.signatures[signature]] if signature in graph.signatures else [*graph.signatures.values()]
    for found in chosen:
        if set(found.inputs) == wanted or (wanted == {""} and len(found.inputs) == 1):
            nodes = {name: spec.node for name, spec in found.inputs.items()}
            return nodes if wanted != {""} else {"": next(iter(nodes.values()))}
    there = "; ".join(
        f"{in_a_line(name)}: {', '.join(map(in_a_line, sorted(of.inputs)))}"
        for name, of in sorted(graph.signatures.items())
    )
    raise RequestError(
        f"No signature of the model has the inputs of the requests: {', '.join(map(in_a_line, seen.names))}.",
        cause=f"the model's signatures and their inputs are {there}",
        cure="name the model that was recorded, or record again",
    )


def _notes(
    changing: ChangingShapes, deployed: DeploymentFile | None, index: int, *, knows_nodes: bool
) -> tuple[str, ...]:
    notes = ["A graph with gears takes these shapes alone: clients have to pad to the next one."]
    if not knows_nodes:
        notes.append(
            "The order of the inputs is that of their names in requests; the adapter goes by the names of the graph's "
            "nodes. With --model-path DIR or --deployment FILE they are read."
        )
    if deployed is not None and deployed.batching_of(deployed.models[index]) is not None:
        firsts = sorted({sizes[0] for gear in changing.counts for sizes in changing.shapes(gear).values() if sizes})
        if len(firsts) > 1:
            notes.append(
                "The server's batching makes batches of other sizes: allowed_batch_sizes has to name the gears'."
            )
    return tuple(notes)


def _into(file: Path, deployed: DeploymentFile, index: int, result: SuggestedGears) -> SuggestedGears:
    at = place_of_options(deployed, index)
    setting = TunedSetting((), tuple(((*at, name), value) for name, value in result.options.items()))
    read_deployment(file, (), setting.flags)  # what does not go together with other options is said before
    written = fsutil.read_text(file)
    found = SuggestedGears(**{**vars(result), "file": file, "setting": setting, "written": written})
    if not result.is_dry:
        write_tuned(file, written, setting, found.comment(), mark=MARK)
    return found


def _requests(number: int) -> str:
    return f"{number:,} request{'' if number == 1 else 's'}"
