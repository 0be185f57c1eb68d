"""The running server."""

from __future__ import annotations

from invoke.tasks import task

from npu_serving.commands.flags import help_for, run


@task(
    help=help_for(
        "adapter",
        "build",
        "dry_run",
        model_base_path="the directory that holds the model's version directories",
        model_name="its name; the directory's by default",
        port="the gRPC port",
        rest_api_port="the REST port; 0 for none",
        platform_config_file="the platform configuration (NpuOptimizer)",
        flag="a further flag of the server, --name=value (repeatable)",
    ),
    iterable=["flag"],
)
def serve(
    _context,
    model_base_path=None,
    model_name="",
    port="8500",
    rest_api_port="8501",
    platform_config_file=None,
    build="",
    adapter=None,
    flag=None,
    dry_run=False,
):
    """Run the server in the foreground."""

    def work(console):
        from npu_serving.cli import whole_number
        from npu_serving.serving.from_build import plan_current
        from npu_serving.serving.server import serve_in_foreground
        from npu_serving.settings import load_settings, user_path

        plan = plan_current(
            load_settings(adapter=adapter),
            build=build,
            model_base_path=user_path(model_base_path, "--model-base-path") if model_base_path else None,
            model_name=model_name,
            port=whole_number(port, "--port"),
            rest_api_port=whole_number(rest_api_port, "--rest-api-port"),
            platform_config_file=user_path(platform_config_file, "--platform-config-file")
            if platform_config_file
            else None,
            extra_flags=flag or (),
        )
        return plan if dry_run else serve_in_foreground(plan, console)

    run(work)


@task(positional=["model"], help=help_for("json", model="the model's name", url="the server", version="one version"))
def status(_context, model, url="http://localhost:8501", version=None, json=False):
    """Tell whether a model is being served."""

    def work(_console):
        from npu_serving.cli import number
        from npu_serving.client.rest_client import model_status

        return model_status(url, model, number(version, "--version"))

    run(work, as_json=json)


@task(
    positional=["model"],
    help=help_for(
        "json",
        model="the model's name",
        request="the request in JSON: a file, - for standard input, or the text itself",
        url="the server",
        version="one version",
        signature="the signature",
    ),
)
def predict(_context, model, request="-", url="http://localhost:8501", version=None, signature="", json=False):
    """Ask a served model for a prediction."""

    def work(_console):
        from npu_serving.cli import number
        from npu_serving.client import rest_client
        from npu_serving.client.request import read_request

        return rest_client.predict(
            url, model, read_request(request), signature_name=signature, version=number(version, "--version")
        )

    run(work, as_json=json)
