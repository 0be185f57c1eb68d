"""What is open until files are written: the release of CANN and the models, and in which option the adapter reads the
precision.

Compiled operators of one release are of no use to another, and a replaced model would fill the cache of its successor.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

from npu_serving import fsutil
from npu_serving.cann.install import cann_of
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel
from npu_serving.deploy.older_precision import for_its_adapter
from npu_serving.errors import NpuServingError
from npu_serving.models.layout import version_directories
from npu_serving.models.saved_model import SAVED_MODEL
from npu_serving.options.catalogue import PLACEHOLDER
from npu_serving.settings import Settings

UNKNOWN = "unknown-release"


def filled_in(deployment: DeploymentFile, settings: Settings) -> DeploymentFile:
    """The deployment with all that its presets leave open, for the adapter that is installed.

    The same one where nothing is open. What models have of their own never is: it would be the process's.
    """
    deployment = for_its_adapter(deployment, settings)
    own = deployment.npu or {}
    open_ones = {
        name: value
        for name, value in deployment.options_of_presets.items()
        if isinstance(value, str) and PLACEHOLDER.search(value) and name not in own
    }
    if not open_ones:
        return deployment
    wanted = {found[1] for value in open_ones.values() for found in PLACEHOLDER.finditer(value)}
    readers = {"cann": lambda: installed_release(deployment, settings), "models": lambda: _digest(deployment)}
    readers["names"] = lambda: _digest_of_names(deployment)
    known = {name: readers[name]() for name in wanted}
    filled = {name: PLACEHOLDER.sub(lambda found: known[found[1]], value) for name, value in open_ones.items()}
    return dataclasses.replace(deployment, npu={**filled, **own})


def with_its_cann(settings: Settings, deployment: DeploymentFile) -> Settings:
    """The settings with the CANN that the deployment names, where it names one."""
    return dataclasses.replace(settings, cann_root=deployment.cann) if deployment.cann is not None else settings


def installed_release(deployment: DeploymentFile, settings: Settings) -> str:
    """The release of CANN that the deployment's server gets, as a part of a path; UNKNOWN where there is none."""
    try:
        installation = cann_of(with_its_cann(settings, deployment)).installation
    except NpuServingError:
        installation = None
    version = installation.version if installation is not None else ""
    return re.sub(r"[^A-Za-z0-9._-]", "_", version) or UNKNOWN


def _digest(deployment: DeploymentFile) -> str:
    """Of the highest version of each model on the NPU; of the path, where it is not here."""
    found = hashlib.sha256()
    for model in deployment.models:
        if deployment.npu_of(model) is not None:
            found.update(f"{model.name}\0{_bytes_of(model)}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:12]


def _digest_of_names(deployment: DeploymentFile) -> str:
    """Of the names and places of the models on the NPU, whatever their versions."""
    models = [model for model in deployment.models if deployment.npu_of(model) is not None]
    text = "".join(f"{model.name}\0{model.base_path}\n" for model in models)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _bytes_of(model: DeployedModel) -> str:
    base = Path(model.base_path)
    try:
        versions = version_directories(base) if not fsutil.is_remote(model.base_path) and base.is_dir() else {}
        return fsutil.sha256_of(versions[max(versions)] / SAVED_MODEL) if versions else model.base_path
    except (NpuServingError, OSError):
        return model.base_path
