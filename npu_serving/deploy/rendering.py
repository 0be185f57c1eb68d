"""The texts of a deployment's files: what a server, a shell, systemd and docker are to read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from npu_serving import fsutil
from npu_serving.deploy.deployment_file import DeploymentFile
from npu_serving.deploy.deployment_sections import DeployedModel, LatestVersions, TlsOptions
from npu_serving.deploy.platform_config import ServedModel, render_models_config, render_platform_config
from npu_serving.deploy.platforms import platforms_of
from npu_serving.deploy.processor_lists import processors_text
from npu_serving.errors import RequestError
from npu_serving.shown_text import in_a_line, masked_variable
from npu_serving.templating import render
from npu_serving.writers.environment_file import environment_line, export_line
from npu_serving.writers.flag_file import flag_line
from npu_serving.writers.shell import command_line

MARK = "Written by ./inv render-deployment; change the deployment file, not this one."
BESIDE = "# Files beside this one that are written with it: "
"""In the platform config: the names of files which have no comments, and so no mark of their own."""
PLATFORM_CONFIG, MODELS_CONFIG = "config.cfg", "models.config"
MONITORING_CONFIG, SSL_CONFIG = "monitoring.config", "ssl.config"
FLAGS, EXPORTS, VARIABLES = "flags", "environment.sh", "server.env"
START, UNIT = "start.sh", "npu-serving.service"
FILES = (
    PLATFORM_CONFIG,
    MODELS_CONFIG,
    MONITORING_CONFIG,
    SSL_CONFIG,
    EXPORTS,
    VARIABLES,
    FLAGS,
    START,
    UNIT,
)
"""All that a deployment may have, in the order in which they are written: nothing names a file before it is there."""
SERVE_OF_THE_PACKAGE = "/opt/npu-serving/bin/serve"
JOB = "npu-serving"

_OPTIONAL_FLAGS = (
    "rest_api_num_threads",
    "rest_api_timeout_in_ms",
    "grpc_socket_path",
    "file_system_poll_wait_seconds",
    "model_config_file_poll_wait_seconds",
    "load_retry_interval_micros",
    "flush_filesystem_caches",
)
"""Flags that are fields of the deployment's server section under the same name, left out where they have no value."""


def files_beside(platform_config: str) -> tuple[str, ...]:
    """The names of the files that were written with a platform config of ours because its options name them."""
    lines = platform_config.split("\n", 2)[:2]
    if lines[0] != f"# {MARK}" or len(lines) < 2 or not lines[1].startswith(BESIDE):
        return ()
    return tuple(
        name for name in lines[1].removeprefix(BESIDE).split(", ") if re.fullmatch(r"[a-z_0-9]+\.[a-z]+", name)
    )


@dataclass(frozen=True)
class RenderedFile:
    """A file's text and mode; one that is confidential may not be shown, nor read by others."""

    text: str
    mode: int = 0o644
    confidential: bool = False


def rendered_files(deployment: DeploymentFile, directory: Path) -> dict[str, RenderedFile]:
    """The files of a deployment by their names, for a server that finds them in `directory`.

    Those that session options name come first, then those of FILES in their order.

    Raises RequestError for a directory that a file can't name, and for a key or certificate that can't be read.
    """
    entries, platforms = platforms_of(deployment, directory)
    auxiliary = {name: RenderedFile(text) for name, text in deployment.auxiliary_files().items()}
    beside = f"{BESIDE}{', '.join(auxiliary)}\n" if auxiliary else ""
    models = [_served(model, platforms[model.name]) for model in deployment.models]
    texts: dict[str, RenderedFile] = {
        **auxiliary,
        PLATFORM_CONFIG: _marked(beside + _presets(deployment) + render_platform_config(entries)),
        MODELS_CONFIG: _marked(render_models_config(models)),
    }
    if deployment.server.monitoring is not None:
        path = deployment.server.monitoring.path
        texts[MONITORING_CONFIG] = _marked(render(f"templates/deployment/{MONITORING_CONFIG}.j2", path=path))
    if deployment.server.tls is not None:
        texts[SSL_CONFIG] = RenderedFile(_marked(_ssl_config(deployment.server.tls)).text, 0o600, confidential=True)
    variables = server_variables(deployment)
    secret = any(masked_variable(name, value) != value for name, value in variables.items())
    mode = 0o600 if secret else 0o644
    exports = "".join(f"{export_line(name, value)}\n" for name, value in variables.items())
    lines = "".join(f"{environment_line(name, value)}\n" for name, value in variables.items())
    texts[EXPORTS] = RenderedFile(_marked(exports).text, mode, confidential=secret)
    texts[VARIABLES] = RenderedFile(_marked(lines).text, mode, confidential=secret)
    flags = "".join(f"{flag_line(name, value)}\n" for name, value in server_flags_of(deployment, directory).items())
    texts[FLAGS] = _marked(flags)
    start = render(
        f"templates/deployment/{START}.j2",
        mark=MARK,
        directory=str(directory),
        serve=SERVE_OF_THE_PACKAGE,
        cann=deployment.cann,
        cpus=processors_text(deployment.cpu.processors),
        numa_node=deployment.cpu.numa_node,
        caches=[str(path.parent) for path in deployment.cache_limits()],
    )
    texts[START] = RenderedFile(start, 0o755)
    unit = render(
        f"templates/deployment/{UNIT}.j2",
        mark=MARK,
        user=deployment.server.user,
        start=str(directory / START),
        cpus=processors_text(deployment.cpu.processors),
        numa_node=deployment.cpu.numa_node,
    )
    texts[UNIT] = RenderedFile(unit)
    return texts


