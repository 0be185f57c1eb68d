"""Which entries a deployment's platform config has: one for each set of options that models have in common.

A server takes any name of its platform config as a model's platform, so models with different options run in one
process, each with sessions of their own; but some options are the process's.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.deploy.platform_config import PlatformEntry
from npu_serving.options.catalogue import session_options

if TYPE_CHECKING:
    from npu_serving.deploy.deployment_file import DeploymentFile

PLATFORM = "tensorflow"
DEVICE = "session_device_id"
"""An option of the session; but up to 6.3 the graph engine starts for the whole process, on one device."""


@functools.cache
def process_options() -> frozenset[str]:
    """The session options on which all models of a process have to agree: the first session decides them for all.

    Those that count for the process and for the session as well are the session's.
    """
    of_process = {option.name for option in session_options().values() if ("process",) in option.reach.values()}
    return frozenset({DEVICE, *of_process})


def platforms_of(
    deployment: DeploymentFile, directory: Path = Path("/")
) -> tuple[dict[str, PlatformEntry], dict[str, str]]:
    """The entries by their names, and the name of each model's entry, both in the order of the models.

    `directory` is where a server finds the files that options name and whose content the deployment has.
    """
    entries: dict[str, PlatformEntry] = {}
    names: dict[str, str] = {}
    known: dict[str, str] = {}
    for model in deployment.models:
        own = (deployment.npu_of(model, directory), deployment.batching_of(model))
        name = known.get(repr(own))
        if name is None:
            name = known[repr(own)] = PLATFORM if not known else f"{PLATFORM}_{len(known) + 1}"
            server, cpu = deployment.server, deployment.cpu
            entries[name] = PlatformEntry(
                npu=own[0],
                batching=own[1],
                intra_op_threads=cpu.intra_op_threads,
                inter_op_threads=cpu.inter_op_threads,
                saved_model_tags=server.saved_model_tags,
                warm_up=server.warm_up,
                warm_up_iterations=server.warm_up_iterations,
                remove_unused_fields=server.remove_unused_fields_from_bundle_metagraph,
            )
        names[model.name] = name
    return entries, names
