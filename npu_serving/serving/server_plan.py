"""What a built tensorflow_model_server is started with, and all that can be checked of it beforehand."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from npu_serving import file_access, fsutil, process
from npu_serving.cann.environment import CannEnvironment
from npu_serving.cann.link_stubs import link_stub_findings
from npu_serving.deploy.listed_models import check_model_places, check_models_config
from npu_serving.deploy.processor_lists import processors_text
from npu_serving.doctor.places import noexec_trouble
from npu_serving.elf.loader import library_path_of
from npu_serving.elf.owners import is_of_driver, owners_table
from npu_serving.errors import RequestError, ServerError
from npu_serving.models.layout import (
    MODEL_LAYOUT,
    ModelPlace,
    RemotePlace,
    check_model_directory,
    check_model_name,
    model_place,
)
from npu_serving.options import server_flags
from npu_serving.options.server_environment import server_environment
from npu_serving.serving import preflight
from npu_serving.serving.asked_models import models_in
from npu_serving.serving.deployed_from import DeployedFrom
from npu_serving.serving.deployment import Deployment, deployment_of
from npu_serving.shown_text import masked_variable
from npu_serving.writers.shell import command_line

PROGRAM = "tensorflow_model_server"
_ON_THE_CPU = "this server has no adapter, so every model runs on the CPU: it is for trying only"


@dataclass(frozen=True)
class ServerPlan:
    """How a server is going to be started: the whole command line and the whole environment."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    model_name: str
    port: int
    rest_api_port: int
    uses_npu: bool = False
    """Whether its platform config asks for the NPU."""
    warnings: tuple[str, ...] = ()
    unlike_callers: Mapping[str, str | None] = field(default_factory=dict)
    """What of the environment a shell like the caller's has to be given; None for what is to be left out."""
    build: str = ""
    """The id of the build that it is of; "" for one that is not in dist/."""
    deployed: DeployedFrom | None = None
    """What it is deployed from; None where flags say what is served."""
    directory: Path | None = None
    """Where it runs; None for where we are."""
    processors: tuple[int, ...] = ()
    """Those that it is pinned to; () for none."""

    @property
    def command(self) -> tuple[str, ...]:
        """The command line, with what pins it."""
        return (*(("taskset", "-c", processors_text(self.processors)) if self.processors else ()), *self.argv)

    def to_json(self) -> dict[str, object]:
        """The plan as `--json` shows it."""
        return {
            "argv": list(self.argv),
            "environment": {name: masked_variable(name, value) for name, value in self.env.items()},
            "model_name": self.model_name,
            "port": self.port,
            "rest_api_port": self.rest_api_port,
            "processors": list(self.processors),
            "uses_npu": self.uses_npu,
            "build": self.build,
            "directory": str(self.directory) if self.directory is not None else None,
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """The command as a person can paste it, with what it needs of the environment."""
        given = [f"{name}={value}" for name, value in self.unlike_callers.items() if value is not None]
        without = [word for name, value in self.unlike_callers.items() if value is None for word in ("-u", name)]
        words = ["env", *without, *given, *self.command] if self.unlike_callers else list(self.command)
        return "\n".join([command_line(words), *(f"warning: {warning}" for warning in self.warnings)])


def plan_server(
    artifact: Path,
    *,
    model_base_path: ModelPlace | None,
    model_name: str,
    port: int = 8500,
    rest_api_port: int = 8501,
    platform_config_file: Path | None = None,
    cann: CannEnvironment | None = None,
    extra_flags: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    texts: Mapping[Path, str] | None = None,
    spared: Collection[int] = (),
    has_adapter: bool = True,
) -> ServerPlan:
    """How to start the server of `artifact`, a directory dist/<build-id> with bin/ and lib/.

    `model_base_path` holds the version directories; it is None when `extra_flags` (--flag=value) name a
    --model_config_file. With `rest_api_port` 0 there is no REST API. LD_LIBRARY_PATH gets the artifact's lib directory
    where the server would not find its libraries otherwise, then those of `cann`, then what the caller has set; of the
    other variables that CANN's set_env.sh sets, the caller's count unless they are stale. `variables` are the server's
    own, and count most. `texts` are those of files that are to be written before the server starts, and the processes
    `spared` will have given up their ports by then. Loading a model is tried once unless a flag says otherwise: by
    default the server keeps its ports shut for five minutes while it tries a bad model again and again. Without
    `has_adapter` the server was linked to be tried on the CPU: what only the NPU needs is not looked at.

    Raises RequestError and ServerError for whatever would keep the server from serving.
    """
    program = _program(artifact)
    check_model_name(model_name)
    flags = {"port": str(port), "rest_api_port": str(rest_api_port), "max_num_load_retries": "0"}
    planned = texts if texts is not None else {}
    further = server_flags.checked_flags(extra_flags, planned)
    if platform_config_file is not None:
        path = server_flags.existing_file(platform_config_file, "platform_config_file", planned)
        flags["platform_config_file"] = str(path)
    flags.update(_model_flags(model_base_path, model_name, further))
    flags.update(further)
    _check_own_list(further, planned)
    preflight.check_ports(port, rest_api_port, spared=spared)
    cann = cann if cann is not None else CannEnvironment()
    callers, stated = server_environment(os.environ), dict(variables or {})
    env = cann.added_to({**process.base_environment(), **callers.variables, **stated})
    env.update({name: value for name, value in stated.items() if name not in cann.lists})
    library_path = [*cann.library_path, *library_path_of({**os.environ, **stated})]
    env, missing = _with_libraries(env, program, artifact, library_path)
    if has_adapter:
        deployment = deployment_of(platform_config_file, env, cann.runtime, planned)
    else:
        deployment = Deployment(uses_npu=False, warnings=(_ON_THE_CPU,))
    env = {**env, **deployment.variables}
    sockets = preflight.socket_warnings(env) if deployment.uses_npu else []
    return ServerPlan(
        argv=(str(program), *(f"--{name}={value}" for name, value in flags.items())),
        env=env,
        unlike_callers=_unlike(env, (*cann.left_out, *callers.left_out)),
        model_name=model_name,
        port=port,
        rest_api_port=rest_api_port,
        uses_npu=deployment.uses_npu,
        warnings=(*_ignored_flags(flags), *deployment.warnings, *callers.warnings, *cann.warnings, *missing, *sockets),
    )


def _program(artifact: Path) -> Path:
    """The server in the artifact, by its real path: `dist/current` may point elsewhere before the server has ended."""
    program = artifact.expanduser().resolve() / "bin" / PROGRAM
    if not program.is_file():
        raise RequestError(
            f"{artifact} is not a finished build: {program} does not exist.",
            cure="build one with ./inv build-serving, or choose one that ./inv list-builds shows",
        )
    where = "the directory of finished builds"
    noexec = noexec_trouble(where, program.parent, "set dist_root in invoke.yaml to another directory")
    if noexec is not None:
        raise noexec
    if not os.access(program, os.X_OK):
        raise RequestError(f"This user may not execute {program}.", cure=f"chmod a+rx {program}")
    return program


def _model_flags(model_base_path: ModelPlace | None, model_name: str, further: Mapping[str, str]) -> dict[str, str]:
    if "model_config_file" in further:
        if model_base_path is not None:
            raise RequestError(
                "A model directory and --model_config_file cannot be combined.",
                cause="the server would ignore the directory",
                cure="remove one of the two",
            )
        return {}
    if model_base_path is None:
        raise RequestError(
            "Nothing says which model is to be served.",
            cause=MODEL_LAYOUT,
            cure="./inv serve --deployment FILE, or ./inv serve --model-base-path PATH --platform-config-file CONFIG",
        )
    base = model_base_path if isinstance(model_base_path, RemotePlace) else model_base_path.expanduser().absolute()
    if "\0" in str(base):
        raise RequestError(f"The model directory {str(base)!r} contains a NUL byte.", cure="use another path")
    if isinstance(base, Path):
        with fsutil.explained(base, doing="read"):
            check_model_directory(base, _model_file(further))
    return {"model_name": model_name, "model_base_path": str(base)}


def _model_file(further: Mapping[str, str]) -> str:
    return "model.tflite" if further.get("use_tflite_model") == "true" else "saved_model.pb"


def _check_own_list(further: Mapping[str, str], planned: Collection[Path]) -> None:
    """A list of models that somebody wrote; those that are to be written are made of a file that is checked."""
    listed = further.get("model_config_file", "")
    if not listed or fsutil.is_remote(listed) or Path(listed) in planned:
        return
    models = models_in(check_models_config(Path(listed), further))
    places = [(model.name, model_place(model.base_path, "base_path")) for model in models]
    check_model_places(places, _model_file(further))


def _ignored_flags(flags: Mapping[str, str]) -> list[str]:
    if "platform_config_file" not in flags:
        return []
    known = server_flags.known_flags()
    return [
        f"--{name} has no effect: with a platform config the server reads this only from there"
        for name in flags
        if known[name].ignored_with_platform_config
    ]


def _with_libraries(
    env: Mapping[str, str], program: Path, artifact: Path, library_path: Sequence[Path]
) -> tuple[dict[str, str], list[str]]:
    """The environment with LD_LIBRARY_PATH, and a warning for each library that is missing or only a stub."""
    own = artifact.expanduser().resolve() / "lib"
    directories = [path.expanduser().absolute() for path in library_path]
    for directory in (own, *directories):
        if ":" in str(directory) or "\0" in str(directory):
            raise RequestError(
                f"The path of the library directory {str(directory)!r} contains a colon or NUL.",
                cause="such a path can't be part of LD_LIBRARY_PATH",
                cure="use another directory",
            )
    whole = _with_library_path(env, directories)
    found = preflight.find_libraries(program, whole)
    if any((own / name).exists() for name in found.missing):
        whole = _with_library_path(env, [own, *directories])
        found = preflight.find_libraries(program, whole)
    stubs = [f"{stub.what} Next: {stub.cure}" for stub in link_stub_findings(found.taken, directories)]
    return whole, [_not_found(name, directories) for name in found.missing] + stubs


def _not_found(name: str, directories: Sequence[Path]) -> str:
    """The warning about a library that the server needs; ServerError where it is there, but not for this user."""
    cure = "source CANN's set_env.sh (since CANN 8.5 cann/set_env.sh), or see ./inv cann-info and ./inv verify-serving"
    if is_of_driver(name):
        cure = owners_table().driver_cure
    for directory in directories:
        closed = file_access.refused_at(directory / name)
        if closed is not None and closed == Path(os.path.realpath(directory / name)):
            raise ServerError(
                f"The server needs {name}, and this user may not read {closed} ({file_access.whose(closed)}).",
                cause="CANN was installed for other users only; the loader passes over what it may not read",
                cure=file_access.cure_for(closed),
            )
        if closed is not None:
            whose = f"{closed} can't be entered by this user ({file_access.whose(closed)})"
            cure = f"{whose}: {file_access.cure_for(closed)}; or {cure}"
    return f"{name} was not found, so the server won't start: {cure}"


def _unlike(env: Mapping[str, str], left_out: Sequence[str]) -> dict[str, str | None]:
    """What of the environment is another than the caller's own, and what is taken out of that."""
    ours = {name: value for name, value in sorted(env.items()) if os.environ.get(name) != value}
    return {**dict.fromkeys(left_out), **ours}


def _with_library_path(env: Mapping[str, str], directories: Sequence[Path]) -> dict[str, str]:
    unique = list(dict.fromkeys(str(directory) for directory in directories))
    return {**env, "LD_LIBRARY_PATH": ":".join(unique)} if unique else dict(env)
