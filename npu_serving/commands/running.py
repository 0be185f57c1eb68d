"""The running server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command

if TYPE_CHECKING:
    from npu_serving.cli import Result

SERVER = "http://localhost:8501"


@command(
    settings=("adapter",),
    kinds={"platform_config_file": Path},
    json=False,
    help={
        "model_base_path": "the directory with the model's version directories, or its URL (s3://, gs://, hdfs://)",
        "model_name": "its name; the directory's by default",
        "port": "the gRPC port; 8500 by default",
        "rest_api_port": "the REST port, 8501 by default; 0 for none",
        "platform_config_file": "the platform configuration (NpuOptimizer)",
        "flag": "another flag of the server, --name=value (repeatable)",
    },
)
def serve(
    call: Call,
    model_base_path: str = "",
    model_name: str = "",
    port: int = 8500,
    rest_api_port: int = 8501,
    platform_config_file: Path | None = None,
    build: str = "",
    flag: tuple[str, ...] = (),
    dry_run: bool = False,
) -> Result:
    """Run the server in the foreground."""
    from npu_serving.models.layout import model_place
    from npu_serving.serving.from_build import plan_current
    from npu_serving.serving.server import serve_in_foreground
    from npu_serving.supervision import end_like

    plan = plan_current(
        call.settings,
        build=build,
        model_base_path=model_place(model_base_path, "--model-base-path") if model_base_path else None,
        model_name=model_name,
        port=port,
        rest_api_port=rest_api_port,
        platform_config_file=platform_config_file,
        extra_flags=flag,
    )
    if not dry_run:
        end_like(serve_in_foreground(plan, call.console, call.settings.build_root))
    return plan


@command(
    kinds={"version": int},
    help={
        "model": "the model's name",
        "url": f"where its REST API is; {SERVER} by default",
        "version": "the version to ask; the newest by default",
    },
)
def status(call: Call, model: str, url: str = SERVER, version: int | None = None) -> Result:
    """Show whether a model is loaded, whether it has answered, and whether the NPU is used."""
    from npu_serving.serving.server_state import server_state

    return server_state(call.settings.build_root, url, model, version)


@command(
    kinds={"version": int},
    help={
        "model": "the model's name",
        "request": "the request in JSON: a file, - for standard input, or the text itself",
        "url": f"where its REST API is; {SERVER} by default",
        "version": "the version to ask; the newest by default",
        "signature": "the signature to ask; serving_default by default",
    },
)
def predict(
    call: Call, model: str, request: str = "-", url: str = SERVER, version: int | None = None, signature: str = ""
) -> Result:
    """Ask a served model for a prediction."""
    from npu_serving.client import rest_client
    from npu_serving.client.request import read_request
    from npu_serving.serving.server_record import note_answer

    prediction = rest_client.predict(url, model, read_request(request), signature_name=signature, version=version)
    note_answer(call.settings.build_root, url, model)
    return prediction
