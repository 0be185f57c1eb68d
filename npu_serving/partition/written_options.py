"""The session options of a division, in the deployment file of the model that they are for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import fsutil
from npu_serving.deploy.deployment_file import DeploymentFile, read_deployment
from npu_serving.documents.yaml_edit import Steps, UneditableError, edited
from npu_serving.errors import ActionNeeded, RequestError
from npu_serving.options.asked_options import GEARS
from npu_serving.options.catalogue import OptionValue
from npu_serving.options.in_out_pair import FLAG, OPTION
from npu_serving.options.rules import check_options
from npu_serving.options.session_options import complete_options
from npu_serving.partition.partition_graph import GraphPartition
from npu_serving.shown_text import in_a_line
from npu_serving.writers.yaml import yaml_block

PLACEMENT, ON_HOST = "variable_placement", "Host"


@dataclass(frozen=True)
class DeployedGraph:
    """The model of a deployment file that a graph is of: its place, and the session options that it has so far."""

    file: Path
    text: str = field(repr=False)
    index: int
    name: str
    options: Mapping[str, OptionValue]

    @property
    def variables_on_host(self) -> bool:
        """Whether its variables stay on the host."""
        return self.options.get(PLACEMENT) == ON_HOST

    def values(self, found: GraphPartition) -> dict[Steps, object]:
        """What is to be set in the file. RequestError, with the cure, for options that these don't go with."""
        if not found.division.parts:
            finding = next(each for each in found.findings if each.needs_action)
            raise ActionNeeded(f"{self.file} is as it was: {finding.what}", cure=finding.cure)
        gears = [name for name in GEARS if name in self.options]
        if found.options and gears:
            raise RequestError(
                f"{self.name} has gears ({', '.join(gears)}), and mixed computing does not go with them.",
                cause="with both, the adapter ends the whole server at the first request",
                cure=f"take {' and '.join(gears)} out of {self.file}, then run the same command again",
            )
        options: dict[str, OptionValue] = dict(found.options)
        if options and OPTION not in options and OPTION in self.options:
            raise RequestError(
                f"{self.name} has an {OPTION}, and needs none: the adapter divides it like this by itself.",
                cause="a line of the file is never taken out here",
                cure=f"take {OPTION} out of {self.file}, then run the same command again",
            )
        if OPTION in options and self.options.get(FLAG) is False:
            options[FLAG] = True
        before = {(each.kind, each.where) for each in check_options(complete_options(self.options), directory=None)}
        after = check_options(complete_options({**self.options, **options}), directory=None)
        new = [each for each in after if each.needs_action and (each.kind, each.where) not in before]
        if options and new:
            raise RequestError(
                f"{self.file} is as it was: {new[0].what}.",
                cause="this option would not go with what the file has",
                cure=new[0].cure,
            )
        return {("models", self.index, "npu", name): value for name, value in options.items()}


def deployed_graph(file: Path, model: Path, name: str = "") -> DeployedGraph:
    """The model of the deployment that `model` is a version of, or that is called `name`.

    RequestError where that is not clear, or the CPU serves it; FileAccessError.
    """
    text = fsutil.read_text(file)
    deployment = read_deployment(file)
    index = _index(deployment, file, model.absolute(), name)
    deployed = deployment.models[index]
    if deployed.npu is False:
        raise RequestError(
            f"{deployed.name} is served by the CPU: {file} has npu: false for it.",
            cause="options of the NPU would have no effect",
            cure=f"take npu: false out of {file}, then run the same command again",
        )
    return DeployedGraph(file, text, index, deployed.name, deployment.npu_of(deployed) or {})


def _index(deployment: DeploymentFile, file: Path, model: Path, name: str) -> int:
    names = [each.name for each in deployment.models]
    listed = in_a_line(", ".join(names))
    if name:
        if name not in names:
            raise RequestError(
                f"{file} has no model {in_a_line(repr(name))}.",
                cause=f"it has {listed}",
                cure=f"use --name {in_a_line(names[0])}",
            )
        return names.index(name)
    places = [Path(each.base_path) for each in deployment.models]
    around = (model, *model.parents)
    found = next((number for number, place in enumerate(places) if place in around), None)
    if found is not None:
        return found
    if len(names) == 1:
        return 0
    raise RequestError(
        f"{model} is in none of the directories of the models in {file}.",
        cause=f"its models are {listed}",
        cure=f"say which one is meant: --name {in_a_line(names[0])}",
    )


def write_options(found: GraphPartition, deployed: DeployedGraph, *, dry_run: bool) -> GraphPartition:
    """Puts the options into the file, or says what would be put there. RequestError where it can't be edited."""
    values = deployed.values(found)
    if not values:
        return dataclasses.replace(found, deployment=deployed.file)
    mark = "\ufeff" if deployed.text.startswith("\ufeff") else ""
    try:
        text = mark + edited(deployed.text[len(mark) :], values)
        if not dry_run:
            if fsutil.read_text(deployed.file) != deployed.text:
                raise UneditableError("it was changed meanwhile")
            fsutil.write_file(deployed.file, text)
    except UneditableError as error:
        plain = {str(path[-1]): value for path, value in values.items()}
        raise RequestError(
            f"{deployed.file} is as it was: {error}.",
            cause="only single values are written into it, and nothing else of it may change",
            cure=f"write this into models.{deployed.index}.npu yourself: {in_a_line(yaml_block(plain))}",
        ) from error
    shown = {str(path[-1]): value for path, value in values.items() if isinstance(value, (bool, str))}
    return dataclasses.replace(found, deployment=deployed.file, written=not dry_run, options=shown)
