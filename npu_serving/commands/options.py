"""What can be set on a server and on the NPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npu_serving.commands.flags import Call, command, refuse_together
from npu_serving.errors import RequestError

if TYPE_CHECKING:
    from npu_serving.cli import Result


@command(
    optional=("name",),
    help={
        "name": "a session option, profiling key, variable or flag of the server, or a word to find it by",
        "all": "explain all of them",
    },
)
def explain(_call: Call, name: str = "", all: bool = False) -> Result:
    """Explain an option of the NPU, a profiling key, a variable or a flag of the server, with an example."""
    from npu_serving.options import explaining

    if all:
        refuse_together("--all", "it explains every entry", name=name)
        return explaining.explain_all()
    if not name:
        raise RequestError("explain needs NAME.", cure="./inv explain NAME, or ./inv explain --all")
    return explaining.explain(name)
