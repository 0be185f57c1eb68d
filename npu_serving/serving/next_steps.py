"""What to type about a server that runs: to see more of it, to have it read its models again, to start it again."""

from __future__ import annotations

from pathlib import Path

from npu_serving.serving.all_servers import AskedServer
from npu_serving.serving.read_again import KnownDeployment, polls_its_list
from npu_serving.writers.shell import command_line, task_argument


def again_step(server: AskedServer) -> str:
    """For a server that lacks a model."""
    if server.record is None or not server.record.rest_api_port:
        return "read what serve says of it, or give it a REST port (--rest-api-port)"
    return f"./inv status {task_argument('--model', server.missing)} --url {server.url} says more of it"


def reload_step(server: AskedServer, known: KnownDeployment | None, build_root: Path) -> str:
    """For one whose list of models has changed and nothing else: one that looks at its list itself needs only that."""
    record = server.record
    if record is not None and known is not None and polls_its_list(record.argv):
        output = command_line(["--output", known.source.directory(build_root)])
        return f"./inv render-deployment {known.as_argument} {output}   (it reads its list of models again by itself)"
    return restart_step(server)


def restart_step(server: AskedServer) -> str:
    """For one that has to be started again."""
    record = server.record
    if record is None or record.request is None:  # an earlier version of this project has started it
        return f"kill {record.pid if record is not None else 'PID'}, then ./inv serve as it was started before"
    return f"./inv restart {record.name}"
