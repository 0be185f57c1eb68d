"""What can be set on a server and on the NPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    },
)
def explain(call: Call, name: str = "", all: bool = False) -> Result:
    """Explain an option of the NPU, a profiling key, a variable, a flag of the server, or an operator."""
    from npu_serving.options import explaining

    if all:
        refuse_together("--all", "it explains every entry", name=name)
        return explaining.explain_all()
    if not name:
        raise RequestError("explain needs NAME.", cure="./inv explain NAME, or ./inv explain --all")
    exact = explaining.explain_exactly(name)
    if exact is not None or not name.isascii():
        return exact or explaining.explain(name)
    from npu_serving.serving.explained_operator import explain_name

    return explain_name(call.settings, name)
