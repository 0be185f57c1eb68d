"""What to type about a server that runs: to see more of it, to have it read its models again, to start it again."""

from __future__ import annotations

from npu_serving.status.all_servers import AskedServer
from npu_serving.writers.shell import task_argument


def again_step(server: AskedServer) -> str:
    """For a server that lacks a model."""
    if server.record is None or not server.record.rest_api_port:
        return "read what serve says of it, or give it a REST port (--rest-api-port)"
    return f"./inv status {task_argument('--model', server.missing)} --url {server.url} says more of it"


def reload_step(server: AskedServer) -> str:
    """For one whose list of models has changed, and nothing else."""
    return f"./inv reload {server.record.name}" if server.record is not None else "./inv reload"


def restart_step(server: AskedServer) -> str:
    """For one that has to be started again."""
    record = server.record
    if record is None or record.request is None:  # an earlier version of this project has started it
        return f"kill {record.pid if record is not None else 'PID'}, then ./inv serve as it was started before"
    return f"./inv restart {record.name}"