def server_flags_of(deployment: DeploymentFile, directory: Path) -> dict[str, str]:
    """The server's flags by their names, with its files in `directory`."""
    server = deployment.server
    flags: dict[str, object] = {
        "port": server.port,
        "rest_api_port": server.rest_api_port,
        "max_num_load_retries": server.max_num_load_retries,
        "platform_config_file": directory / PLATFORM_CONFIG,
        "model_config_file": directory / MODELS_CONFIG,
    }
    if any(model.labels for model in deployment.models):
        # Or the server would end: when it reads the labels first, no version is available yet.
        flags["allow_version_labels_for_unavailable_models"] = True
    for name in _OPTIONAL_FLAGS:
        value = getattr(server, name)
        if value is not None:
            flags[name] = value
    if server.grpc_channel_arguments:
        pairs = server.grpc_channel_arguments.items()
        flags["grpc_channel_arguments"] = ",".join(f"{name}={value}" for name, value in pairs)
    if server.monitoring is not None:
        flags["monitoring_config_file"] = directory / MONITORING_CONFIG
    if server.tls is not None:
        flags["ssl_config_file"] = directory / SSL_CONFIG
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in flags.items()}


def server_variables(deployment: DeploymentFile) -> dict[str, str]:
    """The environment variables of a server, by their names in order; what the deployment states counts first."""
    defaults: dict[str, str] = {}
    if deployment.uses_npu():
        # At another level the server would not say that the NPU is used; the guide asks for a JOB_ID (chapter 2).
        defaults = {"TF_CPP_MIN_LOG_LEVEL": "0", "JOB_ID": JOB}
    if deployment.cpu.omp_threads is not None:
        defaults["OMP_NUM_THREADS"] = str(deployment.cpu.omp_threads)
    if deployment.cpu.allocator is not None:
        defaults["LD_PRELOAD"] = deployment.cpu.allocator
    stated = {name: str(value) for name, value in deployment.environment.items()}
    return dict(sorted({**defaults, **stated}.items()))


def _served(model: DeployedModel, platform: str) -> ServedModel:
    versions = model.versions.latest if isinstance(model.versions, LatestVersions) else model.versions
    return ServedModel(model.name, model.base_path, platform, versions, model.labels)


def _presets(deployment: DeploymentFile) -> str:
    """Comments that say what the presets became. A line each: a value of the file's own may hold line ends."""
    return "".join(
        f"# Preset {name}: {in_a_line('; '.join(options))}\n" for name, options in deployment.expanded_presets().items()
    )


def _marked(text: str) -> RenderedFile:
    """The text below the line by which a file is known for one of ours."""
    return RenderedFile(f"# {MARK}\n{text}")


def _ssl_config(tls: TlsOptions) -> str:
    texts: Mapping[str, str | None] = {
        "server_key": _pem(tls.server_key),
        "server_cert": _pem(tls.server_cert),
        "custom_ca": _pem(tls.custom_ca) if tls.custom_ca is not None else None,
    }
    return render(f"templates/deployment/{SSL_CONFIG}.j2", client_verify=tls.client_verify, **texts)


def _pem(path: str) -> str:
    text = fsutil.read_text(Path(path))
    if "-----BEGIN " not in text:
        raise RequestError(
            f"{path} is not a PEM file: there is no line -----BEGIN ... in it.",
            cause="the server would load its models and then end: Failed to BuildAndStart gRPC server",
            cure=f"convert it: {command_line(['openssl', 'x509', '-inform', 'der', '-in', path])} prints a "
            "certificate so; for a key, pkey in place of x509",
        )
    return text
