"""Where the facts come from: the list of the NPU's operators, and what a server's adapter has written."""

from __future__ import annotations

from pathlib import Path

from npu_serving.asking.npu_signs import CHECK_RESULT
from npu_serving.cann.operator_list import OperatorLists, list_from
from npu_serving.checking.explained_operator import installed_operators
from npu_serving.errors import ActionNeeded, MissingToolError
from npu_serving.serving.chosen_servers import chosen_server
from npu_serving.settings import Settings


def chosen_lists(settings: Settings, supported: Path | None) -> OperatorLists:
    """The list that was given, or those that a server started now would read. MissingToolError where there are none."""
    if supported is not None:
        return list_from(supported)
    lists = installed_operators(settings).lists
    if lists.are_empty:
        raise MissingToolError(
            f"There is no list of the operators that the NPU computes: {lists.trouble}.",
            cause="CANN, which has it, is not installed here, or is elsewhere",
            cure="copy npu_supported_ops.json from a machine that has CANN, and give --supported FILE; "
            "./inv cann-info shows where CANN was looked for",
        )
    return lists


def result_of_server(build_root: Path, port: str) -> Path:
    """What the adapter of a server that `serve` knows has written. ActionNeeded where it has written nothing yet."""
    server = chosen_server(build_root, name=port)
    if server.record is None:
        raise ActionNeeded(f"Nothing is known of the directory of {server.name}.", cure="give the file: --from FILE")
    path = server.record.directory / CHECK_RESULT
    if not path.is_file():
        raise ActionNeeded(
            f"{path} is not there.",
            cause="the adapter writes it when its last graph is unloaded, and only for operators that its list lacks",
            cure=f"ask the model once, end the server (./inv stop {server.name}), then run the same command again",
        )
    return path
