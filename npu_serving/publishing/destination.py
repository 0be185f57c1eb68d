"""Where a version is published to: a directory, or that of a deployment's model, and the server that loads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.errors import ActionNeeded, RequestError
from npu_serving.fsutil import explained
from npu_serving.models.layout import MODEL_LAYOUT, RemotePlace, model_place, next_version, version_directories
from npu_serving.models.saved_model import SAVED_MODEL, SAVED_MODEL_TEXT
from npu_serving.writers.shell import shell_word

if TYPE_CHECKING:  # where no server takes part, little of the package is needed
    from npu_serving.deploy.deployment_file import DeploymentFile
    from npu_serving.deploy.deployment_sections import DeployedModel
    from npu_serving.serving.server_record import KnownServer
    from npu_serving.settings import Settings


@dataclass(frozen=True)
class Destination:
    """The directory that has the versions of a model, and who serves them."""

    base: Path
    model: str = ""
    """What clients call it; "" where that is not known."""
    file: Path | None = None
    """The deployment file that lists it."""
    deployment: DeploymentFile | None = None
    server: KnownServer | None = None
    """The one that runs, where one was asked for and does."""

    @property
    def deployed(self) -> DeployedModel | None:
        """How the deployment lists the model."""
        models = self.deployment.models if self.deployment is not None else ()
        return next((each for each in models if each.name == self.model), None)

    def versions(self) -> dict[int, Path]:
        """The directories of the versions that are there."""
        with explained(self.base, doing="read"):
            return version_directories(self.base) if self.base.is_dir() else {}

    def next_version(self) -> int:
        """The number after the highest that was ever there."""
        with explained(self.base, doing="read"):
            return next_version(self.base)


def destination(
    settings: Settings, *, to: Path | None = None, deployment: Path | None = None, server: str = "", model: str = ""
) -> Destination:
    """The place that is meant by these flags. RequestError where that is not clear; ActionNeeded."""
    given = [flag for flag, value in (("--to", to), ("--deployment", deployment), ("--server", server)) if value]
    if len(given) != 1:
        raise RequestError(
            f"{' and '.join(given)} are given." if given else "publish-model has to know where to.",
            cause="a version goes to one place",
            cure="name one: --to DIRECTORY (that has the versions of the model), --deployment FILE or --server PORT",
        )
    if to is not None:
        if model:
            raise RequestError(
                "--model would have no effect with --to.",
                cause="that directory has the versions of one model",
                cure=f"leave out --model, or give the model's own directory: --to {shell_word(to / model)}",
            )
        return Destination(_usable(to.absolute()))
    from npu_serving.serving.chosen_servers import chosen_server, is_of
    from npu_serving.serving.server_record import known_servers

    if deployment is not None:
        file = deployment.absolute()
        running = [each for each in known_servers(settings.build_root) if each.is_running and is_of(each, file)]
        if len(running) > 1:
            names = ", ".join(each.name for each in running)
            raise RequestError(f"Several servers run by {file}: {names}.", cure="name one of them: --server PORT")
        return _of_deployment(file, model, running[0] if running else None)
    return _of_server(chosen_server(settings.build_root, name=server), model)


def newest(place: Destination) -> str:
    """The directory of the highest version that is there. RequestError where there is none."""
    there = place.versions()
    if not there:
        raise RequestError(
            f"{place.base} has no version whose variables could get other values.",
            cause=MODEL_LAYOUT,
            cure="publish one first: ./inv publish-model EXPORTED --to " + shell_word(place.base),
        )
    return str(there[max(there)])


def _of_server(server: KnownServer, model: str) -> Destination:
    record = server.record
    if record is None or not server.is_running:
        raise ActionNeeded(f"Server {server.name} does not run.", cure=f"./inv restart {server.name}")
    if record.deployed is not None:
        return _of_deployment(record.deployed.file, model, server)
    from npu_serving.serving.asked_models import asked_models

    models = {each.name: each.base_path for each in asked_models(record.argv)}
    name = _chosen(model, tuple(models), f"server {server.name}")
    return Destination(_local(models[name], f"server {server.name}"), name, server=server)


def _of_deployment(file: Path, model: str, server: KnownServer | None) -> Destination:
    from npu_serving.deploy.deployment_file import read_deployment

    deployed = server.record.deployed if server is not None and server.record is not None else None
    deployment = (
        read_deployment(file, deployed.overlays, deployed.values) if deployed is not None else read_deployment(file)
    )
    models = {each.name: str(each.base_path) for each in deployment.models}
    name = _chosen(model, tuple(models), str(file))
    return Destination(_local(models[name], str(file)), name, file, deployment, server)


def _chosen(model: str, models: tuple[str, ...], whose: str) -> str:
    if not model and len(models) == 1:
        return models[0]
    if model not in models:
        listed = ", ".join(models[:5]) or "none that is known"
        raise RequestError(
            f"{whose} has no model {model!r}." if model else f"{whose} has several models.",
            cure=f"name one with --model: {listed}",
        )
    return model


def _local(base_path: str, whose: str) -> Path:
    place = model_place(base_path, "base_path")
    if isinstance(place, RemotePlace):
        raise RequestError(
            f"The model of {whose} is at {place}, where nothing is published to from here.",
            cause="a version appears there at once only where a directory can be renamed",
            cure="publish it to a directory of this machine with --to, and copy that there, saved_model.pb last",
        )
    return _usable(place)


def _usable(base: Path) -> Path:
    """The directory, unless a server could find no version in it."""
    version = next((each for each in (base, *list(base.parents)[:2]) if _is_model(each)), None)
    if version is not None:
        raise RequestError(
            f"{version} is a version of a model, and a version can't be published into it.",
            cause=MODEL_LAYOUT,
            cure=f"name {version.parent}"
            if version.name.isdecimal()
            else f"mkdir {version}/1, and move its files there",
        )
    if base.exists() and not base.is_dir():
        raise RequestError(f"{base} is not a directory.", cause=MODEL_LAYOUT, cure="name the directory of the model")
    return base


def _is_model(directory: Path) -> bool:
    return any((directory / name).is_file() for name in (SAVED_MODEL, SAVED_MODEL_TEXT))
