"""What can be set on a server and on the NPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from npu_serving.commands.deployment import OF_A_DEPLOYMENT, read_placed, refuse_without_file
from npu_serving.commands.flags import Call, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    settings=("cann_root", "adapter"),
    optional=("name",),
    help={
        "name": "a session option, profiling key, variable, flag or operator, or a word to find it by",
        "all": "explain all of them",
        "deployment": "say what each line of that deployment.yaml does; with a name, only the lines of that name",
        **OF_A_DEPLOYMENT,
    },
    kinds={"deployment": Path},
)
def explain(
    call: Call,
    name: str = "",
    all: bool = False,
    deployment: Path | None = None,
    set: tuple[str, ...] = (),
    overlay: tuple[str, ...] = (),
) -> Result:
    """Explain an option of the NPU, a profiling key, a variable, a flag of the server, an operator, or a whole file."""
    from npu_serving.builds.build_settings import settings_to_serve
    from npu_serving.options import explaining

    if deployment is not None:
        from npu_serving.checking.explained_deployment import explain_deployment

        refuse_together("--deployment", "it explains the lines of that file", all=all)
        return explain_deployment(
            settings_to_serve(call.settings), deployment, read_placed(deployment, overlay, set), name
        )
    refuse_without_file(overlay, set)
    if all:
        refuse_together("--all", "it explains every entry", name=name)
        return explaining.explain_all()
    if not name:
        raise RequestError("explain needs NAME.", cure="./inv explain NAME, or ./inv explain --all")
    exact = explaining.explain_exactly(name)
    if exact is not None or not name.isascii():
        return exact or explaining.explain(name)
    from npu_serving.checking.explained_operator import explain_name

    return explain_name(settings_to_serve(call.settings), name)
