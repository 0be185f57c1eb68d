"""Starting the server of a build with the CANN that is installed here."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Sequence
from pathlib import Path

from npu_serving import fsutil
from npu_serving.builds.build_settings import settings_of, settings_to_serve
from npu_serving.builds.current import find_build
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import Cann, cann_of
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.listed_models import check_model_places
from npu_serving.deploy.older_precision import precision_note
from npu_serving.deploy.pinning import pinned_processors
from npu_serving.deploy.preset_values import filled_in, with_its_cann
from npu_serving.deploy.render_deployment import DeploymentFiles, plan_files, write_files
from npu_serving.deploy.rendering import PLATFORM_CONFIG, server_flags_of, server_variables
from npu_serving.models.layout import ModelPlace, model_place
from npu_serving.options.server_flags import known_flags
from npu_serving.serving.deployed_from import DeployedFrom, files_digest
from npu_serving.serving.server_plan import ServerPlan, plan_server
from npu_serving.settings import Settings


def plan_current(
    settings: Settings,
    *,
    build: str = "",
    model_base_path: ModelPlace | None = None,
    model_name: str = "",
    port: int = 8500,
    rest_api_port: int = 8501,
    platform_config_file: Path | None = None,
    extra_flags: Sequence[str] = (),
    cann: Cann | None = None,
    spared: Collection[int] = (),
) -> ServerPlan:
    """How to start a build's server, the current one by default; a model is named like its directory by default.

    `cann` is the one to start it with where it was looked for already; the processes `spared` will have ended by then.
    """
    found = find_build(settings.dist_root, build)
    if cann is None:
        its_own = settings_of(found, settings)
        cann = cann_of(its_own)
    plan = plan_server(
        found.directory,
        model_base_path=model_base_path,
        model_name=model_name or (model_base_path.name if model_base_path is not None else "default"),
        port=port,
        rest_api_port=rest_api_port,
        platform_config_file=platform_config_file,
        cann=cann_environment(cann.installation, os.environ),
        extra_flags=extra_flags,
        spared=spared,
        has_adapter=not found.manifest.without_adapter,
    )
    return dataclasses.replace(plan, build=found.manifest.build_id)


def plan_deployment(
    settings: Settings,
    deployment: DeploymentFile,
    source: DeployedFrom,
    *,
    build: str = "",
    dry_run: bool = False,
    spared: Collection[int] = (),
) -> ServerPlan:
    """How to start a build's server by a deployment that was read from that source.

    Its files are written into a directory of their own below the build root, unless it is a dry run. RequestError and
    ServerError for whatever would keep the server from serving: models that are not there, ports that are in use.
    """
    directory = source.directory(settings.build_root)
    filled = filled_in(deployment, settings_to_serve(settings, build))
    files = plan_files(filled, directory)
    plan = _plan_of_files(settings, filled, files, build, spared)
    note = precision_note(deployment, filled)
    if not dry_run:
        write_files(files)
    for path, text in filled.cache_limits().items():
        if dry_run:
            fsutil.refuse_unwritable(path.parent)
        else:
            fsutil.make_directory(path.parent)
            fsutil.write_file(path, text)
    source = dataclasses.replace(source, digest=files_digest(files.files))
    return dataclasses.replace(plan, deployed=source, warnings=(*plan.warnings, *([note] if note else [])))


def _plan_of_files(
    settings: Settings, deployment: DeploymentFile, files: DeploymentFiles, build: str, spared: Collection[int]
) -> ServerPlan:
    """As they are to be: they may not have been written yet."""
    directory = files.directory
    check_model_places((model.name, model_place(model.base_path, model.name)) for model in deployment.models)
    settings = with_its_cann(settings, deployment)
    processors = pinned_processors(deployment.cpu)
    found = find_build(settings.dist_root, build)
    cann = cann_of(settings_of(found, settings))
    plan = plan_server(
        found.directory,
        model_base_path=None,
        model_name=deployment.models[0].name,
        port=deployment.server.port,
        rest_api_port=deployment.server.rest_api_port,
        platform_config_file=directory / PLATFORM_CONFIG,
        cann=cann_environment(cann.installation, os.environ),
        extra_flags=[
            f"--{name}={value}"
            for name, value in server_flags_of(deployment, directory).items()
            if not known_flags()[name].set_by_plan
        ],
        variables=server_variables(deployment),
        texts={directory / name: file.text for name, file in files.files.items()},
        spared=spared,
        has_adapter=not found.manifest.without_adapter,
    )
    return dataclasses.replace(plan, build=found.manifest.build_id, processors=processors)
