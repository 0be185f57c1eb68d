"""Where the precision is written for an adapter that does not read the newer of the two options for it.

TF Adapter before 6.3.RC2.alpha003 passes over precision_mode_v2 in silence. It is looked up in the adapter's own file;
where none is found, the newer option is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npu_serving.cann.adapter_words import unknown_words
from npu_serving.cann.install import cann_of
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.errors import NpuServingError
from npu_serving.options.catalogue import SessionOption, session_options
from npu_serving.sample.sample_settings import with_sample
from npu_serving.settings import Settings

NEWER = "precision_mode_v2"


def is_older(settings: Settings, cann_root: str | None = None) -> bool:
    """Whether the adapter that is installed reads only the older option; False where none is found."""
    if cann_root is not None:
        settings = dataclasses.replace(settings, cann_root=cann_root)
    try:
        cann = cann_of(with_sample(settings))
        if cann.is_named:
            file: Path | None = cann.named_adapter(digest=False).path
        else:
            file = cann.installation.adapter if cann.installation is not None else None
        return file is not None and unknown_words(file, (NEWER, _newer().older)) == (NEWER,)
    except NpuServingError:
        return False  # said elsewhere


def for_its_adapter(deployment: DeploymentFile, settings: Settings) -> DeploymentFile:
    """The deployment with its precision in the option that the adapter reads; the same one for one that reads both."""
    if not deployment.uses_npu() or not is_older(settings, deployment.cann):
        return deployment
    older, top, own = _newer().older, deployment.npu or {}, None
    if deployment.npu is not None or deployment.presets:
        chosen = top if {NEWER, older} & set(top) else deployment.options_of_presets
        own = {**_without(top), **in_older(chosen)}
    models = []
    for model in deployment.models:
        is_on = model.npu is not False and (model.npu is not None or model.presets)
        if is_on and (own is None or NEWER in (model.npu or {})):
            npu = {**_without(model.npu or {}), **in_older(model.npu or {})}
            models.append(dataclasses.replace(model, npu=npu))
        else:
            models.append(model)
    return dataclasses.replace(deployment, npu=own, models=tuple(models))


def precision_note(before: DeploymentFile, after: DeploymentFile) -> str:
    """What for_its_adapter() did, in a sentence; "" where it did nothing."""
    if before is after:
        return ""
    newer, done = _newer(), {}
    for old, new in zip(before.models, after.models):
        options = after.npu_of(new)
        if options is not None and newer.older in options and newer.older not in (before.npu_of(old) or {}):
            value = (before.npu_of(old) or {}).get(NEWER, newer.written)
            done[str(value)] = f"{NEWER} {value} is written as {newer.older} {options[newer.older]}"
    if not done:
        return ""
    return f"{'; '.join(done.values())}: the adapter that is installed does not read {NEWER}"


def older_default() -> tuple[str, str]:
    """The older option, and its value for what is written where nothing is chosen."""
    newer = _newer()
    return newer.older, newer.counterparts[str(newer.written)]


def in_older(options: Mapping[str, Any]) -> dict[str, Any]:
    """The precision of these options in the older one: as it is there, or what the newer one's value is called there.

    A value that has no name there stays: check-deployment says that it is not read.
    """
    newer = _newer()
    if newer.older in options:
        return {newer.older: options[newer.older]}
    value = options.get(NEWER, newer.written)
    counterpart = newer.counterparts.get(str(value))
    return {newer.older: counterpart} if counterpart is not None else {NEWER: value}


def _without(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != NEWER}


def _newer() -> SessionOption:
    return session_options()[NEWER]
