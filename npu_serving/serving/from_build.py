"""Starting the server of a build with the CANN that is installed here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from npu_serving.builds.build_settings import settings_of
from npu_serving.builds.current import find_build
from npu_serving.cann.environment import cann_environment
from npu_serving.cann.install import Cann, cann_of
from npu_serving.models.layout import ModelPlace
from npu_serving.serving.server import ServerPlan, plan_server
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
) -> ServerPlan:
    """How to start a build's server, the current one by default; a model is named like its directory by default.

    `cann` is the one to start it with where it was looked for already.
    """
    found = find_build(settings.dist_root, build)
    if cann is None:
        its_own = settings_of(found, settings)
        cann = cann_of(its_own)
    return plan_server(
        found.directory,
        model_base_path=model_base_path,
        model_name=model_name or (model_base_path.name if model_base_path is not None else "default"),
        port=port,
        rest_api_port=rest_api_port,
        platform_config_file=platform_config_file,
        cann=cann_environment(cann.installation, os.environ),
        extra_flags=extra_flags,
    )
