"""Where in a deployment's files a value stands that a finding speaks of: as a key path, and as a line and column."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from npu_serving.deploy.deployed_presets import place_of_option
from npu_serving.deploy.deployment_file import NAMED_LISTS, DeploymentFile
from npu_serving.documents import SourcePlace, Sources, read_with_sources

_SECTIONS = frozenset(field.name for field in dataclasses.fields(DeploymentFile))


@dataclasses.dataclass(frozen=True)
class PlacedDeployment:
    """A deployment as it was read, and where each value of it comes from."""

    deployment: DeploymentFile
    sources: Sources

    @functools.cached_property
    def _models(self) -> dict[str, int]:
        """The models by their directories and names; of two with the same, the first."""
        found: dict[str, int] = {}
        for index, model in enumerate(self.deployment.models):
            for each in (model.base_path.rstrip("/"), model.name):
                found.setdefault(each, index)
        return found

    def place(self, where: str) -> SourcePlace | None:
        """The place of a key path such as models.0.base_path, or of the nearest value around it.

        For a file or directory of a model, or for its name, that of the model's base_path; None for others, such as
        variables of the shell.
        """
        keys = where.split(".")
        if keys[0] not in _SECTIONS:
            around = (where, *(str(path) for path in Path(where).parents)) if where.startswith("/") else (where,)
            index = next((self._models[each] for each in around if each in self._models), None)
            return self.sources.place(("models", index, "base_path")) if index is not None else None
        path: list[str | int] = [int(key) if key.isdecimal() else key for key in keys]
        return self.sources.place(tuple(path))


def read_placed_deployment(path: Path, overlays: Sequence[Path] = (), values: Sequence[str] = ()) -> PlacedDeployment:
    """As read_deployment()."""
    return PlacedDeployment(
        *read_with_sources(path, DeploymentFile, overlays=overlays, values=values, named_lists=NAMED_LISTS)
    )


def option_place(deployment: DeploymentFile, index: int, name: str) -> str:
    """The key path of a session option of the model with that index, or of a variable."""
    return ".".join(map(str, place_of_option(deployment, deployment.models[index], ("models", index), name)))
