"""The running server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from npu_serving.commands.deployment import OF_A_DEPLOYMENT, read_with, refuse_without_file
from npu_serving.commands.flags import Call, check_timeout, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result
    from npu_serving.serving.launch import Launch

PORT, REST_API_PORT = 8500, 8501
SERVER = f"http://localhost:{REST_API_PORT}"


@command(
    settings=("adapter",),
    kinds={"platform_config_file": Path, "deployment": Path},
    help={
        "model_base_path": "the directory with the model's version directories, or its URL (s3://, gs://, hdfs://)",
        "model_name": "its name; the directory's by default",
        "port": "the gRPC port; 8500 by default",
        "rest_api_port": "the REST port, 8501 by default; 0 for none",
        "platform_config_file": "the platform configuration (NpuOptimizer)",
        "flag": "another flag of the server, --name=value (repeatable)",
        "deployment": "a deployment.yaml, which says all of this",
        "ready_timeout": "end the server where it is not ready after so many seconds; 0, the default, waits on",
        "probe_port": "answer /livez and /readyz at this port; 0, the default, for none",
        "detach": "run it in the background, outliving the terminal; returns when it is ready",
        "no_wait": "with --detach: return at once, not when it is ready",
        **OF_A_DEPLOYMENT,
    },
)
def serve(
    call: Call,
    model_base_path: str = "",
    model_name: str = "",
    port: int = PORT,
    rest_api_port: int = REST_API_PORT,
    platform_config_file: Path | None = None,
    build: str = "",
    flag: tuple[str, ...] = (),
    deployment: Path | None = None,
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
    ready_timeout: int = 0,
    probe_port: int = 0,
    detach: bool = False,
    no_wait: bool = False,
    dry_run: bool = False,
) -> Result:
    """Run the server in the foreground, or with --detach in the background, and say when it is ready."""
    from npu_serving.models.layout import model_place
    from npu_serving.serving.deployed_from import DeployedFrom
    from npu_serving.serving.launch import plan_launch
    from npu_serving.serving.serve_request import ServeRequest
    from npu_serving.settings import user_path

    if no_wait and not detach:
        raise RequestError("--no-wait is for a server in the background.", cure="give --detach as well")
    deployed = None
    if deployment is not None:
        of_flags = {"model_base_path": model_base_path, "model_name": model_name, "flag": flag}
        other_ports = {"port": port != PORT, "rest_api_port": rest_api_port != REST_API_PORT}
        because = "the deployment says what is served and how"
        refuse_together("--deployment", because, platform_config_file=platform_config_file, **of_flags, **other_ports)
        overlays = tuple(user_path(text, "--overlay").absolute() for text in overlay)
        deployed = DeployedFrom(deployment.absolute(), overlays, set)
    else:
        refuse_without_file(overlay, set)
    request = ServeRequest(
        deployed=deployed,
        model_base_path=str(model_place(model_base_path, "--model-base-path")) if model_base_path else "",
        model_name=model_name,
        port=port,
        rest_api_port=rest_api_port,
        platform_config_file=platform_config_file.absolute() if platform_config_file is not None else None,
        flags=flag,
        build=str(user_path(build, "--build").absolute()) if "/" in build else build,
        adapter=call.settings.adapter if "adapter" in call.given else "",
        ready_timeout=ready_timeout,
        probe_port=probe_port,
    )
    launch = plan_launch(call.settings, request, warn=call.console.warn, dry_run=dry_run)
    if dry_run:
        return launch.plan
    if detach:
        from npu_serving.serving.detaching import serve_detached

        return serve_detached(launch, call.console, call.settings.build_root, wait=not no_wait)
    return _serve_here(call, launch)


def _serve_here(call: Call, launch: Launch) -> NoReturn:
    from npu_serving.serving.server import Company, serve_in_foreground
    from npu_serving.supervision import end_like

    root, company = call.settings.build_root, Company(launch.request)
    end_like(serve_in_foreground(launch.plan, call.console, root, launch.terms, company))


@command(
    kinds={"version": int, "deployment": Path},
    optional=("model",),
    chosen_by=("deployment",),
    help={
        "model": "the model's name; without one all that runs here is shown",
        "url": f"with a model or for a probe: where its REST API is; {SERVER} by default",
        "version": "the version to ask; the newest by default",
        "live": "for a probe: one line, 0 or 3, whether the processes are there and their ports answer",
        "ready": "for a probe: one line, 0 or 3, whether all models are available and have answered",
        "deployment": "for a probe: only the servers of this deployment.yaml",
    },
)
def status(
    call: Call,
    model: str = "",
    url: str = "",
    version: int | None = None,
    live: bool = False,
    ready: bool = False,
    deployment: Path | None = None,
) -> Result:
    """Show all that runs here and what is to be done; of one model whether it has loaded, answered, used the NPU."""
    if live or ready:
        flag = "--live" if live else "--ready"
        refuse_together(flag, "a probe is about all versions", version=version)
        refuse_together(flag, "each of the two is a probe of its own", ready=live and ready)
        if deployment is not None:
            refuse_together("--deployment", "it says which servers are meant", url=url)
        if live:
            refuse_together(flag, "it is about the server, not its models", model=model)
        from npu_serving.status.quick_probe import ProbedServers

        probed = ProbedServers(call.settings.build_root, url or (SERVER if model else ""), deployment, model)
        return probed.live() if live else probed.ready()
    if deployment is not None:
        raise RequestError(
            "--deployment is for --live and --ready.",
            cause="without them, all servers are shown and compared with their own files",
            cure="leave it out: ./inv status",
        )
    if model:
        from npu_serving.status.server_state import server_state

        return server_state(call.settings.build_root, url or SERVER, model, version)
    if version is not None or url:
        given = "--version" if version is not None else "--url"
        raise RequestError(
            f"{given} needs a model.",
            cause="without one, all servers of this machine are shown",
            cure="name the model: ./inv status MODEL",
        )
    from npu_serving.status.overview import overview

    return overview(call.settings, Path.cwd())


@command(
    kinds={"version": int, "deployment": Path},
    help={
        "model_dir": "the directory with the model's version directories, such as /models/resnet",
        "request": "a request in JSON (a file, or the text), or a recorded file, for one of each shape (repeatable)",
        "golden": "the recorded golden requests of the model as well (./inv smoke --record)",
        "signature": "the signature to ask; the request's own, or serving_default, by default",
        "version": "the version to write for; the newest by default",
        "tag": "a tag of the graph that the server loads; serve by default (repeatable)",
        "deployment": "a deployment.yaml: with gears, one request for each of them",
        **OF_A_DEPLOYMENT,
        "force": "replace a file that holds other requests",
    },
)
def write_warmup(
    call: Call,
    model_dir: str,
    request: tuple[str, ...] = (),
    golden: bool = False,
    signature: str = "",
    version: int | None = None,
    tag: tuple[str, ...] = (),
    deployment: Path | None = None,
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
    force: bool = False,
    dry_run: bool = False,
) -> Result:
    """Write the requests that a server sends through a model before it offers it: the first caller need not wait."""
    from npu_serving.serving.golden_request import golden_requests
    from npu_serving.trials import warm_up

    file = None
    if deployment is not None:
        refuse_together("--deployment", "the deployment says which tags the server asks for", tag=tag)
        file = read_with(deployment, overlay, set)
    else:
        refuse_without_file(overlay, set)
    plan = warm_up.plan_warm_up(
        model_dir,
        request,
        golden=golden_requests(call.settings, file) if golden else None,
        signature_name=signature,
        version=version,
        tags=tag or ("serve",),
        deployment=file,
        force=force,
    )
    return plan if dry_run else warm_up.write_warm_up(plan)


@command(
    settings=("adapter",),
    kinds={"deployment": Path, "timeout": int},
    help={
        "deployment": "the deployment.yaml whose server is to find everything compiled",
        "timeout": "for how many seconds an answer, or a model to be loaded, is waited for; 3600 by default",
        **OF_A_DEPLOYMENT,
    },
)
def warm_cache(
    call: Call,
    deployment: Path | None = None,
    build: str = "",
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
    timeout: int = 3600,
    dry_run: bool = False,
) -> Result:
    """Have a deployment's models compiled before its server goes live: its compile cache is filled on spare ports."""
    from npu_serving.trials import warm_cache as room

    if deployment is None:
        raise RequestError(
            "warm-cache needs --deployment.",
            cause="the deployment says which models there are, and where what is compiled is kept",
            cure="name it: ./inv warm-cache --deployment deployment.yaml",
        )
    check_timeout(timeout)
    read = read_with(deployment, overlay, set)
    plan = room.plan_warm_cache(call.settings, read, deployment, build=build, timeout_s=float(timeout), dry_run=dry_run)
    return plan if dry_run else room.warm_cache(call.settings, plan, deployment, call.console)
